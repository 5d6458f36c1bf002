//! One line of the file: a JSON object that is an event.

use ponix_wire::TokenError;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{
    ConversionError, DEVICE_ID_BYTES_MAX, EnvelopeBuilder, is_plain_device_id, json_to_struct,
    timestamp_from_ns, timestamp_from_rfc3339,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The longest line accepted, in bytes: what a NATS server takes in a message by default.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// Why a line is no event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    #[error("more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("not an event in JSON: {0}")]
    Json(String),
    #[error("event_id is not a UUID")]
    EventId,
    #[error(transparent)]
    Value(#[from] ConversionError),
    #[error(
        "end_device_id must have 1 to {DEVICE_ID_BYTES_MAX} ASCII letters, digits, '_', '-' or ':'"
    )]
    DeviceId,
    #[error("end_device_id cannot be part of a subject")]
    Device(#[source] TokenError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    organization_id: String,
    end_device_id: String,
    occurred_at: String,
    data: Map<String, Value>,
    event_id: Option<String>,
}

/// Makes the event of a line, processed at `now_ns`.
pub(super) fn parse(line: &[u8], now_ns: i64) -> Result<ProcessedEnvelope, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    let line: Line =
        serde_json::from_slice(line).map_err(|error| LineError::Json(error.to_string()))?;
    if !is_plain_device_id(&line.end_device_id) {
        return Err(LineError::DeviceId);
    }
    let occurred_at = timestamp_from_rfc3339("occurred_at", &line.occurred_at)?;
    let data = json_to_struct(&line.data)?;
    let mut envelope =
        EnvelopeBuilder::new(line.organization_id, line.end_device_id, occurred_at, data);
    if let Some(event_id) = line.event_id {
        envelope = envelope.event_id(Uuid::try_parse(&event_id).map_err(|_| LineError::EventId)?);
    }
    Ok(envelope.build(timestamp_from_ns(now_ns))?)
}

#[cfg(test)]
mod tests {
    use ponix_wire::{ConversionError, Message as _, decode_envelope};

    use super::{LINE_BYTES_MAX, LineError, parse};

    const NOW_NS: i64 = 1_772_366_400_000_000_000;

    fn line(occurred_at: &str, data: &str, more: &str) -> String {
        format!(
            r#"{{"organization_id":"org","end_device_id":"dev","occurred_at":"{occurred_at}","data":{data}{more}}}"#
        )
    }

    fn refused(line: &str) -> LineError {
        parse(line.as_bytes(), NOW_NS).unwrap_err()
    }

    #[test]
    fn a_line_becomes_an_event_that_can_be_stored() {
        let line = line("2026-03-01T11:59:59.5Z", r#"{"t":[1,0.1,{"a":null}]}"#, "");
        let payload = parse(line.as_bytes(), NOW_NS).unwrap().encode_to_vec();
        let decoded = decode_envelope(&payload, NOW_NS).unwrap();
        assert_eq!(decoded.occurred_at_ns, NOW_NS - 500_000_000);
        assert_eq!(decoded.processed_at_ns, NOW_NS);
        assert_eq!(decoded.data_json, r#"{"t":[1.0,0.1,{"a":null}]}"#);
        assert_eq!(decoded.event_id.unwrap().get_version_num(), 7);
    }

    #[test]
    fn an_event_keeps_the_id_it_has() {
        let id = "0195517c-2d5c-7d2a-8f5e-3b1d2c4a5e6f";
        let more = format!(r#","event_id":"{id}""#);
        let envelope = parse(line("2026-03-01T12:00:00Z", "{}", &more).as_bytes(), NOW_NS).unwrap();
        assert_eq!(envelope.event_id, id);
        let error = refused(&line("2026-03-01T12:00:00Z", "{}", r#","event_id":"7""#));
        assert_eq!(error, LineError::EventId);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        let now = "2026-03-01T12:00:00Z";
        let says = |line: &str| refused(line).to_string();
        assert!(says("{").contains("EOF while parsing"));
        assert!(says("[]").starts_with("not an event in JSON"));
        assert!(says(&line(now, "{}", r#","occured_at":1"#)).contains("unknown field"));
        assert!(says(r#"{"organization_id":"o"}"#).contains("missing field"));
        assert!(says(&line("yesterday", "{}", "")).starts_with("occurred_at is not an RFC 3339"));
        let integer = refused(&line(now, r#"{"n":9007199254740993}"#, ""));
        let field = "data.n".to_owned();
        assert_eq!(
            integer,
            LineError::Value(ConversionError::IntegerNotExact { field })
        );
        assert_eq!(refused(&" ".repeat(LINE_BYTES_MAX + 1)), LineError::TooLong);
    }
}
