//! `POST /v1/…`: documents into the stream of a declared pipeline.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ponix_wire::encode_token;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::{self, BatchAnswer, IdName};
use crate::auth::Credential;
use crate::body;
use crate::document::DocumentEncoder;
use crate::error::{ApiError, ErrorBody};
use crate::identity::idempotency_key;
use crate::metrics::Tally;
use crate::openapi::{AcceptedWord, Document, ObjectLines};
use crate::state::IngestState;
use crate::stream::Stream;
use crate::submission::Submission;

/// Paths of doors begin with it.
const PATH_PREFIX: &str = "/v1/";
/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 128;
/// Last token of the subject for organizations whose name is too long for one.
const OTHER_ORGANIZATION: &str = "other";

/// Where the documents of a door go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorConfig {
    /// The pipeline's name, for metrics and the description.
    pub pipeline: String,
    /// The stream, which must be there: nothing is published into another one.
    pub stream: String,
    /// First tokens of the subjects; the organization is the last one. The stream must take
    /// `<subject_prefix>.*`.
    pub subject_prefix: String,
}

/// Why there cannot be such a door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// The path cannot be served.
    #[error(
        "the path {path:?} cannot be a door: write /v1/ and then lower case letters, digits, '-', '_' and '/', 128 bytes at most"
    )]
    Path {
        /// The path, as it was given.
        path: String,
    },
    /// Something else is behind the path.
    #[error("the path {path} is taken")]
    Taken {
        /// The path.
        path: String,
    },
}

/// A door and what it needs.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) path: String,
    pub(crate) config: DoorConfig,
    /// Ids mean something in one stream only: a memory of its own.
    pub(crate) stream: Stream,
    pub(crate) tally: Tally,
}

/// A document that JetStream has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentAccepted {
    /// The message's identity.
    message_id: Uuid,
    #[schema(inline, value_type = AcceptedWord)]
    status: &'static str,
    /// The stream had this message already; it is stored once.
    duplicate: bool,
}

/// The answer for one document, or for lines.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum DocumentsAnswer {
    One(DocumentAccepted),
    Lines(BatchAnswer),
}

/// Checks the path of a door.
///
/// # Errors
/// See [`DoorError`].
pub(crate) fn check_path(path: &str, taken: &[Arc<Door>]) -> Result<(), DoorError> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let segment = |text: &str| !text.is_empty() && text.bytes().all(plain);
    let rest = path.strip_prefix(PATH_PREFIX);
    if path.len() > PATH_BYTES_MAX || !rest.is_some_and(|rest| rest.split('/').all(segment)) {
        let path = path.to_owned();
        return Err(DoorError::Path { path });
    }
    if path == "/v1/envelopes" || taken.iter().any(|door| door.path == path) {
        let path = path.to_owned();
        return Err(DoorError::Taken { path });
    }
    Ok(())
}

/// Send one document, or one per line.
///
/// The answer comes once JetStream has acknowledged. With an `Idempotency-Key` a request may be sent
/// again and again: the document is stored once.
#[utoipa::path(
    post, path = "/v1/{door}", operation_id = "post_document", tag = "pipelines",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same key is the same document", pattern = "^[!-~]([ -~]{0,126}[!-~])?$")),
    request_body(content((Document = "application/json"), (ObjectLines = "application/x-ndjson"))),
    responses(
        (status = 202, description = "JetStream has it, or every line of NDJSON", body = DocumentsAnswer),
        (status = 207, description = "NDJSON: some lines are taken, the others are wrong", body = BatchAnswer),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
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
    Extension(door): Extension<Arc<Door>>,
    Extension(credential): Extension<Credential>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let many = match body::essence(&head.headers).as_str() {
        "application/json" => false,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => true,
        _ => {
            let message = "send Content-Type application/json or application/x-ndjson";
            return Err(body::unsupported(message));
        }
    };
    let key = idempotency_key(&head.headers)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let token = encode_token(&credential.organization);
    let token = token.as_deref().unwrap_or(OTHER_ORGANIZATION);
    let submission = Submission {
        encoder: DocumentEncoder {
            subject: &format!("{}.{token}", door.config.subject_prefix),
            stream: &door.config.stream,
            organization: &credential.organization,
            idempotency_key: key,
            keys_max: state.config.keys_max,
        },
        destination: &door.stream,
        organization: &credential.organization,
        limits: &state.limits,
        tally: &door.tally,
    };
    if many {
        let lines = body::lines(&bytes, state.config.batch_lines_max)?;
        let lines = submission.lines(lines).await?;
        return Ok(answer::batch(lines, IdName::Message, StatusCode::ACCEPTED));
    }
    let document = bytes.slice_ref(bytes.trim_ascii());
    if document.is_empty() {
        return Err(ApiError::bad("empty_body", "the body is empty"));
    }
    let sent = submission.one(document).await?;
    let answer = DocumentAccepted {
        message_id: sent.id,
        status: "accepted",
        duplicate: sent.duplicate,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_have_plain_paths_under_v1() {
        assert_eq!(check_path("/v1/meter-readings/raw_2", &[]), Ok(()));
        for wrong in [
            "", "/", "/v1", "/v1/", "/v2/a", "/v1/a/", "/v1//a", "/v1/{a}", "/v1/A", "/v1/é",
        ] {
            let error = check_path(wrong, &[]).unwrap_err();
            assert!(matches!(error, DoorError::Path { .. }), "{wrong}");
        }
        let taken = check_path("/v1/envelopes", &[]).unwrap_err();
        assert_eq!(taken.to_string(), "the path /v1/envelopes is taken");
    }
}
