//! An envelope written as JSON, over HTTP and NATS alike.

use std::fmt;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

use crate::envelope::v1::ProcessedEnvelope;
use crate::json::MISSING;
use crate::{
    DecodeError, EnvelopeBuilder, JsonError, JsonReader, JsonRules, Message as _, check_envelope,
    timestamp_from_ns, timestamp_from_rfc3339,
};

/// Members of the objects in one envelope that comes over NATS at most, as over HTTP by default.
const MEMBERS_MAX: usize = 1_000;

/// The members of an envelope in JSON, as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonEnvelope {
    /// The organization, where it is named.
    pub organization_id: Option<String>,
    /// The end device.
    pub end_device_id: String,
    /// When the event happened, RFC 3339.
    pub occurred_at: String,
    /// When the envelope was made, RFC 3339.
    pub processed_at: Option<String>,
    /// The readings; empty where there are none.
    pub data: Struct,
    /// The identity, where it was given.
    pub event_id: Option<String>,
}

impl JsonEnvelope {
    /// Reads a text; its objects may have so many members, all together.
    ///
    /// # Errors
    /// What is wrong, with the field.
    pub fn read(text: &[u8], members_max: usize) -> Result<Self, JsonError> {
        let reader = JsonReader::new(rules(members_max));
        reader.read(text, Seed(&reader))
    }

    /// Reads a text and tells all that is wrong with it, see [`JsonReader::read_all`]; a member that is
    /// missing or wrong is empty.
    pub fn read_all(text: &[u8], members_max: usize) -> (Option<Self>, Vec<JsonError>) {
        let reader = JsonReader::thorough(rules(members_max));
        reader.read_all(text, Seed(&reader))
    }
}

fn rules(members_max: usize) -> JsonRules {
    JsonRules {
        members_max,
        large_integers: false,
        nul: true,
    }
}

/// Tells whether a payload is meant as JSON: as protobuf it would begin with a group, which no
/// envelope has.
pub(crate) fn is_json(payload: &[u8]) -> bool {
    let Some((b'{', rest)) = payload.split_first() else {
        return false;
    };
    matches!(rest.trim_ascii_start().first(), None | Some(b'"' | b'}'))
}

/// Makes of an envelope in JSON what its producer would have sent in protobuf; a text without
/// `processed_at` was made when it was published.
///
/// # Errors
/// The first thing wrong.
pub(crate) fn protobuf_of(payload: &[u8], published_at_ns: i64) -> Result<Vec<u8>, DecodeError> {
    let read = JsonEnvelope::read(payload, MEMBERS_MAX)?;
    let organization = read.organization_id.unwrap_or_default();
    let occurred_at = timestamp_from_rfc3339("occurred_at", &read.occurred_at)?;
    let processed_at = match &read.processed_at {
        Some(text) => timestamp_from_rfc3339("processed_at", text)?,
        None => timestamp_from_ns(published_at_ns),
    };
    let builder = EnvelopeBuilder::new(organization, read.end_device_id, occurred_at, read.data);
    let mut envelope: ProcessedEnvelope = builder.event_id(Uuid::nil()).build(processed_at)?;
    envelope.event_id = read.event_id.unwrap_or_default();
    check_envelope(&envelope, published_at_ns)?;
    Ok(envelope.encode_to_vec())
}

struct Seed<'a>(&'a JsonReader);

/// The name of a member.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    OrganizationId,
    EndDeviceId,
    OccurredAt,
    ProcessedAt,
    Data,
    EventId,
    Other(String),
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = JsonEnvelope;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonEnvelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = JsonEnvelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that is an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonEnvelope, A::Error> {
        let reader = self.0;
        let mut texts: [Option<Option<String>>; 5] = Default::default();
        let mut data = None;
        while let Some(member) = map.next_key::<Member>()? {
            let index = match member {
                Member::OrganizationId => 0,
                Member::EndDeviceId => 1,
                Member::OccurredAt => 2,
                Member::ProcessedAt => 3,
                Member::EventId => 4,
                Member::Data => {
                    if data.is_some() {
                        reader.twice::<A::Error>("data")?;
                    }
                    data = Some(map.next_value_seed(reader.member("data"))?);
                    continue;
                }
                Member::Other(name) => {
                    reader.unknown::<A::Error>(&name, &NAMES)?;
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if texts[index].is_some() {
                reader.twice::<A::Error>(NAMES[index])?;
            }
            texts[index] = Some(map.next_value_seed(Text(reader, NAMES[index]))?);
        }
        let [
            organization_id,
            end_device_id,
            occurred_at,
            processed_at,
            event_id,
        ] = texts.map(Option::flatten);
        let needed = |member, text: Option<String>| match text {
            Some(text) => Ok(text),
            None => reader.refuse(member, MISSING).map(|()| String::new()),
        };
        Ok(JsonEnvelope {
            organization_id,
            end_device_id: needed("end_device_id", end_device_id)?,
            occurred_at: needed("occurred_at", occurred_at)?,
            processed_at,
            data: match data.map(|data: Value| data.kind) {
                Some(Some(Kind::StructValue(data))) => data,
                Some(_) => {
                    reader.refuse::<A::Error>("data", "is not an object")?;
                    Struct::default()
                }
                None => Struct::default(),
            },
            event_id,
        })
    }
}

/// The names of the members, the texts first.
const NAMES: [&str; 6] = [
    "organization_id",
    "end_device_id",
    "occurred_at",
    "processed_at",
    "event_id",
    "data",
];

/// Reads a member that is a text or null.
struct Text<'a>(&'a JsonReader, &'static str);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        self.no_text()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        self.no_text()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
        self.no_text()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        self.no_text()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let text = self.no_text::<A::Error>()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let text = self.no_text::<A::Error>()?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(text)
    }
}

impl Text<'_> {
    fn no_text<E: serde::de::Error>(&self) -> Result<Option<String>, E> {
        self.0.refuse(self.1, NO_TEXT)?;
        Ok(None)
    }
}

/// The reason of a member that is another kind of value.
const NO_TEXT: &str = "is not a text: write it in quotes";

#[cfg(test)]
mod tests {
    use crate::{DecodeErrorKind, decode_envelope, decode_envelope_of};

    const NOW_NS: i64 = 1_772_366_400_000_000_000;

    #[test]
    fn json_is_an_envelope_too() {
        let text = br#"{"organization_id":"acme","end_device_id":"a",
            "occurred_at":"2026-03-01T12:00:00Z","data":{"t":21.5},
            "event_id":"0190f3a8-0000-7000-8000-000000000001"}"#;
        let decoded = decode_envelope(text, NOW_NS).unwrap();
        assert_eq!(decoded.organization_id, "acme");
        assert_eq!(decoded.occurred_at_ns, NOW_NS);
        assert_eq!(decoded.processed_at_ns, NOW_NS);
        assert_eq!(decoded.data_json, r#"{"t":21.5}"#);
        assert!(decoded.event_id.is_some());
        let least = br#"{"organization_id":"acme","end_device_id":"a","occurred_at":"2026-03-01T12:00:00Z"}"#;
        let least = decode_envelope(least, NOW_NS).unwrap();
        assert_eq!((least.data_json.as_str(), least.event_id), ("{}", None));
    }

    #[test]
    fn what_the_publisher_says_of_the_body_counts() {
        let text = b"\n {\"organization_id\":\"acme\",\"end_device_id\":\"a\",\"occurred_at\":\"2026-03-01T12:00:00Z\"}";
        assert!(decode_envelope(text, NOW_NS).is_err());
        let json = Some("Application/JSON; charset=utf-8");
        let decoded = decode_envelope_of(text, json, NOW_NS).unwrap();
        assert_eq!(decoded.end_device_id, "a");
        let list = decode_envelope_of(b"[1]", json, NOW_NS).unwrap_err();
        assert!(
            list.to_string().contains("invalid type: sequence"),
            "{list}"
        );
        let protobuf = Some("application/x-protobuf");
        assert!(decode_envelope_of(&text[2..], protobuf, NOW_NS).is_err());
        assert!(decode_envelope_of(&text[2..], None, NOW_NS).is_ok());
    }

    #[test]
    fn json_is_refused_by_its_field() {
        use DecodeErrorKind::{Decode, MissingField, Value};
        let rest = r#""end_device_id":"a","occurred_at":"2026-03-01T12:00:00Z""#;
        for (text, kind, said) in [
            ("{".to_owned(), Decode, "EOF while parsing"),
            ("{}".to_owned(), MissingField, "end_device_id is missing"),
            (
                r#"{"device_id":"a"}"#.to_owned(),
                Value,
                "device_id is not known, did you mean end_device_id?",
            ),
            (
                r#"{"end_device_id":7}"#.to_owned(),
                Value,
                "end_device_id is not a text: write it in quotes",
            ),
            (
                format!("{{{rest}}}"),
                MissingField,
                "organization_id is missing",
            ),
            (
                format!(r#"{{"organization_id":"o",{rest},"data":{{"n":9007199254740993}}}}"#),
                Value,
                "data.n is an integer beyond ±2^53: send it as a text",
            ),
            (
                format!(
                    r#"{{"organization_id":"o",{rest},"data":{{"s":"\"1","n":[1e30,-{}]}}}}"#,
                    "9".repeat(30)
                ),
                Value,
                "data.n.1 is an integer beyond ±2^53: send it as a text",
            ),
            (
                format!(r#"{{"organization_id":"o",{rest},"event_id":"7"}}"#),
                Value,
                "event_id is not a UUID",
            ),
            (
                r#"{"organization_id":"o","end_device_id":"a","occurred_at":"2026-03-01 12:00"}"#
                    .to_owned(),
                Value,
                "occurred_at is not an RFC 3339 date and time: send one with its zone, such as 2026-03-01T12:00:00Z",
            ),
        ] {
            let error = decode_envelope(text.as_bytes(), NOW_NS).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }
}
