//! `POST /v1/envelopes`: envelopes into the stream that ends in ClickHouse.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ponix_wire::now_ns;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{self, BatchAnswer, IdName};
use crate::auth::Credential;
use crate::body::{self, ContentType};
use crate::envelope::EnvelopeEncoder;
use crate::error::{ApiError, ErrorBody};
use crate::identity::idempotency_key;
use crate::openapi::{self, AcceptedWord, EnvelopeLines, ProtobufBody, Readings};
use crate::state::IngestState;
use crate::submission::Submission;

/// An envelope that JetStream has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnvelopeAccepted {
    /// The event's identity.
    event_id: Uuid,
    #[schema(inline, value_type = AcceptedWord)]
    status: &'static str,
    /// The stream had this event already; it is stored once.
    duplicate: bool,
}

/// The answer for one envelope, or for lines.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum EnvelopesAnswer {
    One(EnvelopeAccepted),
    Lines(BatchAnswer),
}

/// One envelope in JSON, as it is sent.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!(openapi::example_envelope()))]
#[expect(
    dead_code,
    reason = "describes the body; it is read without this struct"
)]
pub(crate) struct EnvelopeBody {
    /// The credential's own, or left out.
    organization_id: Option<String>,
    /// ASCII letters, digits, `_`, `-` or `:`.
    #[schema(
        example = "sensor-1",
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_:-]+$"
    )]
    end_device_id: String,
    /// RFC 3339, from 1970 to one day from now.
    #[schema(format = DateTime)]
    occurred_at: String,
    /// RFC 3339; the time of the request without.
    #[schema(format = DateTime)]
    processed_at: Option<String>,
    /// The readings, nothing without: an object of any shape, at most 32 levels deep, without integers beyond ±2^53.
    #[schema(value_type = Readings, required = false, example = json!({"temperature": 21.5}))]
    data: String,
    /// The event's identity; made from the `Idempotency-Key`, or new, without.
    event_id: Option<Uuid>,
}

/// Publish one envelope, or one per line.
///
/// The answer comes once JetStream has acknowledged. With an `event_id` or an `Idempotency-Key` a
/// request may be sent again and again: the event is stored once.
#[utoipa::path(
    post, path = "/v1/envelopes", operation_id = "post_envelopes", tag = "envelopes",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same key is the same event", pattern = "^[!-~]([ -~]{0,126}[!-~])?$")),
    request_body(content((EnvelopeBody = "application/json"), (EnvelopeLines = "application/x-ndjson"), (ProtobufBody = "application/x-protobuf"))),
    responses(
        (status = 202, description = "JetStream has it, or every line of NDJSON", body = EnvelopesAnswer),
        (status = 207, description = "NDJSON: some lines are taken, the others are wrong", body = BatchAnswer),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 403, description = "Another organization than the key's", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "The same key with another body", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 429, description = "Too many requests, lines or bytes per second", body = ErrorBody),
        (status = 503, description = "Outcome unknown or overloaded: send again with the same key", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn post(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let content_type = ContentType::of(&head.headers)?;
    let key = idempotency_key(&head.headers)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let submission = Submission {
        encoder: EnvelopeEncoder {
            subject_prefix: &state.config.stream,
            organization: &credential.organization,
            with_key: credential.key.is_some(),
            idempotency_key: key,
            keys_max: state.config.keys_max,
            now_ns: now_ns(),
            protobuf: content_type == ContentType::Protobuf,
        },
        destination: &state.stream,
        organization: &credential.organization,
        limits: &state.limits,
        tally: &state.metrics.envelopes,
    };
    if content_type == ContentType::NdJson {
        let lines = body::lines(&bytes, state.config.batch_lines_max)?;
        let lines = submission.lines(lines).await?;
        return Ok(answer::batch(lines, IdName::Event, StatusCode::ACCEPTED));
    }
    if bytes.is_empty() {
        return Err(ApiError::bad("empty_body", "the body is empty"));
    }
    let sent = submission.one(bytes).await?;
    let answer = EnvelopeAccepted {
        event_id: sent.id,
        status: "accepted",
        duplicate: sent.duplicate,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}
