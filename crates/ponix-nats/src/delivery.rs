//! A message as JetStream delivered it, and the batch of such messages.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;
use ponix_wire::{TraceParent, event_identity, events_said, header};
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
    /// Of one event of a packed message.
    index: Option<u32>,
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
            index: None,
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
    /// message, or event of a packed message, has it.
    pub fn place(&self, stream: &str) -> Uuid {
        let position = StreamPosition {
            stream,
            sequence: self.stream_sequence,
            published_at_ns: self.published_at_ns,
        };
        let message = message_identity(None, position);
        self.index
            .map_or(message, |index| event_identity(message, index))
    }

    /// Returns what the header `Ponix-Packed` says, which marks a packed message.
    pub fn packed(&self) -> Option<&str> {
        let value = self.headers.as_ref()?.get(header::PACKED)?;
        Some(value.as_str())
    }

    /// Returns the number of events that the message says it carries, 1 if it is not packed; never
    /// more than its bytes have room for.
    pub fn events(&self) -> usize {
        let said = self.packed().and_then(events_said).unwrap_or(1);
        let room = self.payload.len().max(1);
        usize::try_from(said).unwrap_or(room).clamp(1, room)
    }

    /// Returns the place in its packed message, where it is one event of one.
    pub fn index(&self) -> Option<u32> {
        self.index
    }

    /// Returns one event of this packed message as a message of its own, with the headers of the
    /// whole but for what says that it is packed; its identity is its message id.
    #[must_use]
    pub fn event(&self, index: u32, identity: Uuid, payload: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        for (name, values) in self.headers.iter().flat_map(HeaderMap::iter) {
            if [header::PACKED, header::MESSAGE_ID].contains(&name.as_ref()) {
                continue;
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert(header::MESSAGE_ID, identity.to_string().as_str());
        Self {
            index: Some(index),
            identity,
            bytes: payload.len(),
            payload,
            headers: Some(headers),
            ..self.clone()
        }
    }

    /// Returns the id of the trace that the publisher named, if it named one.
    pub fn trace_id(&self) -> Option<String> {
        let parent = self.headers()?.get(header::TRACE_PARENT)?;
        let parent = TraceParent::parse(parent.as_str())?;
        Some(parent.trace_id().to_owned())
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
    /// Makes a batch of messages that were read from a stream.
    pub fn new(stream: String, messages: Vec<Delivery>) -> Self {
        Self { stream, messages }
    }

    /// Makes a batch of messages as a consumer of a stream delivers them; what did not come from
    /// JetStream is left out.
    pub fn from_messages(
        stream: impl Into<String>,
        messages: impl IntoIterator<Item = async_nats::Message>,
    ) -> Self {
        let messages = messages.into_iter().filter_map(Delivery::from_message);
        Self::new(
            stream.into(),
            messages.map(|(delivery, _)| delivery).collect(),
        )
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
            index: None,
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
            index: None,
        };
        Batch::new("events".to_owned(), (0..len).map(delivery).collect())
    }

    /// Makes a delivery of a message that says it carries so many events.
    pub(crate) fn packed(said: &str, payload: &'static [u8]) -> Delivery {
        let mut headers = HeaderMap::new();
        headers.insert(header::PACKED, said);
        headers.insert(header::MESSAGE_ID, Uuid::from_u128(7).to_string().as_str());
        headers.insert(header::ORGANIZATION, "acme");
        Delivery {
            payload: Bytes::from_static(payload),
            headers: Some(headers),
            ..batch(1).messages[0].clone()
        }
    }

    #[test]
    fn a_message_never_says_more_events_than_its_bytes_have_room_for() {
        assert_eq!(batch(1).messages[0].events(), 1);
        for (said, payload, expected) in [
            ("2", &b"a\nb"[..], 2),
            ("18446744073709551615", b"a\nb", 3),
            ("0", b"a\nb", 1),
            ("two", b"a\nb", 1),
            ("2", b"", 1),
        ] {
            assert_eq!(packed(said, payload).events(), expected, "{said}");
        }
    }

    #[test]
    fn an_event_of_a_pack_is_a_message_of_its_own() {
        let pack = packed("2", b"a\nb");
        let id = Uuid::from_u128(9);
        let event = pack.event(1, id, pack.payload().slice(2..));
        assert_eq!(event.packed(), None);
        assert_eq!((event.index(), event.identity()), (Some(1), id));
        let headers = event.headers().expect("those of the whole");
        let text = |name| headers.get(name).map(HeaderValue::as_str);
        assert_eq!(text(header::ORGANIZATION), Some("acme"));
        assert_eq!(text(header::MESSAGE_ID), Some(id.to_string().as_str()));
        let other = pack.event(0, id, pack.payload().slice(..1));
        let places = [pack.place("s"), event.place("s"), other.place("s")];
        assert!(places[0] != places[1] && places[1] != places[2] && places[0] != places[2]);
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
