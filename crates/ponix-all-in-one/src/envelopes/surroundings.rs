//! Whether rows or the store are to blame, judged by more than one batch.
//!
//! Rows that ClickHouse refuses may come back without the good ones they came with: the dead
//! letters had no room, or the worker ended before they were kept. A batch of nothing but bad rows
//! looks like a store at fault. So the messages around them in the stream are looked at too.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ponix_clickhouse::{Client, EnvelopeRow, RejectLimit, RequestError};

/// Messages before and behind a batch that are looked at.
const AROUND: u64 = 500;
/// How far away in time they may have been published.
const AROUND_NS: i64 = 3_600 * 1_000_000_000;
/// Condemned rows that are remembered: all that may be condemned in a few surroundings.
const CONDEMNED_MAX: usize = 1_000;

/// Looks at what lies around a batch in its stream.
#[derive(Debug)]
pub(crate) struct Surroundings {
    client: Client,
    /// Sequences of rows that were condemned lately.
    condemned: Mutex<VecDeque<u64>>,
}

/// The rows of a batch, and where they lie in their stream and in time.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    rows: Vec<u64>,
    sequences: (u64, u64),
    published_at_ns: (i64, i64),
}

impl Stretch {
    /// The stretch of some rows, with what is around them; `None` when there are no rows.
    pub(crate) fn around(rows: &[EnvelopeRow]) -> Option<Self> {
        let sequences = rows.iter().map(|row| row.stream_sequence);
        let own = sequences.clone().collect();
        let times = rows.iter().map(|row| row.published_at_ns);
        Some(Self {
            rows: own,
            sequences: (
                sequences.clone().min()?.saturating_sub(AROUND),
                sequences.max()?.saturating_add(AROUND),
            ),
            published_at_ns: (
                times.clone().min()?.saturating_sub(AROUND_NS),
                times.max()?.saturating_add(AROUND_NS),
            ),
        })
    }

    /// Returns the sequence of a row, by its position in the batch.
    pub(crate) fn sequence(&self, row: usize) -> u64 {
        self.rows[row]
    }
}

impl Surroundings {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            condemned: Mutex::default(),
        }
    }

    /// Returns the limit that holds for the stretch as a whole.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub(crate) async fn limit(
        &self,
        stretch: &Stretch,
        limit: RejectLimit,
    ) -> Result<RejectLimit, RequestError> {
        let (first, last) = stretch.sequences;
        let (from, to) = stretch.published_at_ns;
        let stored = self.client.stored_between(first..=last, from..=to).await?;
        // Rows of this batch may be back from an earlier attempt: they are judged now.
        let elsewhere = |sequence: &&u64| {
            (first..=last).contains(*sequence) && !stretch.rows.contains(sequence)
        };
        let condemned = self.condemned().iter().filter(elsewhere).count();
        let rows = stored as usize + stretch.rows.len() + condemned;
        Ok(widened(limit, rows, condemned))
    }

    /// Remembers rows that were condemned.
    pub(crate) fn note(&self, sequences: impl IntoIterator<Item = u64>) {
        let mut condemned = self.condemned();
        for sequence in sequences {
            // They come again for as long as the dead letters have no room.
            if !condemned.contains(&sequence) {
                condemned.push_back(sequence);
            }
        }
        let excess = condemned.len().saturating_sub(CONDEMNED_MAX);
        condemned.drain(..excess);
    }

    fn condemned(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.condemned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The share of all these rows, less those of them that were condemned before.
fn widened(limit: RejectLimit, rows: usize, condemned: usize) -> RejectLimit {
    let share = (limit.share_max * rows as f64) as usize;
    RejectLimit {
        share_max: 0.0,
        rows_min: limit.rows_min.max(share.saturating_sub(condemned) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RejectLimit = RejectLimit {
        share_max: 0.05,
        rows_min: 3,
    };

    #[test]
    fn the_share_is_that_of_all_that_is_around() {
        assert_eq!(
            widened(LIMIT, 100, 0).rows_min,
            6,
            "5 of 100 may be refused"
        );
        assert_eq!(
            widened(LIMIT, 10, 0),
            RejectLimit {
                share_max: 0.0,
                ..LIMIT
            }
        );
    }

    #[test]
    fn what_was_condemned_before_counts() {
        assert_eq!(widened(LIMIT, 1_000, 40).rows_min, 11);
        assert_eq!(widened(LIMIT, 1_000, 90).rows_min, 3);
    }
}
