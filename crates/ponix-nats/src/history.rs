//! Looks into a stream without consuming it: by time, by range, by what is acked.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::StreamExt as _;

use crate::delivery::Delivery;

/// Time without a message after which a reader asks whether there is one left.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Why a stream cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[error("stream {stream} cannot be read: {what}")]
pub struct HistoryError {
    stream: String,
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl HistoryError {
    pub(crate) fn new(
        stream: &Stream,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::named(&stream.cached_info().config.name, what, source)
    }

    pub(crate) fn named(
        stream: &str,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            stream: stream.to_owned(),
            what,
            source: source.into(),
        }
    }
}

/// A range of sequences, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceRange {
    /// The first sequence.
    pub first: u64,
    /// The last sequence; below `first` when the range is empty.
    pub last: u64,
}

impl SequenceRange {
    /// Tells whether the range holds no sequence.
    pub const fn is_empty(self) -> bool {
        self.first > self.last
    }
}

/// Returns the sequences the stream holds.
///
/// # Errors
/// The server does not answer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn held_range(stream: &Stream) -> Result<SequenceRange, HistoryError> {
    let info = stream
        .get_info()
        .await
        .map_err(|err| HistoryError::new(stream, "no stream info", err))?;
    Ok(SequenceRange {
        first: info.state.first_sequence.max(1),
        last: info.state.last_sequence,
    })
}

/// Returns the first sequence published at `published_at_ns` or later; one behind the last when
/// all are older. Publish times grow with the sequence.
///
/// # Errors
/// The server does not answer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn first_since(stream: &Stream, published_at_ns: i64) -> Result<u64, HistoryError> {
    let range = held_range(stream).await?;
    // Everything below `low` is older, everything from `high` on is not.
    let (mut low, mut high) = (range.first, range.last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match message_from(stream, middle).await? {
            Some((sequence, time_ns)) if time_ns < published_at_ns => low = sequence + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Returns sequence and publish time of the first message at `sequence` or behind it.
pub async fn message_from(
    stream: &Stream,
    sequence: u64,
) -> Result<Option<(u64, i64)>, HistoryError> {
    match stream
        .raw_message_builder()
        .sequence(sequence)
        .next_by_subject(">")
        .send()
        .await
    {
        Ok(message) => {
            let time_ns = i64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(i64::MAX);
            Ok(Some((message.sequence, time_ns)))
        }
        Err(err) => match err.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
            {
                Ok(None)
            }
            _ => Err(HistoryError::new(
                stream,
                "a message cannot be looked up",
                err,
            )),
        },
    }
}

/// Reads the messages of a range in order, without acks.
///
/// Messages may be deleted meanwhile: by the janitor, by an operator, by a limit. What is gone
/// before it could be read is left out, and [`unread`](Self::unread) counts it.
pub struct RangeReader<'a> {
    stream: &'a Stream,
    range: SequenceRange,
    messages: Option<Ordered>,
    /// The sequence to come next at the earliest.
    next: u64,
    read: u64,
    /// Whether what was to come may have been deleted.
    in_doubt: bool,
}

impl fmt::Debug for RangeReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeReader")
            .field("range", &self.range)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<'a> RangeReader<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// The server does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe: the consumer behind it goes away by itself.
    pub async fn open(stream: &'a Stream, range: SequenceRange) -> Result<Self, HistoryError> {
        let mut reader = Self {
            stream,
            range,
            messages: None,
            next: range.first,
            read: 0,
            in_doubt: false,
        };
        if !holds_any(stream, range).await? {
            return Ok(reader);
        }
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: range.first,
            },
            ..OrderedConfig::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|err| HistoryError::new(stream, "no consumer for reading", err))?;
        let messages = consumer
            .messages()
            .await
            .map_err(|err| HistoryError::new(stream, "no messages", err))?;
        reader.messages = Some(messages);
        Ok(reader)
    }

    /// Returns the next message, `None` behind the last that the stream holds.
    ///
    /// # Errors
    /// Reading broke off and could not be taken up again, or the server does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    pub async fn next(&mut self) -> Result<Option<Delivery>, HistoryError> {
        let rest = self.rest();
        if self.in_doubt && !holds_any(self.stream, rest).await? {
            self.messages = None;
        }
        while let Some(messages) = &mut self.messages {
            let Ok(message) = tokio::time::timeout(SILENCE_MAX, messages.next()).await else {
                let rest = self.rest();
                if !holds_any(self.stream, rest).await? {
                    self.messages = None;
                }
                continue;
            };
            let Some(message) = message else {
                self.messages = None;
                break;
            };
            let message =
                message.map_err(|err| HistoryError::new(self.stream, "reading broke off", err))?;
            let Some((delivery, pending)) = Delivery::from_message(message.message) else {
                continue;
            };
            let sequence = delivery.stream_sequence();
            if sequence < self.next {
                continue; // a consumer made anew before its first message begins at the oldest
            }
            self.next = sequence + 1;
            self.in_doubt = pending == 0;
            if self.next > self.range.last {
                self.messages = None;
            }
            if sequence > self.range.last {
                break;
            }
            self.read += 1;
            return Ok(Some(delivery));
        }
        Ok(None)
    }

    const fn rest(&self) -> SequenceRange {
        SequenceRange {
            first: self.next,
            last: self.range.last,
        }
    }

    /// Returns the sequences of the range without a message: deleted before, or while reading.
    /// The whole of it only once [`next`](Self::next) has returned `None`.
    pub const fn unread(&self) -> u64 {
        let next = if self.messages.is_some() {
            self.next
        } else {
            self.range.last.saturating_add(1)
        };
        next.saturating_sub(self.range.first) - self.read
    }
}

/// Asks the stream, not the consumer, whose count of pending messages is an estimate.
async fn holds_any(stream: &Stream, range: SequenceRange) -> Result<bool, HistoryError> {
    if range.is_empty() {
        return Ok(false);
    }
    let held = message_from(stream, range.first).await?;
    Ok(held.is_some_and(|(sequence, _)| sequence <= range.last))
}
