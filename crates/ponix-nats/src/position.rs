//! Whether a consumer's position in its stream can be believed, and setting it back where not.
//!
//! A server that has lost the tail of a stream gives the sequences to other messages. Before
//! nats-server 2.14 a consumer on a single copy stays where it was: it takes the new messages for
//! those it has had, never delivers them, and says that nothing is pending.

use async_nats::jetstream::consumer::{DeliverPolicy, FromConsumer as _, Info, pull};
use async_nats::jetstream::stream::Stream;

use crate::history::{HistoryError, first_since, held_range, message_from};

/// In a consumer's metadata: the sequence it was set back to.
pub(crate) const SET_BACK_TO: &str = "ponix-set-back-to";
/// So often a position must be seen beyond the end before it is set back: a replica that has just
/// become the leader may not know the newest messages yet.
pub(crate) const LOOKS: u32 = 3;

/// A message that was delivered, to be recognised later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Landmark {
    pub(crate) sequence: u64,
    pub(crate) published_at_ns: i64,
}

impl Landmark {
    /// Tells whether the first message that is there now at its sequence, or behind it, has its
    /// sequence and is another one: it was lost.
    pub(crate) fn was_lost(self, now_there: Option<(u64, i64)>) -> bool {
        now_there.is_some_and(|(sequence, time_ns)| {
            sequence == self.sequence && time_ns != self.published_at_ns
        })
    }
}

/// Tells whether a position lies beyond the last message: what comes next would be skipped.
pub(crate) fn is_beyond(position: u64, last: u64) -> bool {
    position > last
}

/// Returns where a consumer that would skip messages has to begin again.
pub(crate) fn begin_again_at(first_skipped: u64, ack_floor: u64) -> u64 {
    first_skipped.min(ack_floor + 1)
}

/// Returns the highest sequence that the consumer takes for delivered.
pub(crate) fn position(consumer: &Info) -> u64 {
    let delivered = consumer.delivered.stream_sequence;
    delivered.max(consumer.ack_floor.stream_sequence)
}

/// Returns the first sequence that the consumer skips, or will skip, because another message had
/// it before; `None` when its position can be believed.
///
/// Without a landmark this is seen only until the stream has grown past the position again.
///
/// # Errors
/// The server does not answer.
pub(crate) async fn first_skipped(
    stream: &Stream,
    consumer: &Info,
    landmark: Option<Landmark>,
) -> Result<Option<u64>, HistoryError> {
    // Asked after the consumer, so that a position within the stream never seems to be beyond it.
    let last = held_range(stream).await?.last;
    if is_beyond(position(consumer), last) {
        return Ok(Some(last + 1));
    }
    let Some(landmark) = landmark else {
        return Ok(None);
    };
    let now_there = message_from(stream, landmark.sequence).await?;
    if !landmark.was_lost(now_there) {
        return Ok(None);
    }
    first_since(stream, landmark.published_at_ns + 1)
        .await
        .map(Some)
}

/// Makes the consumer again, to begin at what it would skip, or before it at what is not settled.
/// Returns where it begins. What is delivered twice by that is absorbed by its identity.
///
/// # Errors
/// The server refuses.
///
/// # Cancel safety
/// The consumer may be gone; the next start makes it anew, and it reads all that the stream holds.
pub(crate) async fn set_back(
    stream: &Stream,
    consumer: &Info,
    first_skipped: u64,
) -> Result<u64, HistoryError> {
    let cannot = |source| HistoryError::new(stream, "its consumer cannot be set back", source);
    let start_sequence = begin_again_at(first_skipped, consumer.ack_floor.stream_sequence);
    let mut config =
        pull::Config::try_from_consumer_config(consumer.config.clone()).map_err(cannot)?;
    config.deliver_policy = DeliverPolicy::ByStartSequence { start_sequence };
    config
        .metadata
        .insert(SET_BACK_TO.to_owned(), start_sequence.to_string());
    stream
        .delete_consumer(&consumer.name)
        .await
        .map_err(|source| cannot(source.into()))?;
    stream
        .create_consumer_strict(config)
        .await
        .map_err(|source| cannot(source.into()))?;
    tracing::error!(
        stream = consumer.stream_name,
        consumer = consumer.name,
        position = position(consumer),
        first_skipped,
        start_sequence,
        "the server had lost the tail of the stream: the consumer was set back to what it would have skipped"
    );
    Ok(start_sequence)
}

/// Returns the deliver policy of a consumer as it was made, whether set back since or not.
pub(crate) fn original_policy(config: &async_nats::jetstream::consumer::Config) -> DeliverPolicy {
    let set_back_to = config.metadata.get(SET_BACK_TO).map(String::as_str);
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence }
            if set_back_to == Some(start_sequence.to_string().as_str()) =>
        {
            DeliverPolicy::All
        }
        policy => policy,
    }
}
