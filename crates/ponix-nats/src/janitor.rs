//! Purges what every durable consumer has settled and nobody wants to replay any more, and tells
//! how a stream and its consumers are.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;

use crate::history::{HistoryError, first_since, message_from};
use crate::metrics::StreamMetrics;
use crate::observation::{Observation, age, lag};
use crate::position::Landmark;

/// Part of the stream's bytes from which on history is given up, and down to which, in percent.
const SHORT_PERCENT: u64 = 90;
const ENOUGH_PERCENT: u64 = 80;
/// Time without a move after which a consumer that keeps old messages in the stream is named.
const STUCK_AFTER: Duration = Duration::from_mins(5);

/// Keeps a stream from filling up with settled messages.
///
/// Any number of instances may clean the same stream.
#[derive(Debug)]
pub struct Janitor {
    stream: Stream,
    replay_window: Duration,
    metrics: StreamMetrics,
    /// The newest message of the last look, to notice that its sequence was given to another.
    landmark: Option<Landmark>,
    /// Since when each consumer stands at its floor, by name.
    floors: HashMap<String, (u64, i64)>,
    /// What lies below was purged where it may be.
    purged_to: u64,
    /// Whether the replay window is not kept, for want of space.
    given_up: bool,
}

/// What a look at the stream has found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaning {
    /// Messages purged.
    pub purged: u64,
    /// Whether they were purged for want of space, though the replay window had kept them.
    pub short_of_space: bool,
    /// What an operator should know; nothing is lost by any of it. The same text as long as it
    /// holds.
    pub warnings: Vec<String>,
}

impl Janitor {
    /// Makes a janitor that leaves messages younger than `replay_window` alone, as long as there
    /// is space.
    pub fn new(
        stream: Stream,
        replay_window: Duration,
        metrics: &crate::metrics::NatsMetrics,
    ) -> Self {
        Self {
            metrics: metrics.stream(&stream.cached_info().config.name),
            stream,
            replay_window,
            landmark: None,
            floors: HashMap::new(),
            purged_to: 0,
            given_up: false,
        }
    }

    /// Looks at the stream and purges what may go; `now_ns` is the time, nanoseconds since 1970.
    ///
    /// With `due`, what has left the replay window goes. Without it only what has to go because the
    /// stream is nearly full; never what a consumer has not settled.
    ///
    /// # Errors
    /// The server does not answer; nothing is lost by that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn clean(&mut self, now_ns: i64, due: bool) -> Result<Cleaning, HistoryError> {
        let observation = Observation::of(&self.stream).await?;
        self.report(&observation, now_ns).await?;
        let mut cleaning = Cleaning::default();
        let short = short_of_space(&observation);
        if let Some(reason) = self.unsafe_to_purge(&observation).await? {
            cleaning.warnings.push(reason);
        } else if due || short.is_some() {
            let replayable_from = self.replayable_from(now_ns).await?;
            let wanted = replayable_from.max(short.unwrap_or(0));
            if let Some(first_kept) = first_kept(observation.floor(), wanted) {
                cleaning.purged = self.purge(&observation, first_kept).await?;
                cleaning.short_of_space = cleaning.purged > 0 && first_kept > replayable_from;
            }
        }
        self.landmark = Some(observation.last());
        if cleaning.short_of_space {
            self.metrics.given_up.inc_by(cleaning.purged);
            self.given_up = true;
        }
        self.warn_of_space(&observation, now_ns, &mut cleaning);
        self.warn_of_consumers(&observation, now_ns, &mut cleaning);
        Ok(cleaning)
    }

    async fn replayable_from(&self, now_ns: i64) -> Result<u64, HistoryError> {
        let window_ns = i64::try_from(self.replay_window.as_nanos()).unwrap_or(i64::MAX);
        first_since(&self.stream, now_ns.saturating_sub(window_ns)).await
    }

    /// Says why ack floors cannot be believed: the server has lost the tail of the stream.
    async fn unsafe_to_purge(
        &self,
        observation: &Observation,
    ) -> Result<Option<String>, HistoryError> {
        let name = &self.stream.cached_info().config.name;
        let beyond: Vec<_> = observation.beyond().collect();
        if !beyond.is_empty() {
            return Ok(Some(format!(
                "nothing is purged from stream {name}: its tail was lost, and what gets the sequences again would be skipped by {} (a consumer of Ponix is set back by itself; else: nats consumer rm {name} {})",
                beyond.join(", "),
                beyond[0],
            )));
        }
        let Some(landmark) = self.landmark.filter(|landmark| landmark.sequence > 0) else {
            return Ok(None);
        };
        let now_there = message_from(&self.stream, landmark.sequence).await?;
        Ok(landmark.was_lost(now_there).then(|| {
            format!("nothing is purged from stream {name} now: its tail was lost, and the consumers may have to be set back first")
        }))
    }

    async fn purge(
        &mut self,
        observation: &Observation,
        first_kept: u64,
    ) -> Result<u64, HistoryError> {
        if first_kept <= observation.state.first_sequence.max(self.purged_to) {
            return Ok(0);
        }
        let cannot = |err| HistoryError::new(&self.stream, "it cannot be purged", err);
        // The server purges what is below the sequence and keeps the sequence itself.
        let mut purged = 0;
        if observation.unread_subjects().is_empty() {
            let all = self.stream.purge().sequence(first_kept);
            purged = all.await.map_err(cannot)?.purged;
        } else {
            for filter in observation.filters() {
                let read = self.stream.purge().sequence(first_kept).filter(filter);
                purged += read.await.map_err(cannot)?.purged;
            }
        }
        self.purged_to = first_kept;
        Ok(purged)
    }

    async fn report(&self, observation: &Observation, now_ns: i64) -> Result<(), HistoryError> {
        let mut lags = Vec::with_capacity(observation.durables.len());
        for consumer in &observation.durables {
            lags.push(lag(&self.stream, consumer, now_ns).await?);
        }
        self.metrics.set(observation, &lags, now_ns);
        Ok(())
    }

    /// Says what is not kept for want of space, and what is kept for ever.
    fn warn_of_space(&mut self, observation: &Observation, now_ns: i64, cleaning: &mut Cleaning) {
        let name = &self.stream.cached_info().config.name;
        let history = observation.history(now_ns);
        self.given_up &= history < self.replay_window;
        if self.given_up {
            cleaning.warnings.push(format!(
                "stream {name} is short of space: settled messages are not kept for the whole replay window of {} s",
                self.replay_window.as_secs(),
            ));
        }
        let first = observation.state.first_sequence;
        let nothing_settled = observation.floor().is_none_or(|floor| floor < first);
        if short_of_space(observation).is_some() && nothing_settled {
            cleaning.warnings.push(format!(
                "stream {name} is nearly full of messages that are not settled; when it is full, what is published is refused",
            ));
        }
        let unread = observation.unread_subjects();
        if !observation.durables.is_empty() && !unread.is_empty() {
            cleaning.warnings.push(format!(
                "messages of stream {name} on {} are never purged: no durable consumer reads all of them",
                unread.join(", "),
            ));
        }
    }

    /// Names the consumers that do not move and keep old messages in the stream.
    fn warn_of_consumers(
        &mut self,
        observation: &Observation,
        now_ns: i64,
        cleaning: &mut Cleaning,
    ) {
        let name = &self.stream.cached_info().config.name;
        let is_there = |name: &str| observation.durables.iter().any(|c| c.name == name);
        self.floors.retain(|consumer, _| {
            let kept = is_there(consumer);
            if !kept {
                self.metrics.remove(consumer);
            }
            kept
        });
        let due = observation.history(now_ns) > self.replay_window
            || short_of_space(observation).is_some();
        let last = observation.state.last_sequence;
        for consumer in &observation.durables {
            let floor = consumer.ack_floor.stream_sequence;
            let stands = self
                .floors
                .entry(consumer.name.clone())
                .or_insert((floor, now_ns));
            if stands.0 != floor {
                *stands = (floor, now_ns);
            }
            let stood = age(stands.1, now_ns);
            let holds = due && floor < last && observation.floor() == Some(floor);
            let stuck = holds && stood >= STUCK_AFTER;
            self.metrics
                .set_stuck(&consumer.name, if stuck { stood } else { Duration::ZERO });
            if stuck {
                cleaning.warnings.push(format!(
                    "consumer {} of stream {name} does not move: it stands at sequence {floor}, and nothing behind that can be purged; if nobody needs it: nats consumer rm {name} {}",
                    consumer.name, consumer.name,
                ));
            }
        }
    }
}

/// Returns the first sequence to keep for the stream to have space again, when it is short of it.
fn short_of_space(observation: &Observation) -> Option<u64> {
    let state = &observation.state;
    let bytes_max = observation.bytes_max?;
    if state.bytes < bytes_max / 100 * SHORT_PERCENT {
        return None;
    }
    // Messages are taken to be of one size; the next look takes what is still too much.
    let surplus = state.bytes - bytes_max / 100 * ENOUGH_PERCENT;
    let sequences = state.last_sequence + 1 - state.first_sequence;
    let part = u128::from(sequences) * u128::from(surplus) / u128::from(state.bytes.max(1));
    let too_many = u64::try_from(part).unwrap_or(u64::MAX).saturating_add(1);
    Some(state.first_sequence.saturating_add(too_many))
}

/// Returns the first sequence to keep: behind the lowest ack floor, and not before `wanted`.
/// Without a durable consumer nothing is known to be settled.
pub(crate) fn first_kept(floor: Option<u64>, wanted: u64) -> Option<u64> {
    Some((floor? + 1).min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_consumer_has_not_settled_is_kept() {
        assert_eq!(first_kept(Some(7), 90), Some(8));
        assert_eq!(first_kept(Some(0), 90), Some(1));
    }

    #[test]
    fn what_may_be_replayed_is_kept() {
        assert_eq!(first_kept(Some(100), 40), Some(40));
    }

    #[test]
    fn nothing_is_settled_without_a_consumer() {
        assert_eq!(first_kept(None, 40), None);
    }
}
