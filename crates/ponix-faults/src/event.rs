//! Events to publish, good ones and poison, and what has to become of each.

use bytes::Bytes;
use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{
    Message as _, Struct, Timestamp, Value, decode_envelope, event_identity, timestamp_from_ns,
    value,
};
use uuid::Uuid;

use crate::Pipeline;

/// 2025-01-01T00:00:00Z; events lie behind it, so their times are the same in every run.
const START_NS: i64 = 1_735_689_600 * 1_000_000_000;
/// Events are spread over so many months, so that one INSERT makes several parts.
const MONTHS: u64 = 3;
const MONTH_NS: i64 = 31 * 86_400 * 1_000_000_000;
/// Stands before the key in every payload, so that the key is found in any bytes.
const KEY_MARK: &str = "ponix-key:";
/// Devices whose rows the table refuses, see [`World::refuse_some_rows`](crate::World).
pub(crate) const REFUSED_DEVICE: &str = "refused-";
/// What makes a payload one that ends the process, with a failpoint that looks for it.
pub const DEADLY_MARK: &str = "deadly-mark";

/// What has to become of an event that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is readable, once.
    Stored,
    /// It is a dead letter, once.
    DeadLetter,
}

/// Where an event's identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentifiedBy {
    /// Its envelope, or the header `Nats-Msg-Id`: the identity is the key.
    Key,
    /// Its place in the stream: the identity is known once it is there.
    Position,
    /// Its body, with an id that an event of another organization, or for another meter, has too.
    Shared(Uuid),
}

impl IdentifiedBy {
    /// Whether another event has the same identity.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}

/// An event with what is expected of it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Names the event to the oracle; it stands in the payload whatever else does.
    pub key: Uuid,
    /// What has to become of it.
    pub fate: Fate,
    /// Where its identity comes from.
    pub identified_by: IdentifiedBy,
    /// Whose event it is.
    pub pipeline: Pipeline,
    subject_token: String,
    message_id: Option<Uuid>,
    payload: Bytes,
}

/// Ways of being wrong. All but the last are refused by our own decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Bytes that are no protobuf.
    Undecodable,
    /// No organization.
    MissingField,
    /// A number that is none.
    NotANumber,
    /// An event of the year 2255.
    OutOfRange,
    /// Sound for the decoder, refused by the store.
    RefusedByStore,
}

impl Poison {
    /// All ways.
    pub const ALL: [Self; 5] = [
        Self::Undecodable,
        Self::MissingField,
        Self::NotANumber,
        Self::OutOfRange,
        Self::RefusedByStore,
    ];
}

impl Event {
    /// A good event with its identity in the envelope and in the header, as our producers send it.
    pub fn good(n: u64) -> Self {
        let key = Uuid::now_v7();
        let mut envelope = envelope(n, key);
        envelope.event_id = key.to_string();
        Self::new(key, Fate::Stored, &envelope).identified(Some(key))
    }

    /// A good event with its identity in the header alone.
    pub fn with_header_alone(n: u64) -> Self {
        let key = Uuid::now_v7();
        Self::new(key, Fate::Stored, &envelope(n, key)).identified(Some(key))
    }

    /// A good event without any identity of its own.
    pub fn anonymous(n: u64) -> Self {
        let key = Uuid::now_v7();
        Self::new(key, Fate::Stored, &envelope(n, key))
    }

    /// An event that must end in the dead letters, with its identity in the header.
    pub fn poison(n: u64, poison: Poison) -> Self {
        let key = Uuid::now_v7();
        let mut wrong = envelope(n, key);
        match poison {
            Poison::Undecodable => {}
            Poison::MissingField => wrong.organization_id.clear(),
            Poison::NotANumber => {
                let nan = value::Kind::NumberValue(f64::NAN);
                wrong.data = Some(data(key, nan));
            }
            Poison::OutOfRange => {
                wrong.occurred_at = Some(Timestamp {
                    seconds: 9_000_000_000,
                    nanos: 0,
                });
            }
            Poison::RefusedByStore => {
                wrong.end_device_id = format!("{REFUSED_DEVICE}{}", n % 10);
            }
        }
        let mut event = Self::new(key, Fate::DeadLetter, &wrong);
        if poison == Poison::Undecodable {
            event.payload = undecodable(key);
        }
        event.identified(Some(key))
    }

    /// Undecodable bytes without any identity of their own.
    pub fn anonymous_poison(n: u64) -> Self {
        let mut event = Self::poison(n, Poison::Undecodable);
        event.message_id = None;
        event.identified_by = IdentifiedBy::Position;
        event
    }

    /// A good event of a pipeline, with its identity in the header.
    pub fn good_of(pipeline: Pipeline, n: u64) -> Self {
        Self::of(pipeline, n, None)
    }

    /// An event of a pipeline that must end in its dead letters, with its identity in the header.
    pub fn poison_of(pipeline: Pipeline, n: u64, poison: Poison) -> Self {
        Self::of(pipeline, n, Some(poison))
    }

    fn of(pipeline: Pipeline, n: u64, poison: Option<Poison>) -> Self {
        let key = Uuid::now_v7();
        let payload = match (pipeline, poison) {
            (Pipeline::Envelopes, None) => return Self::good(n),
            (Pipeline::Envelopes, Some(poison)) => return Self::poison(n, poison),
            (Pipeline::Messages, poison) => line(n, key, poison),
            (Pipeline::Readings, poison) => reading(n, key, poison),
        };
        Self {
            key,
            fate: poison.map_or(Fate::Stored, |_| Fate::DeadLetter),
            identified_by: IdentifiedBy::Key,
            pipeline,
            subject_token: "reading".to_owned(),
            message_id: Some(key),
            payload: payload.into(),
        }
    }

    /// Two events with one id, of two organizations or for two meters, and alike in all else; poison
    /// when the store is to refuse both. Raw messages have no such pair: the second is refused for its
    /// id.
    pub fn pair(pipeline: Pipeline, n: u64, refused: bool) -> [Self; 2] {
        let id = Uuid::now_v7();
        let poison = refused.then_some(Poison::RefusedByStore);
        ["", "-other"].map(|owner| {
            let event = Self::of(pipeline, n, poison);
            let payload = match pipeline {
                Pipeline::Messages => return event,
                Pipeline::Readings => {
                    let payload = replaced(&event.payload, &event.key.to_string(), &id.to_string());
                    let payload = replaced(
                        &payload,
                        &format!("{KEY_MARK}{id}"),
                        &format!("{KEY_MARK}{}", event.key),
                    );
                    let meter = device(n, poison);
                    replaced(&payload, &meter, &format!("{meter}{owner}"))
                }
                Pipeline::Envelopes => {
                    let mut envelope = ProcessedEnvelope::decode(event.payload).expect("made here");
                    envelope.organization_id.push_str(owner);
                    envelope.event_id = id.to_string();
                    envelope.encode_to_vec().into()
                }
            };
            // The stream knows them by the keys, which are two.
            Self {
                identified_by: IdentifiedBy::Shared(id),
                payload,
                ..event
            }
        })
    }

    /// An event whose payload a failpoint takes for one that ends the process; expected among the
    /// dead letters.
    pub fn deadly_of(pipeline: Pipeline, n: u64) -> Self {
        let event = Self::good_of(pipeline, n).into_poison();
        match pipeline {
            Pipeline::Envelopes => event.marked(DEADLY_MARK),
            Pipeline::Messages | Pipeline::Readings => Self {
                payload: replaced(&event.payload, "device-", DEADLY_MARK),
                ..event
            },
        }
    }

    /// Adds text to a good event's data, where a planted fault looks for it.
    #[must_use]
    pub fn marked(mut self, mark: &str) -> Self {
        let mut envelope = ProcessedEnvelope::decode(self.payload).expect("made here");
        let text = Value {
            kind: Some(value::Kind::StringValue(mark.to_owned())),
        };
        let data = envelope.data.get_or_insert_default();
        data.fields.insert("mark".to_owned(), text);
        self.payload = envelope.encode_to_vec().into();
        self
    }

    /// Expects the event among the dead letters, for a fault that a test plants on it.
    #[must_use]
    pub fn into_poison(mut self) -> Self {
        self.fate = Fate::DeadLetter;
        self
    }

    /// Makes the event one of a device whose rows the table refuses, to be stored all the same
    /// once the table is mended.
    #[must_use]
    pub fn of_refused_device(mut self) -> Self {
        let mut envelope = ProcessedEnvelope::decode(self.payload).expect("made here");
        envelope.end_device_id = format!("{REFUSED_DEVICE}0");
        self.payload = envelope.encode_to_vec().into();
        self
    }

    /// The same event in a packed message, where it is known by its place unless its body carries an
    /// identity that a reader finds.
    #[must_use]
    pub(crate) fn packed(mut self, pack: Uuid, index: u32) -> Self {
        let names_itself = match self.pipeline {
            Pipeline::Envelopes => {
                // What ends every process that reads it is never asked for its id.
                let mut texts = self.payload.windows(DEADLY_MARK.len());
                let is_deadly = texts.any(|text| text == DEADLY_MARK.as_bytes());
                let decoded = decode_envelope(&self.payload, i64::MAX);
                !is_deadly && decoded.is_ok_and(|envelope| envelope.event_id.is_some())
            }
            // The row has its identity from its fields; a dead letter, of a message, not.
            Pipeline::Messages | Pipeline::Readings => self.fate == Fate::Stored,
        };
        if !names_itself {
            self.identified_by = IdentifiedBy::Shared(event_identity(pack, index));
        }
        self
    }

    /// The message that carries it.
    pub fn message(&self) -> OutgoingMessage {
        let prefix = self.pipeline.subject_prefix();
        OutgoingMessage {
            subject: format!("{prefix}.{}", self.subject_token),
            id: self.message_id,
            headers: HeaderMap::new(),
            payload: self.payload.clone(),
        }
    }

    fn new(key: Uuid, fate: Fate, envelope: &ProcessedEnvelope) -> Self {
        Self {
            key,
            fate,
            identified_by: IdentifiedBy::Position,
            pipeline: Pipeline::Envelopes,
            subject_token: envelope.end_device_id.clone(),
            message_id: None,
            payload: envelope.encode_to_vec().into(),
        }
    }

    pub(crate) fn identified(mut self, message_id: Option<Uuid>) -> Self {
        self.message_id = message_id;
        if !self.identified_by.is_shared() {
            self.identified_by = IdentifiedBy::Key;
        }
        self
    }
}

/// Finds the key of an event in a payload, or in the text of its data.
pub(crate) fn key_in(bytes: &[u8]) -> Option<Uuid> {
    let at = bytes
        .windows(KEY_MARK.len())
        .position(|window| window == KEY_MARK.as_bytes())?;
    let text = bytes.get(at + KEY_MARK.len()..)?.get(..36)?;
    Uuid::try_parse_ascii(text).ok()
}

/// A text line of the entity that the raw messages have.
fn line(n: u64, key: Uuid, poison: Option<Poison>) -> String {
    let device = device(n, poison);
    let value = match poison {
        Some(Poison::NotANumber) => "much".to_owned(),
        Some(Poison::OutOfRange) => "2000000000".to_owned(),
        _ => format!("{}.5", n % 1_000_000),
    };
    match poison {
        Some(Poison::Undecodable) => format!("R|{KEY_MARK}{key}|too|many|values|of|all"),
        Some(Poison::MissingField) => format!("R|{KEY_MARK}{key}||{value}"),
        _ => format!("R|{KEY_MARK}{key}|{device}|{value}"),
    }
}

/// A document of the declared pipeline.
fn reading(n: u64, key: Uuid, poison: Option<Poison>) -> String {
    let device = device(n, poison);
    let year = match poison {
        Some(Poison::OutOfRange) => 2455,
        _ => 2026,
    };
    let value = match poison {
        Some(Poison::NotANumber) => r#","value":"much""#.to_owned(),
        Some(Poison::MissingField) => String::new(),
        _ => format!(r#","value":{n}.5"#),
    };
    let end = match poison {
        Some(Poison::Undecodable) => "",
        _ => "}",
    };
    let (month, second) = (n % MONTHS + 1, n % 60);
    format!(
        r#"{{"id":"{key}","key":"{KEY_MARK}{key}","meter":"{device}","read_at":"{year}-0{month}-01T12:00:{second:02}Z"{value}{end}"#
    )
}

fn device(n: u64, poison: Option<Poison>) -> String {
    let kind = match poison {
        Some(Poison::RefusedByStore) => REFUSED_DEVICE,
        _ => "device-",
    };
    format!("{kind}{}", n % 100)
}

fn replaced(payload: &[u8], text: &str, by: &str) -> Bytes {
    String::from_utf8_lossy(payload).replace(text, by).into()
}

fn undecodable(key: Uuid) -> Bytes {
    let mut bytes = vec![0xff; 12];
    bytes.extend_from_slice(format!("{KEY_MARK}{key}").as_bytes());
    bytes.into()
}

fn envelope(n: u64, key: Uuid) -> ProcessedEnvelope {
    let month_ns = (n % MONTHS) as i64 * MONTH_NS;
    let occurred_at_ns = START_NS + month_ns + n as i64 * 1_000_000;
    ProcessedEnvelope {
        organization_id: format!("org-{}", n % 10),
        end_device_id: format!("device-{}", n % 100),
        occurred_at: Some(timestamp_from_ns(occurred_at_ns)),
        data: Some(data(key, value::Kind::NumberValue(n as f64 / 8.0))),
        processed_at: Some(timestamp_from_ns(occurred_at_ns + 1_000)),
        event_id: String::new(),
    }
}

fn data(key: Uuid, temperature: value::Kind) -> Struct {
    let key = value::Kind::StringValue(format!("{KEY_MARK}{key}"));
    let field = |name: &str, kind| (name.to_owned(), Value { kind: Some(kind) });
    Struct {
        fields: [field("key", key), field("temperature", temperature)].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = START_NS + 365 * 86_400 * 1_000_000_000;

    #[test]
    fn every_payload_holds_its_key() {
        let events = [
            Event::good(1),
            Event::anonymous(2),
            Event::good(3).marked("x"),
        ];
        let poison = Poison::ALL.map(|poison| Event::poison(4, poison));
        for event in events.into_iter().chain(poison) {
            assert_eq!(key_in(&event.payload), Some(event.key), "{event:?}");
        }
        assert_eq!(key_in(b"ponix-key:018f"), None);
    }

    #[test]
    fn a_pair_is_two_events_with_one_id() {
        for pipeline in [Pipeline::Envelopes, Pipeline::Readings] {
            let [one, other] = Event::pair(pipeline, 9, false);
            assert_eq!(one.identified_by, other.identified_by);
            assert_ne!(one.key, other.key);
            for event in [one, other] {
                let IdentifiedBy::Shared(id) = event.identified_by else {
                    panic!("{event:?}")
                };
                let text = String::from_utf8_lossy(&event.payload);
                assert_eq!(text.matches(&id.to_string()).count(), 1, "{text}");
                assert_eq!(key_in(&event.payload), Some(event.key));
                assert_eq!(event.message().id, Some(event.key));
            }
        }
    }

    #[test]
    fn the_decoder_takes_the_good_and_refuses_the_poison() {
        for event in [
            Event::good(1),
            Event::anonymous(2),
            Event::with_header_alone(3),
        ] {
            decode_envelope(&event.payload, NOW_NS).unwrap();
        }
        for poison in Poison::ALL {
            let decoded = decode_envelope(&Event::poison(4, poison).payload, NOW_NS);
            let refused = poison != Poison::RefusedByStore;
            assert_eq!(decoded.is_err(), refused, "{poison:?}");
        }
    }
}
