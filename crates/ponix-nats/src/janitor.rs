//! Purges what every durable consumer has settled and nobody wants to replay any more.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;

use crate::failpoint;
use crate::history::{HistoryError, ack_floors, first_since, held_range};

/// Keeps a stream from filling up with settled messages.
///
/// Any number of instances may clean the same stream.
#[derive(Debug, Clone)]
pub struct Janitor {
    stream: Stream,
    replay_window: Duration,
}

impl Janitor {
    /// Makes a janitor that leaves messages younger than `replay_window` alone.
    pub fn new(stream: Stream, replay_window: Duration) -> Self {
        Self {
            stream,
            replay_window,
        }
    }

    /// Purges once; `now_ns` is the time, nanoseconds since 1970. Returns the messages purged.
    ///
    /// # Errors
    /// The server does not answer; nothing is lost by that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn clean(&self, now_ns: i64) -> Result<u64, HistoryError> {
        let window_ns = i64::try_from(self.replay_window.as_nanos()).unwrap_or(i64::MAX);
        let floors = ack_floors(&self.stream).await?;
        let replayable_from = first_since(&self.stream, now_ns.saturating_sub(window_ns)).await?;
        let first_held = held_range(&self.stream).await?.first;
        let Some(first_kept) = first_kept(&floors, replayable_from) else {
            return Ok(0);
        };
        if first_kept <= first_held {
            return Ok(0);
        }
        // The server purges what is below the sequence and keeps the sequence itself.
        let purged = self
            .stream
            .purge()
            .sequence(first_kept)
            .await
            .map_err(|err| HistoryError::new(&self.stream, "it cannot be purged", err))?;
        Ok(purged.purged)
    }
}

/// Returns the first sequence to keep: behind the lowest ack floor, and inside the replay window.
/// Without a durable consumer nothing is known to be settled.
fn first_kept(ack_floors: &[u64], replayable_from: u64) -> Option<u64> {
    if failpoint::is_planted("bug_janitor_above_ack_floor") {
        return Some(replayable_from);
    }
    let lowest_floor = ack_floors.iter().min()?;
    Some((lowest_floor + 1).min(replayable_from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_consumer_has_not_settled_is_kept() {
        assert_eq!(first_kept(&[100, 7], 90), Some(8));
        assert_eq!(first_kept(&[100, 0], 90), Some(1));
    }

    #[test]
    fn what_may_be_replayed_is_kept() {
        assert_eq!(first_kept(&[100], 40), Some(40));
    }

    #[test]
    fn nothing_is_settled_without_a_consumer() {
        assert_eq!(first_kept(&[], 40), None);
    }
}
