//! Dead letters as people and programs read them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::selection::Letter;
use crate::payload::{self, time};

/// Returns a dead letter as an object; with its body in base64, from which it can be made again.
pub fn json(letter: &Letter, with_bytes: bool) -> Value {
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
        "index": kept.index,
        "subject": kept.subject,
        "published_at": time(kept.published_at_ns),
        "deliveries": kept.deliveries,
        "identity": kept.identity().to_string(),
        "organization": letter.organization,
        "device": letter.device,
        "headers": headers,
        "headers_dropped": kept.headers_dropped,
        "bytes": letter.body.len(),
        "body": payload::shown(&letter.body),
    });
    if with_bytes {
        object["body_base64"] = BASE64.encode(&letter.body).into();
    }
    object
}

/// Returns a dead letter as lines.
pub fn text(letter: &Letter) -> String {
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
        "{} #{}{}, published {}, delivered {} times",
        kept.stream,
        kept.stream_sequence,
        kept.index
            .map(|index| format!(", event {index} of a packed message"))
            .unwrap_or_default(),
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
    match payload::shown(&letter.body) {
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
