//! A message as JetStream delivered it, and the batch of such messages.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;
use ponix_wire::header;
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
    bytes: usize,
}

impl Delivery {
    /// Reads the ack subject of a message; `None` for one that did not come from JetStream.
    /// With it comes how many messages the consumer had not delivered yet.
    pub(crate) fn from_message(message: async_nats::Message) -> Option<(Self, u64)> {
        let async_nats::Message {
            subject,
            payload,
            headers,
            reply,
            length,
            ..
        } = message;
        let reply = reply?;
        let ack = AckSubject::parse(&reply)?;
        let identity = message_identity(headers.as_ref().and_then(message_id), ack.position);
        let (position, deliveries, pending) = (ack.position, ack.deliveries, ack.pending);
        let delivery = Self {
            stream_sequence: position.sequence,
            published_at_ns: position.published_at_ns,
            deliveries,
            identity,
            bytes: length,
            subject,
            payload,
            headers,
            reply,
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

    /// Returns the identity by the place in `stream`, the stream it comes from, alone: no other
    /// message has it.
    pub fn place(&self, stream: &str) -> Uuid {
        let position = StreamPosition {
            stream,
            sequence: self.stream_sequence,
            published_at_ns: self.published_at_ns,
        };
        message_identity(None, position)
    }

    pub(crate) fn reply(&self) -> &Subject {
        &self.reply
    }

    /// Bytes the delivery had on the wire, as the server counts them against a request.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The id that a message names itself by. The stream may know it by another one: of a raw message
/// its organization is part of that, and what is put back from the dead letters gets a new one.
pub(crate) fn message_id(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get(header::MESSAGE_ID).map(HeaderValue::as_str);
    own.filter(|id| Uuid::try_parse(id).is_ok())
        .or_else(|| headers.get(NATS_MESSAGE_ID).map(HeaderValue::as_str))
}

/// What the reply subject of a delivery tells. Read here, because a [`jetstream::Message`] wants a
/// context, and each context starts a task.
///
/// # Source
/// `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<published
/// ns>.<pending>`, in newer form with `<domain>.<account>.` before the stream and perhaps one
/// token more at the end (NATS ADR-15).
///
/// [`jetstream::Message`]: async_nats::jetstream::Message
#[derive(Debug, PartialEq, Eq)]
struct AckSubject<'a> {
    position: StreamPosition<'a>,
    deliveries: u32,
    pending: u64,
}

impl<'a> AckSubject<'a> {
    fn parse(subject: &'a str) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        let before_stream = match rest.split('.').count() {
            7 => 0,
            9.. => 2,
            _ => return None,
        };
        let mut tokens = rest.split('.').skip(before_stream);
        let stream = tokens.next()?;
        let _consumer = tokens.next()?;
        let deliveries = tokens.next()?.parse::<u64>().ok()?;
        let sequence = tokens.next()?.parse().ok()?;
        let _consumer_sequence = tokens.next()?;
        let published_at_ns = tokens.next()?.parse().ok()?;
        let pending = tokens.next()?.parse().ok()?;
        Some(Self {
            position: StreamPosition {
                stream,
                sequence,
                published_at_ns,
            },
            deliveries: u32::try_from(deliveries).unwrap_or(u32::MAX),
            pending,
        })
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

    /// Makes a delivery as a model of the server would.
    pub(crate) fn delivery(
        kind: u8,
        reply: String,
        position: StreamPosition<'_>,
        deliveries: u32,
        message_id: Option<Uuid>,
    ) -> Delivery {
        let message_id = message_id.map(|id| id.to_string());
        Delivery {
            subject: "events.a".into(),
            payload: Bytes::copy_from_slice(&[kind]),
            headers: None,
            reply: reply.into(),
            stream_sequence: position.sequence,
            published_at_ns: position.published_at_ns,
            deliveries,
            identity: message_identity(message_id.as_deref(), position),
            bytes: 1,
        }
    }

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
            bytes: 0,
        };
        Batch::new("events".to_owned(), (0..len).map(delivery).collect())
    }

    #[test]
    fn ack_subjects_old_and_new() {
        let expected = AckSubject {
            position: StreamPosition {
                stream: "events",
                sequence: 852,
                published_at_ns: 1_700_000_000_123_456_789,
            },
            deliveries: 2,
            pending: 7,
        };
        for subject in [
            "$JS.ACK.events.worker.2.852.900.1700000000123456789.7",
            "$JS.ACK.hub.aCC0unt.events.worker.2.852.900.1700000000123456789.7",
            "$JS.ACK._.aCC0unt.events.worker.2.852.900.1700000000123456789.7.rAnd0m",
        ] {
            assert_eq!(
                AckSubject::parse(subject).as_ref(),
                Some(&expected),
                "{subject}"
            );
        }
        for subject in [
            "",
            "_INBOX.x.1",
            "$JS.ACK.events.worker.2.852.900.1700000000123456789",
            "$JS.ACK.events.worker.2.x.900.1700000000123456789.7",
            "$JS.ACK.hub.events.worker.2.852.900.1700000000123456789.7",
        ] {
            assert_eq!(AckSubject::parse(subject), None, "{subject}");
        }
    }
}
