//! One envelope of a body: strict, so that nothing is accepted that could not be stored.

use bytes::Bytes;
use ponix_nats::{OutgoingMessage, envelope_message};
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{
    DEVICE_ID_BYTES_MAX, EnvelopeBuilder, JsonEnvelope, Message as _, Timestamp, check_envelope,
    envelope_problems, is_plain_device_id, timestamp_from_ns, timestamp_from_rfc3339,
};
use uuid::Uuid;

use crate::error::ApiError;
use crate::identity::{id_of_key, own_id};
use crate::memory::content_hash;
use crate::submission::{Checked, Encode};

/// Makes messages of envelopes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnvelopeEncoder<'a> {
    /// First token of the subject.
    pub(crate) subject_prefix: &'a str,
    /// Whose credential it is.
    pub(crate) organization: &'a str,
    /// Whether there is a credential: without one, an event may name any organization.
    pub(crate) with_key: bool,
    /// Stands for the id of an envelope that has none.
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) keys_max: usize,
    pub(crate) now_ns: i64,
    /// Protobuf, not JSON.
    pub(crate) protobuf: bool,
}

impl Encode for EnvelopeEncoder<'_> {
    type Message = OutgoingMessage;

    fn encode(&self, payload: Bytes, line: usize) -> Result<Checked<OutgoingMessage>, ApiError> {
        let by_key = |key| id_of_key(self.organization, key, line as u64);
        let context = Context {
            encoder: self,
            fallback_id: self.idempotency_key.map(by_key),
        };
        let read = if self.protobuf {
            from_protobuf(&payload, context)
        } else {
            from_json(&payload, context)
        };
        let (given, organization, message) =
            read.map_err(|first| first.with_all(problems(&payload, context)))?;
        let organization = organization.as_str();
        let id = message.id.unwrap_or_default();
        let chosen = given.or(context.fallback_id).is_some();
        Ok(Checked {
            id,
            key: given.map_or(id, |given| own_id(organization, given)),
            content: chosen.then(|| content_hash(&payload)),
            message,
        })
    }
}

#[derive(Clone, Copy)]
struct Context<'a> {
    encoder: &'a EnvelopeEncoder<'a>,
    /// The id for an envelope that has none.
    fallback_id: Option<Uuid>,
}

/// The id that the client gave, whose event it is, and the message.
type Accepted = (Option<Uuid>, String, OutgoingMessage);

/// Reads an envelope in JSON.
///
/// # Errors
/// What is wrong, with the field.
fn from_json(text: &[u8], context: Context<'_>) -> Result<Accepted, ApiError> {
    let members = JsonEnvelope::read(text, context.encoder.keys_max)?;
    let now = timestamp_from_ns(context.encoder.now_ns);
    let time = |field, text: &str| timestamp_from_rfc3339(field, text).map_err(ApiError::from);
    let processed_at: Timestamp = match &members.processed_at {
        Some(text) => time("processed_at", text)?,
        None => now,
    };
    let organization = own_organization(members.organization_id, context)?;
    let mut builder = EnvelopeBuilder::new(
        organization,
        members.end_device_id,
        time("occurred_at", &members.occurred_at)?,
        members.data,
    );
    let given = members
        .event_id
        .as_deref()
        .map(event_id)
        .transpose()?
        .flatten();
    let id = given.or(context.fallback_id);
    if let Some(id) = id {
        builder = builder.event_id(id);
    }
    accept(builder.build(processed_at)?, given, context)
}

/// Reads an envelope in protobuf.
///
/// # Errors
/// What is wrong, with the field.
fn from_protobuf(bytes: &[u8], context: Context<'_>) -> Result<Accepted, ApiError> {
    let mut envelope = ProcessedEnvelope::decode(bytes)
        .map_err(|err| ApiError::bad("invalid_protobuf", err.to_string()))?;
    let named = Some(std::mem::take(&mut envelope.organization_id)).filter(|name| !name.is_empty());
    envelope.organization_id = own_organization(named, context)?;
    // Protobuf has no other word for nothing than the empty text.
    let given = Some(envelope.event_id.as_str()).filter(|text| !text.is_empty());
    let given = given.map(event_id).transpose()?.flatten();
    let id = given.or(context.fallback_id);
    envelope.event_id = id.unwrap_or_else(Uuid::now_v7).to_string();
    if envelope.processed_at.is_none() {
        envelope.processed_at = Some(timestamp_from_ns(context.encoder.now_ns));
    }
    accept(envelope, given, context)
}

/// Everything that is wrong with a body, which is looked at again for it.
fn problems(payload: &[u8], context: Context<'_>) -> Vec<ApiError> {
    let mut found = Vec::new();
    let envelope = if context.encoder.protobuf {
        ProcessedEnvelope::decode(payload).ok()
    } else {
        json_problems(payload, context, &mut found)
    };
    let Some(mut envelope) = envelope else {
        return found;
    };
    let named = Some(std::mem::take(&mut envelope.organization_id)).filter(|name| !name.is_empty());
    match own_organization(named, context) {
        Ok(own) => envelope.organization_id = own,
        Err(err) => found.push(err),
    }
    if envelope.processed_at.is_none() {
        envelope.processed_at = Some(timestamp_from_ns(context.encoder.now_ns));
    }
    found.extend(check_device_id(&envelope.end_device_id).err());
    let others = envelope_problems(&envelope, context.encoder.now_ns);
    found.extend(others.into_iter().map(ApiError::from));
    found
}

/// What of an envelope in JSON could be read; a time that is wrong is told and stands for now.
fn json_problems(
    text: &[u8],
    context: Context<'_>,
    found: &mut Vec<ApiError>,
) -> Option<ProcessedEnvelope> {
    let (read, wrong) = JsonEnvelope::read_all(text, context.encoder.keys_max);
    found.extend(wrong.into_iter().map(ApiError::from));
    let read = read?;
    let mut time = |field, text: Option<&str>| {
        let now = timestamp_from_ns(context.encoder.now_ns);
        let read = text.map_or(Ok(now), |text| timestamp_from_rfc3339(field, text));
        Some(read.unwrap_or_else(|err| {
            found.push(err.into());
            now
        }))
    };
    let occurred_at = time("occurred_at", Some(&read.occurred_at));
    let processed_at = time("processed_at", read.processed_at.as_deref());
    let id = read.event_id.as_deref().map(event_id).transpose();
    found.extend(id.err());
    Some(ProcessedEnvelope {
        occurred_at,
        processed_at,
        organization_id: read.organization_id.unwrap_or_default(),
        end_device_id: read.end_device_id,
        data: Some(read.data),
        event_id: read.event_id.unwrap_or_default(),
    })
}

/// The last check is the worker's own: what passes it is never a dead letter for its content.
fn accept(
    envelope: ProcessedEnvelope,
    given: Option<Uuid>,
    context: Context<'_>,
) -> Result<Accepted, ApiError> {
    check_device_id(&envelope.end_device_id)?;
    check_envelope(&envelope, context.encoder.now_ns)?;
    let organization = envelope.organization_id.clone();
    let message = envelope_message(context.encoder.subject_prefix, envelope)
        .map_err(|err| ApiError::bad("invalid_value", err.to_string()).at("end_device_id"))?;
    Ok((given, organization, message))
}

fn own_organization(named: Option<String>, context: Context<'_>) -> Result<String, ApiError> {
    match named {
        Some(named) if !context.encoder.with_key => Ok(named),
        Some(named) if named != context.encoder.organization => Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            "wrong_organization",
            "the envelope names another organization than the credential's",
        )
        .at("organization_id")),
        _ => Ok(context.encoder.organization.to_owned()),
    }
}

/// The id a client gives; a nil one is none.
fn event_id(text: &str) -> Result<Option<Uuid>, ApiError> {
    match Uuid::try_parse(text) {
        Ok(id) => Ok(Some(id).filter(|id| !id.is_nil())),
        Err(_) => Err(ApiError::bad("invalid_value", "event_id is not a UUID").at("event_id")),
    }
}

fn check_device_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() {
        return Err(ApiError::bad("missing_field", "end_device_id is missing").at("end_device_id"));
    }
    if !is_plain_device_id(id) {
        let message = format!(
            "end_device_id must have 1 to {DEVICE_ID_BYTES_MAX} ASCII letters, digits, '_', '-' or ':'"
        );
        return Err(ApiError::bad("invalid_value", message).at("end_device_id"));
    }
    Ok(())
}
