//! `format: envelope`.

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{
    DecodeErrorKind, DecodedEnvelope, Message as _, Struct, Timestamp, decode_envelope,
    json_to_struct, timestamp_from_rfc3339,
};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{DecodeError, FieldMap, Message, Reason};

fn decode(message: &Message<'_>) -> Result<DecodedEnvelope, DecodeError> {
    decode_envelope(message.payload, message.published_at_ns).map_err(|err| {
        let reason = match err.kind() {
            DecodeErrorKind::Decode => Reason::Decode,
            DecodeErrorKind::MissingField => Reason::MissingField,
            DecodeErrorKind::Value => Reason::Value,
        };
        DecodeError::new(reason, ponix_wire::error_chain(&err))
    })
}

/// The fields of envelopes: `organization_id`, `end_device_id`, `occurred_at`, `processed_at`, `data`.
#[derive(Debug)]
pub(super) struct EnvelopeFields;

impl EnvelopeFields {
    #[expect(clippy::unused_self, reason = "as the other formats")]
    pub(super) fn decode(&self, message: &Message<'_>) -> Result<(FieldMap, Uuid), DecodeError> {
        let envelope = decode(message)?;
        let data = serde_json::from_str(&envelope.data_json)
            .map_err(|err| DecodeError::new(Reason::Value, format!("data: {err}")))?;
        let fields = [
            ("organization_id", Json::String(envelope.organization_id)),
            ("end_device_id", Json::String(envelope.end_device_id)),
            (
                "occurred_at",
                Json::String(rfc3339(envelope.occurred_at_ns)),
            ),
            (
                "processed_at",
                Json::String(rfc3339(envelope.processed_at_ns)),
            ),
            ("data", data),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        Ok((
            fields.into_iter().collect(),
            envelope.event_id.unwrap_or(message.identity),
        ))
    }

    #[expect(clippy::unused_self, reason = "as the other formats")]
    pub(super) fn encode(&self, fields: &Json) -> Result<Vec<u8>, String> {
        let text = |name: &str| match &fields[name] {
            Json::Null => Ok(String::new()),
            Json::String(text) => Ok(text.clone()),
            _ => Err(format!("{name} is not a text")),
        };
        let time = |name: &'static str| -> Result<Option<Timestamp>, String> {
            let text = text(name)?;
            let time = (!text.is_empty()).then(|| timestamp_from_rfc3339(name, &text));
            time.transpose().map_err(|err| err.to_string())
        };
        let data: Option<Result<Struct, String>> = match &fields["data"] {
            Json::Null => None,
            Json::Object(data) => Some(json_to_struct(data).map_err(|err| err.to_string())),
            _ => Some(Err("data is not a mapping".to_owned())),
        };
        let envelope = ProcessedEnvelope {
            organization_id: text("organization_id")?,
            end_device_id: text("end_device_id")?,
            occurred_at: time("occurred_at")?,
            data: data.transpose()?,
            processed_at: time("processed_at")?,
            event_id: text("event_id")?,
        };
        Ok(envelope.encode_to_vec())
    }
}

/// A time in UTC.
pub(crate) fn rfc3339(ns: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ns));
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.expect("every 64 bits of nanoseconds are a time of the years 1677 to 2262")
}
