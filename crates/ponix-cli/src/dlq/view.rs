//! Dead letters as people and programs read them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use ponix_wire::Struct;
use ponix_wire::value::Kind;
use serde_json::{Map, Value, json};

use super::selection::{Letter, envelope};

/// Bytes of a body that is no text which are shown.
const HEX_BYTES_MAX: usize = 256;
const HEX_LINE: usize = 16;

/// Returns a time, nanoseconds since 1970, as RFC 3339.
pub(super) fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| nanoseconds.to_string(), |time| format!("{time:.3}"))
}

/// Returns a dead letter as an object; with its body in base64, from which it can be made again.
pub(super) fn json(letter: &Letter, with_bytes: bool) -> Value {
    let kept = &letter.kept;
    let headers: Map<_, _> = kept
        .headers
        .iter()
        .map(|(name, values)| {
            let values: Vec<_> = values.iter().map(|value| json!(value.as_str())).collect();
            let value = match &values[..] {
                [one] => one.clone(),
                _ => Value::Array(values),
            };
            (name.to_string(), value)
        })
        .collect();
    let mut object = json!({
        "pipeline": letter.pipeline,
        "sequence": kept.sequence,
        "kept_at": time(kept.kept_at_ns),
        "reason": kept.reason,
        "error": kept.error,
        "stream": kept.stream,
        "stream_sequence": kept.stream_sequence,
        "subject": kept.subject,
        "published_at": time(kept.published_at_ns),
        "deliveries": kept.deliveries,
        "identity": kept.identity().to_string(),
        "organization": letter.organization,
        "device": letter.device,
        "headers": headers,
        "headers_dropped": kept.headers_dropped,
        "bytes": letter.body.len(),
        "body": body(letter),
    });
    if with_bytes {
        object["body_base64"] = BASE64.encode(&letter.body).into();
    }
    object
}

/// Returns a dead letter as lines.
pub(super) fn text(letter: &Letter) -> String {
    let kept = &letter.kept;
    let mut text = format!(
        "dead letter {} of pipeline {}\n  kept       {}\n  reason     {}\n  error      {}\n",
        kept.sequence,
        letter.pipeline,
        time(kept.kept_at_ns),
        kept.reason,
        kept.error
    );
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    row("subject", &kept.subject);
    let from = format!(
        "{} #{}, published {}, delivered {} times",
        kept.stream,
        kept.stream_sequence,
        time(kept.published_at_ns),
        kept.deliveries
    );
    row("from", &from);
    row("identity", &kept.identity().to_string());
    let whose = [("org", &letter.organization), ("device", &letter.device)];
    for (name, value) in whose {
        row(name, value.as_deref().unwrap_or("unknown"));
    }
    for (name, values) in kept.headers.iter() {
        for value in values {
            row("header", &format!("{name}: {}", value.as_str()));
        }
    }
    if kept.headers_dropped {
        row("header", "the original ones were too large to be kept");
    }
    row("bytes", &letter.body.len().to_string());
    match body(letter) {
        Value::String(body) => {
            for line in body.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        body => {
            let pretty = serde_json::to_string_pretty(&body).unwrap_or_default();
            for line in pretty.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text.trim_end().to_owned()
}

/// Returns a body decoded as far as possible: JSON, an envelope's fields, text, or hexadecimal.
fn body(letter: &Letter) -> Value {
    let bytes = &letter.body[..];
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
