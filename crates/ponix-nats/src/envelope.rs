//! What is special about streams of [`ProcessedEnvelope`]: subject, identity, decoding.

use async_nats::HeaderValue;
use bytes::Bytes;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{
    DecodeError, DecodeErrorKind, DecodedEnvelope, TokenError, decode_envelope_of, encode_token,
};
use prost::Message as _;
use uuid::Uuid;

use crate::delivery::Delivery;
use crate::processing_result::DeadLetter;
use crate::publisher::OutgoingMessage;
use ponix_wire::DeadLetterReason;

/// Header in which a publisher may say how the body is written.
pub const CONTENT_TYPE: &str = "Content-Type";

/// Makes the message that publishes an envelope on `<subject_prefix>.<device>`.
///
/// An envelope without an `event_id` gets a new UUIDv7, which also becomes the message's id.
///
/// # Errors
/// A device id that cannot be part of a subject.
pub fn envelope_message(
    subject_prefix: &str,
    mut envelope: ProcessedEnvelope,
) -> Result<OutgoingMessage, TokenError> {
    let token = encode_token(&envelope.end_device_id)?;
    let id = Uuid::try_parse(&envelope.event_id).unwrap_or_else(|_| Uuid::now_v7());
    if envelope.event_id.is_empty() {
        envelope.event_id = id.to_string();
    }
    Ok(OutgoingMessage {
        subject: format!("{subject_prefix}.{token}"),
        id: Some(id),
        headers: async_nats::HeaderMap::new(),
        payload: Bytes::from(envelope.encode_to_vec()),
    })
}

/// Decodes a delivered envelope and gives it its identity: the envelope's own `event_id`, else
/// the delivery's.
///
/// # Errors
/// What makes the message a dead letter, whichever worker reads it and however often.
pub fn decode_delivery(delivery: &Delivery) -> Result<(DecodedEnvelope, Uuid), DeadLetter> {
    let headers = delivery.headers();
    let content_type = headers.and_then(|headers| headers.get(CONTENT_TYPE));
    decode_message(
        delivery.payload(),
        content_type.map(HeaderValue::as_str),
        delivery.published_at_ns(),
        delivery.identity(),
    )
}

/// As [`decode_delivery`], of a message in parts; `content_type` is its header [`CONTENT_TYPE`].
///
/// # Errors
/// See [`decode_delivery`].
pub fn decode_message(
    payload: &[u8],
    content_type: Option<&str>,
    published_at_ns: i64,
    identity: Uuid,
) -> Result<(DecodedEnvelope, Uuid), DeadLetter> {
    let envelope = decode_envelope_of(payload, content_type, published_at_ns)
        .map_err(|err| dead_letter(&err))?;
    let event_id = envelope.event_id.unwrap_or(identity);
    Ok((envelope, event_id))
}

fn dead_letter(err: &DecodeError) -> DeadLetter {
    let reason = match err.kind() {
        DecodeErrorKind::MissingField => DeadLetterReason::MissingField,
        DecodeErrorKind::Value => DeadLetterReason::Value,
        DecodeErrorKind::Decode => DeadLetterReason::Decode,
    };
    DeadLetter {
        reason,
        error: ponix_wire::error_chain(err),
        event_id: None,
    }
}
