//! What the server says about a stream and its durable consumers, at one time.

use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::stream::{State, Stream};
use futures::TryStreamExt as _;
use ponix_wire::covers;

use crate::history::{HistoryError, message_from};
use crate::position::{self, Landmark};

/// A stream and its durable consumers.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) state: State,
    /// Bytes the stream may hold; `None` without a limit.
    pub(crate) bytes_max: Option<u64>,
    subjects: Vec<String>,
    pub(crate) durables: Vec<Info>,
}

impl Observation {
    /// Asks the server.
    pub(crate) async fn of(stream: &Stream) -> Result<Self, HistoryError> {
        // The consumers first: what they have settled by now, the stream holds or has held then.
        let durables = stream
            .consumers()
            .try_filter(|info| futures::future::ready(info.config.durable_name.is_some()))
            .try_collect()
            .await
            .map_err(|err| HistoryError::new(stream, "the consumers cannot be listed", err))?;
        let info = stream
            .get_info()
            .await
            .map_err(|err| HistoryError::new(stream, "no stream info", err))?;
        Ok(Self {
            durables,
            bytes_max: u64::try_from(info.config.max_bytes)
                .ok()
                .filter(|bytes| *bytes > 0),
            subjects: info.config.subjects,
            state: info.state,
        })
    }

    /// Returns the lowest ack floor; `None` without a durable consumer: nothing is known to be
    /// settled.
    pub(crate) fn floor(&self) -> Option<u64> {
        let floors = self.durables.iter().map(|c| c.ack_floor.stream_sequence);
        floors.min()
    }

    /// Returns the names of the consumers whose position lies beyond the end of the stream.
    pub(crate) fn beyond(&self) -> impl Iterator<Item = &str> {
        let last = self.state.last_sequence;
        let beyond = move |c: &&Info| position::is_beyond(position::position(c), last);
        self.durables.iter().filter(beyond).map(|c| c.name.as_str())
    }

    /// Returns the subjects of the stream that no durable consumer reads whole.
    pub(crate) fn unread_subjects(&self) -> Vec<&str> {
        let is_read = |subject: &str| self.durables.iter().any(|c| reads(c, subject));
        let subjects = self.subjects.iter().map(String::as_str);
        subjects.filter(|subject| !is_read(subject)).collect()
    }

    /// Returns what the durable consumers read, each filter once.
    pub(crate) fn filters(&self) -> Vec<&str> {
        let mut filters: Vec<_> = self.durables.iter().flat_map(filters).collect();
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// Returns the newest message.
    pub(crate) fn last(&self) -> Landmark {
        Landmark {
            sequence: self.state.last_sequence,
            published_at_ns: nanoseconds(self.state.last_timestamp.unix_timestamp_nanos()),
        }
    }

    /// Returns the age of the oldest message that is held.
    pub(crate) fn history(&self, now_ns: i64) -> Duration {
        if self.state.messages == 0 {
            return Duration::ZERO;
        }
        let oldest = nanoseconds(self.state.first_timestamp.unix_timestamp_nanos());
        age(oldest, now_ns)
    }
}

/// Returns the age of the oldest message that the consumer has not settled.
pub(crate) async fn lag(
    stream: &Stream,
    consumer: &Info,
    now_ns: i64,
) -> Result<Duration, HistoryError> {
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(Duration::ZERO);
    }
    let oldest = message_from(stream, consumer.ack_floor.stream_sequence + 1).await?;
    Ok(oldest.map_or(Duration::ZERO, |(_, time_ns)| age(time_ns, now_ns)))
}

pub(crate) fn age(time_ns: i64, now_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now_ns.saturating_sub(time_ns)).unwrap_or(0))
}

pub(crate) fn nanoseconds(time_ns: i128) -> i64 {
    i64::try_from(time_ns).unwrap_or(i64::MAX)
}

fn filters(consumer: &Info) -> impl Iterator<Item = &str> {
    let config = &consumer.config;
    let one = Some(config.filter_subject.as_str()).filter(|filter| !filter.is_empty());
    one.into_iter()
        .chain(config.filter_subjects.iter().map(String::as_str))
}

fn reads(consumer: &Info, subject: &str) -> bool {
    let mut filters = filters(consumer).peekable();
    filters.peek().is_none() || filters.any(|filter| covers(filter, subject))
}
