//! Bodies of messages as people and programs read them.

use std::fmt::Write as _;

use jiff::Timestamp;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::value::Kind;
use ponix_wire::{Message as _, Struct};
use serde_json::{Map, Value, json};

/// Bytes of a body that is no text which are shown.
const HEX_BYTES_MAX: usize = 256;
const HEX_LINE: usize = 16;

/// Returns a time, nanoseconds since 1970, as RFC 3339.
pub fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| nanoseconds.to_string(), |time| format!("{time:.3}"))
}

/// Reads a body as an envelope, if it is one.
pub fn envelope(body: &[u8]) -> Option<ProcessedEnvelope> {
    let envelope = ProcessedEnvelope::decode(body).ok()?;
    (!envelope.organization_id.is_empty() && !envelope.end_device_id.is_empty()).then_some(envelope)
}

/// Returns a body decoded as far as possible: JSON, an envelope's fields, text, or hexadecimal.
pub fn shown(bytes: &[u8]) -> Value {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let is_text = !text.chars().any(|c| c.is_control() && !c.is_whitespace());
        if let Ok(value) = serde_json::from_str::<Value>(text)
            && (value.is_object() || value.is_array())
        {
            return value;
        }
        if is_text && envelope(bytes).is_none() {
            return text.into();
        }
    }
    let Some(envelope) = envelope(bytes) else {
        return hex(bytes).into();
    };
    let timestamp = |time: &Option<ponix_wire::Timestamp>| {
        time.as_ref().and_then(|time| {
            let time = Timestamp::new(time.seconds, time.nanos).ok()?;
            Some(time.to_string())
        })
    };
    json!({
        "event_id": envelope.event_id,
        "organization_id": envelope.organization_id,
        "end_device_id": envelope.end_device_id,
        "occurred_at": timestamp(&envelope.occurred_at),
        "processed_at": timestamp(&envelope.processed_at),
        "data": envelope.data.map(object),
    })
}

/// Returns the readings as they are, what cannot be stored included.
fn object(data: Struct) -> Value {
    data.fields
        .into_iter()
        .map(|(name, value)| (name, reading(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn reading(value: ponix_wire::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        // What JSON has no number for stands as a word.
        Some(Kind::NumberValue(number)) => serde_json::Number::from_f64(number)
            .map_or_else(|| number.to_string().into(), Value::from),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StructValue(inner)) => object(inner),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(reading).collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes[..bytes.len().min(HEX_BYTES_MAX)].chunks(HEX_LINE) {
        for byte in line {
            let _ = write!(text, "{byte:02x} ");
        }
        for _ in line.len()..HEX_LINE {
            text.push_str("   ");
        }
        text.push(' ');
        text.extend(line.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        }));
        text.push('\n');
    }
    if bytes.len() > HEX_BYTES_MAX {
        let _ = write!(text, "… {} bytes more", bytes.len() - HEX_BYTES_MAX);
    }
    text.trim_end().to_owned()
}
