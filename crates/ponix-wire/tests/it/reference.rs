//! What a payload means, said slowly: prost's tree, then the documented checks on top of it.

use std::collections::{BTreeMap, BTreeSet};

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::value::Kind;
use ponix_wire::{
    DATA_DEPTH_MAX, DecodeError, DecodedEnvelope, ID_BYTES_MAX, ListValue, Message,
    OCCURRED_AT_AHEAD_MAX_NS, Struct, Timestamp, Value, WireError, check_envelope, decode_envelope,
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Decodes a payload both ways and panics where they differ.
pub(crate) fn assert_agrees_with_prost(payload: &[u8], published_at_ns: i64) {
    let expected = reference(payload, published_at_ns);
    assert_checked_alike(payload, published_at_ns);
    match (decode_envelope(payload, published_at_ns), &expected) {
        (Ok(decoded), Some(envelope)) => assert_same(&decoded, envelope),
        (Err(_), None) => {}
        (
            Err(
                DecodeError::NotFinite { .. }
                | DecodeError::TooDeep { .. }
                | DecodeError::NameClash { .. },
            ),
            Some(envelope),
        ) if envelope.encoded_len() < payload.len() => {
            // Refused for a value that a later one replaces; prost has forgotten it.
        }
        (Err(error), Some(_)) if is_map_entry_of_other_wire_type(&error) => {}
        (decoded, _) => panic!("decoded {decoded:?}, expected {expected:?}, from {payload:02x?}"),
    }
}

/// Checks what prost makes of a payload, and panics if the check says other than the decoder does
/// of the same envelope, encoded again.
fn assert_checked_alike(payload: &[u8], published_at_ns: i64) {
    let Ok(envelope) = ProcessedEnvelope::decode(payload) else {
        return;
    };
    let decoded = decode_envelope(&envelope.encode_to_vec(), published_at_ns).map(drop);
    assert_eq!(check_envelope(&envelope, published_at_ns), decoded);
}

/// prost does not look at the wire type of a map field and reads any as a length and an entry.
fn is_map_entry_of_other_wire_type(error: &DecodeError) -> bool {
    let DecodeError::Malformed { field, source } = error else {
        return false;
    };
    field.starts_with("data") && matches!(source, WireError::UnexpectedWireType { number: 1, .. })
}

/// The envelope of a payload if it is to be accepted.
fn reference(payload: &[u8], published_at_ns: i64) -> Option<ProcessedEnvelope> {
    let envelope = ProcessedEnvelope::decode(payload).ok()?;
    let id_fits = |id: &str| (1..=ID_BYTES_MAX).contains(&id.len());
    let occurred_at_ns = nanoseconds(envelope.occurred_at.as_ref()?)?;
    nanoseconds(envelope.processed_at.as_ref()?)?;
    let accepted = id_fits(&envelope.organization_id)
        && id_fits(&envelope.end_device_id)
        && i128::from(occurred_at_ns) - i128::from(published_at_ns)
            <= i128::from(OCCURRED_AT_AHEAD_MAX_NS)
        && (envelope.event_id.is_empty() || uuid::Uuid::parse_str(&envelope.event_id).is_ok())
        && envelope
            .data
            .as_ref()
            .is_none_or(|data| struct_is_storable(data, DATA_DEPTH_MAX));
    accepted.then_some(envelope)
}

fn nanoseconds(timestamp: &Timestamp) -> Option<i64> {
    let whole = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    let nanos_fit = (0..1_000_000_000).contains(&timestamp.nanos);
    i64::try_from(whole)
        .ok()
        .filter(|ns| nanos_fit && timestamp.seconds >= 0 && *ns >= 0)
}

fn struct_is_storable(object: &Struct, levels: u32) -> bool {
    let Struct { fields } = object;
    let paths: BTreeSet<_> = fields.keys().map(|name| name.replace('.', "%2E")).collect();
    levels > 0
        && paths.len() == fields.len()
        && fields.values().all(|value| is_storable(value, levels - 1))
}

fn is_storable(value: &Value, levels: u32) -> bool {
    match &value.kind {
        Some(Kind::NumberValue(number)) => number.is_finite(),
        Some(Kind::StructValue(object)) => struct_is_storable(object, levels),
        Some(Kind::ListValue(ListValue { values })) => {
            levels > 0 && values.iter().all(|value| is_storable(value, levels - 1))
        }
        _ => true,
    }
}

fn assert_same(decoded: &DecodedEnvelope, envelope: &ProcessedEnvelope) {
    assert_eq!(decoded.organization_id, envelope.organization_id);
    assert_eq!(decoded.end_device_id, envelope.end_device_id);
    assert_eq!(
        Some(decoded.occurred_at_ns),
        envelope.occurred_at.as_ref().and_then(nanoseconds)
    );
    assert_eq!(
        Some(decoded.processed_at_ns),
        envelope.processed_at.as_ref().and_then(nanoseconds)
    );
    let event_id = uuid::Uuid::parse_str(&envelope.event_id)
        .ok()
        .filter(|uuid| !uuid.is_nil());
    assert_eq!(decoded.event_id, event_id);

    let json: Json = serde_json::from_str(&decoded.data_json)
        .unwrap_or_else(|error| panic!("{error} in {}", decoded.data_json));
    let data = envelope
        .data
        .clone()
        .expect("the reference accepted the envelope");
    assert_eq!(
        json,
        Json::from(&Kind::StructValue(data)),
        "from {}",
        decoded.data_json
    );
}

/// JSON as ClickHouse asks for it: no repeated keys, no numbers that look like integers.
#[derive(Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    /// The bits of a double, so that -0.0 differs from 0.0.
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl From<&Kind> for Json {
    fn from(kind: &Kind) -> Self {
        match kind {
            Kind::NullValue(_) => Self::Null,
            Kind::NumberValue(number) => Self::Number(number.to_bits()),
            Kind::StringValue(text) => Self::Text(text.clone()),
            Kind::BoolValue(bool) => Self::Bool(*bool),
            Kind::StructValue(Struct { fields }) => Self::Object(
                fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.into()))
                    .collect(),
            ),
            Kind::ListValue(list) => Self::List(list.values.iter().map(Self::from).collect()),
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        value.kind.as_ref().map_or(Self::Null, Self::from)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

/// Integers have no method here, so serde refuses them.
impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON without integers")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Json, E> {
        Ok(Json::Bool(bool))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number.to_bits()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            if object.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key {name:?} is there twice")));
            }
        }
        Ok(Json::Object(object))
    }
}
