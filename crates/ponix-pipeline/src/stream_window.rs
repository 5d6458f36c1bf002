//! What lies around a batch in its stream, for a judgement over more than one batch.
//!
//! Rows that a store refuses may come back without the good ones they came with: the dead letters
//! had no room, or the worker ended before they were kept. A batch of nothing but bad rows looks
//! like a store at fault. So the messages around them are looked at too.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ponix_nats::Delivery;
use ponix_sink::{Around, Sink};

/// Messages before and behind a batch that are looked at.
const AROUND: u64 = 500;
/// How far away in time they may have been published.
const AROUND_NS: i64 = 3_600 * 1_000_000_000;
/// Rejected rows that are remembered: all that may be rejected in a few windows.
const REJECTED_MAX: usize = 1_000;

/// Remembers what was rejected lately, by sequence.
#[derive(Debug, Default)]
pub(crate) struct StreamWindow {
    rejected: Mutex<VecDeque<u64>>,
}

/// Where the messages of a batch lie in their stream and in time.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    own: Vec<u64>,
    sequences: (u64, u64),
    published_at_ns: (i64, i64),
}

impl Stretch {
    /// Returns the stretch of some messages, with what is around them; `None` when there are none.
    pub(crate) fn around<'a>(deliveries: impl Iterator<Item = &'a Delivery>) -> Option<Self> {
        let places = deliveries.map(|one| (one.stream_sequence(), one.published_at_ns()));
        Self::of(places.collect())
    }

    fn of(places: Vec<(u64, i64)>) -> Option<Self> {
        let (own, times): (Vec<u64>, Vec<i64>) = places.into_iter().unzip();
        Some(Self {
            sequences: (
                own.iter().min()?.saturating_sub(AROUND),
                own.iter().max()?.saturating_add(AROUND),
            ),
            published_at_ns: (
                times.iter().min()?.saturating_sub(AROUND_NS),
                times.iter().max()?.saturating_add(AROUND_NS),
            ),
            own,
        })
    }
}

impl StreamWindow {
    /// Returns what is known of the messages around, `None` when the store cannot tell: nothing is
    /// rejected on a guess.
    pub(crate) async fn around<S: Sink>(&self, sink: &S, stretch: &Stretch) -> Option<Around> {
        let (first, last) = stretch.sequences;
        let (from, to) = stretch.published_at_ns;
        let stored = sink.stored_between(first..=last, from..=to).await.ok()??;
        let rejected = self.rejected_in(stretch);
        Some(Around {
            rows: stored as usize + rejected,
            rejected,
        })
    }

    /// Remembers rows that were rejected.
    pub(crate) fn note_rejected(&self, sequences: impl IntoIterator<Item = u64>) {
        let mut rejected = self.rejected();
        for sequence in sequences {
            // They come again for as long as the dead letters have no room.
            if !rejected.contains(&sequence) {
                rejected.push_back(sequence);
            }
        }
        let excess = rejected.len().saturating_sub(REJECTED_MAX);
        rejected.drain(..excess);
    }

    /// Counts what was rejected in the stretch. Messages of the batch itself may be back from an
    /// earlier attempt: they are judged now.
    fn rejected_in(&self, stretch: &Stretch) -> usize {
        let (first, last) = stretch.sequences;
        let elsewhere =
            |sequence: &&u64| (first..=last).contains(*sequence) && !stretch.own.contains(sequence);
        self.rejected().iter().filter(elsewhere).count()
    }

    fn rejected(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_messages_count_where_they_lie() {
        let window = StreamWindow::default();
        window.note_rejected([10, 20, 20, 5_000]);
        let stretch = Stretch::of(vec![(20, 0), (400, 0)]).expect("two messages");
        assert_eq!(stretch.sequences, (0, 900));
        assert_eq!(
            window.rejected_in(&stretch),
            1,
            "20 is judged now, 5,000 is far away"
        );
    }

    #[test]
    fn only_so_many_are_remembered() {
        let window = StreamWindow::default();
        window.note_rejected(0..3_000);
        assert_eq!(window.rejected().len(), REJECTED_MAX);
        assert_eq!(window.rejected().front(), Some(&2_000));
    }

    #[test]
    fn no_messages_have_no_stretch() {
        assert!(Stretch::of(Vec::new()).is_none());
    }
}
