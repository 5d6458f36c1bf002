//! A message as JetStream delivered it, and the batch of such messages.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use uuid::Uuid;

use crate::identity::{StreamPosition, message_identity};

/// One delivery of one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    subject: Subject,
    payload: Bytes,
    headers: Option<HeaderMap>,
    reply: Subject,
    stream_sequence: u64,
    published_at_ns: i64,
    deliveries: u32,
    identity: Uuid,
}

impl Delivery {
    /// Reads the ack subject of a message; `None` for one that did not come from JetStream.
    pub(crate) fn from_message(message: async_nats::jetstream::Message) -> Option<(Self, u64)> {
        let info = message.info().ok()?;
        let published_at_ns = i64::try_from(info.published.unix_timestamp_nanos()).ok()?;
        let stream_sequence = info.stream_sequence;
        let pending = info.pending;
        let deliveries = u32::try_from(info.delivered).unwrap_or(u32::MAX);
        let message_id = message
            .message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(NATS_MESSAGE_ID))
            .map(async_nats::HeaderValue::as_str);
        let position = StreamPosition {
            stream: info.stream,
            sequence: stream_sequence,
            published_at_ns,
        };
        let identity = message_identity(message_id, position);
        let async_nats::Message {
            subject,
            payload,
            headers,
            reply,
            ..
        } = message.message;
        let reply = reply?;
        let delivery = Self {
            subject,
            payload,
            headers,
            reply,
            stream_sequence,
            published_at_ns,
            deliveries,
            identity,
        };
        Some((delivery, pending))
    }

    /// Returns the subject the message was published on.
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// Returns the body.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the headers the publisher sent.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_ref()
    }

    /// Returns the message's sequence in the stream.
    pub fn stream_sequence(&self) -> u64 {
        self.stream_sequence
    }

    /// Returns when the server stored the message, nanoseconds since 1970.
    pub fn published_at_ns(&self) -> i64 {
        self.published_at_ns
    }

    /// Returns how often the server says it has delivered the message, this time included. A
    /// server that was killed forgets: 1 does not mean that nobody has seen the message.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Returns the identity by header or stream position; a body that carries one outranks it.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    pub(crate) fn reply(&self) -> &Subject {
        &self.reply
    }

    /// Bytes this delivery is counted with against the limits of a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len() + self.subject.len() + self.reply.len()
    }
}

/// Messages that are processed together, in the order they were delivered.
#[derive(Debug)]
pub struct Batch {
    stream: String,
    messages: Vec<Delivery>,
}

impl Batch {
    pub(crate) fn new(stream: String, messages: Vec<Delivery>) -> Self {
        Self { stream, messages }
    }

    /// Makes a batch of some of the messages, by position.
    pub(crate) fn part(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        let messages = positions
            .into_iter()
            .map(|i| self.messages[i].clone())
            .collect();
        Self::new(self.stream.clone(), messages)
    }

    /// Returns the name of the stream the messages come from.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Returns the messages.
    pub fn messages(&self) -> &[Delivery] {
        &self.messages
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a batch of so many messages with the sequences 0, 1, ….
    pub(crate) fn batch(len: u64) -> Batch {
        let delivery = |stream_sequence| Delivery {
            subject: "events.a".into(),
            payload: Bytes::new(),
            headers: None,
            reply: "$JS.ACK.x".into(),
            stream_sequence,
            published_at_ns: 0,
            deliveries: 1,
            identity: Uuid::nil(),
        };
        Batch::new("events".to_owned(), (0..len).map(delivery).collect())
    }
}
