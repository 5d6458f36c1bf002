//! `POST /v1/envelopes`: envelopes into the stream that ends in ClickHouse.

use std::time::SystemTime;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Credential;
use crate::body::{self, ContentType};
use crate::envelope::{self, Context};
use crate::error::{ApiError, ErrorBody};
use crate::openapi::{ObjectLines, Readings};
use crate::publish::{id_of_key, idempotency_key};
use crate::state::{Counts, IngestState};

/// Envelopes of one request that wait for their PubAck at the same time.
pub(crate) const IN_FLIGHT_PER_REQUEST: usize = 512;

/// An envelope that JetStream has.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnvelopeAccepted {
    /// The event's identity.
    event_id: Uuid,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: &'static str,
    /// The stream had this event already; it is stored once.
    duplicate: bool,
}

/// What became of the lines of an NDJSON body.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnvelopesAccepted {
    /// Lines that JetStream has.
    accepted: usize,
    /// Lines that it does not have, or of which nobody knows.
    failed: usize,
    /// One result per line that is not empty, in the order of the lines.
    results: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineResult {
    /// The line, counted from 1.
    line: usize,
    /// The event's identity, when it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// One envelope in JSON, as it is sent.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes the body; it is read without this struct"
)]
pub struct EnvelopeBody {
    /// The credential's own, or left out.
    #[schema(example = "example-org")]
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
    #[schema(example = "2026-03-01T12:00:00Z", format = DateTime)]
    occurred_at: String,
    /// RFC 3339; the time of the request without.
    #[schema(format = DateTime)]
    processed_at: Option<String>,
    /// The readings: an object of any shape, at most 32 levels deep, without integers beyond ±2^53.
    #[schema(value_type = Readings, example = json!({"temperature": 21.5}))]
    data: String,
    /// The event's identity; made from the `Idempotency-Key`, or new, without.
    event_id: Option<Uuid>,
}

/// Publish one envelope, or one per line.
///
/// The answer comes once JetStream has acknowledged. With an `event_id` or an `Idempotency-Key` a
/// request may be sent again and again: the event is stored once.
#[utoipa::path(
    post, path = "/v1/envelopes", tag = "envelopes",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same key is the same event", pattern = "^[!-~]([ -~]{0,126}[!-~])?$")),
    request_body(content((EnvelopeBody = "application/json"), (ObjectLines = "application/x-ndjson"), (Vec<u8> = "application/x-protobuf"))),
    responses(
        (status = 202, description = "JetStream has it. For NDJSON: accepted, failed, and a result per line", body = EnvelopeAccepted),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 403, description = "Another organization than the key's", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "The same key with another body", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 429, description = "Too many requests per second", body = ErrorBody),
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
    let sender = Sender {
        state: &state,
        organization: &credential.organization,
        key,
        now_ns: now_ns(),
    };
    match content_type {
        ContentType::NdJson => sender.lines(&bytes).await,
        _ if bytes.is_empty() => Err(ApiError::bad("empty_body", "the body is empty")),
        one => {
            let accepted = sender.one(one, &bytes, 0).await?;
            Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
        }
    }
}

struct Sender<'a> {
    state: &'a IngestState,
    organization: &'a str,
    key: Option<&'a str>,
    now_ns: i64,
}

impl Sender<'_> {
    async fn one(
        &self,
        content_type: ContentType,
        bytes: &[u8],
        line: u64,
    ) -> Result<EnvelopeAccepted, ApiError> {
        let context = Context {
            subject_prefix: &self.state.config.stream,
            organization: self.organization,
            fallback_id: self.key.map(|key| id_of_key(self.organization, key, line)),
            keys_max: self.state.config.keys_max,
            now_ns: self.now_ns,
        };
        let counts = &self.state.counts;
        let read = match content_type {
            ContentType::Protobuf => envelope::from_protobuf(bytes, context),
            _ => envelope::from_json(bytes, context),
        };
        let published = match read {
            Ok(accepted) => {
                let event_id = accepted.event_id;
                let source = accepted.id_given.then_some(bytes);
                let publishing = &self.state.publishing;
                let published = publishing.publish(event_id, accepted.message, source).await;
                published.map(|duplicate| (event_id, duplicate))
            }
            Err(err) => Err(err),
        };
        match published {
            Ok((event_id, duplicate)) => {
                self.state.metrics.accepted.inc();
                if duplicate {
                    self.state.metrics.duplicates.inc();
                }
                Counts::add(&counts.accepted, 1);
                Counts::add(&counts.duplicates, u64::from(duplicate));
                Ok(EnvelopeAccepted {
                    event_id,
                    status: "accepted",
                    duplicate,
                })
            }
            Err(err) => {
                Counts::add(&counts.refused, 1);
                self.state.metrics.refused.inc();
                Err(err)
            }
        }
    }

    async fn line(&self, index: usize, bytes: Bytes) -> LineResult {
        let sent = self.one(ContentType::Json, &bytes, index as u64 + 1).await;
        let (event_id, error) = match sent {
            Ok(accepted) => (Some(accepted.event_id), None),
            Err(err) => (None, Some(err.body())),
        };
        LineResult {
            line: index + 1,
            event_id,
            error,
        }
    }

    async fn lines(&self, bytes: &Bytes) -> Result<Response, ApiError> {
        let lines = body::lines(bytes, self.state.config.batch_lines_max)?;
        let sent = lines
            .into_iter()
            .map(|(index, line)| self.line(index, line));
        let results: Vec<LineResult> = stream::iter(sent)
            .buffered(IN_FLIGHT_PER_REQUEST)
            .collect()
            .await;
        let accepted = results
            .iter()
            .filter(|line| line.event_id.is_some())
            .count();
        let failed = results.len() - accepted;
        let answer = EnvelopesAccepted {
            accepted,
            failed,
            results,
        };
        Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock of the machine"
)]
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}
