//! `/ingest/…`: raw messages into the stream that ends in PostgreSQL, and their status.

pub(crate) mod correction;
mod destination;
pub(crate) mod list;
mod query;
pub(crate) mod waiting;

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ponix_wire::{
    message::{Format, MessageStatus},
    now_ns,
};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use self::query::Query;
use crate::answer::{self, BatchAnswer, IdName};
use crate::auth::Credential;
use crate::body;
use crate::error::{ApiError, ErrorBody};
use crate::identity::idempotency_key;
use crate::message::MessageEncoder;
use crate::openapi::{
    MessageLine, MessageLines, MessageObject, MessageObjectLines, TakenWord, UnknownWord,
};
use crate::router::ClientAddress;
use crate::state::{IngestState, Messages};
use crate::submission::{Refusal, Submission};

/// Pause between the first two looks at a status that is waited for; it doubles up to the longest.
const STATUS_PAUSE: Duration = Duration::from_millis(50);
/// Longest of these pauses.
const STATUS_PAUSE_MAX: Duration = Duration::from_millis(500);

/// A message that JetStream has, or the database in the synchronous mode.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageAccepted {
    /// The message's identity: ask for its status with it.
    message_id: Uuid,
    #[schema(inline, value_type = TakenWord)]
    status: &'static str,
    /// When it came in.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

/// The answer for a message that nobody knows, or that is another organization's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnknownStatus {
    /// As it was asked for.
    message_id: Uuid,
    #[schema(inline, value_type = UnknownWord)]
    status: &'static str,
}

/// What became of a message so far.
#[derive(Debug, ToSchema)]
#[schema(as = MessageStatus)]
#[expect(
    dead_code,
    reason = "describes the answer; it is written without this struct"
)]
pub(crate) struct StatusBody {
    /// The message's identity.
    message_id: Uuid,
    /// How far it has come.
    status: StatusName,
    /// The entity it holds, where that is known.
    #[schema(required)]
    entity_type: Option<String>,
    /// When it came in.
    received_at: OffsetDateTime,
    /// When it reached a final status.
    #[schema(required)]
    processed_at: Option<OffsetDateTime>,
    /// Why it is where it is, if not all is well.
    #[schema(required)]
    error: Option<String>,
    /// How often it was delivered again.
    retry_count: u32,
}

/// How far a message has come: `processed`, `failed` and `dead_letter` are final.
#[derive(Debug, ToSchema)]
#[schema(as = Status, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the answer")]
pub(crate) enum StatusName {
    Accepted,
    Processing,
    Processed,
    Failed,
    DeadLetter,
}

/// Send one raw message.
///
/// The answer comes once JetStream has acknowledged. With an `Idempotency-Key`, or a `message_id` in
/// a JSON message, a request may be sent again and again: the message is stored once. One that failed
/// may be corrected: sent again under its id with another content. With `check=true` all of it is checked
/// that can be without the database, and a wrong message is refused; otherwise its status tells.
#[utoipa::path(
    post, path = "/ingest/message", operation_id = "post_message", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same key is the same message", pattern = "^[!-~]([ -~]{0,126}[!-~])?$"),
        ("entity" = Option<String>, Query, description = "The entity that the message holds", pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"),
        ("check" = Option<bool>, Query, description = "Check all of the message first"),
    ),
    request_body(content((MessageLine = "text/plain"), (MessageObject = "application/json"))),
    responses(
        (status = 200, description = "Synchronous mode: the database has it", body = MessageAccepted),
        (status = 202, description = "JetStream has it", body = MessageAccepted),
        (status = 400, description = "The message is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "The same id with another message", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 422, description = "There is no such entity", body = ErrorBody),
        (status = 429, description = "Too many requests, lines or bytes per second", body = ErrorBody),
        (status = 503, description = "Outcome unknown or overloaded: send again with the same key", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn post(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    Extension(address): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["entity", "check"])?;
    let (head, body) = request.into_parts();
    let format = match body::essence(&head.headers).as_str() {
        "text/plain" => Format::Line,
        "application/json" => Format::Json,
        _ => {
            let message = "send Content-Type text/plain or application/json";
            return Err(body::unsupported(message));
        }
    };
    let submission = submission(&state, &credential, address, &head, &query, format)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let line = bytes.slice_ref(bytes.trim_ascii());
    if line.is_empty() {
        return Err(ApiError::bad("empty_body", "the body is empty"));
    }
    let mut sent = [(0, submission.one(line.clone()).await)];
    correction::take(&state, &submission, &[(0, line)], 0, &mut sent).await;
    let [(_, sent)] = sent;
    let sent = sent?;
    let (status_code, status) = submission.destination.success();
    let answer = MessageAccepted {
        message_id: sent.id,
        status,
        timestamp: submission.encoder.received_at,
    };
    Ok((status_code, Json(answer)).into_response())
}

/// Send many raw messages, one per line.
///
/// Every line stands for itself: bad ones are told, the others are taken. With `atomic=true` nothing
/// is taken when a line is wrong: everything is checked that can be without the database.
#[utoipa::path(
    post, path = "/ingest/batch", operation_id = "post_batch", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same line under the same key is the same message", pattern = "^[!-~]([ -~]{0,126}[!-~])?$"),
        ("entity" = Option<String>, Query, description = "The entity that the messages hold", pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"),
        ("atomic" = Option<bool>, Query, description = "All or nothing"),
    ),
    request_body(content((MessageLines = "text/plain"), (MessageObjectLines = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Synchronous mode: the database has every line", body = BatchAnswer),
        (status = 202, description = "JetStream has every line", body = BatchAnswer),
        (status = 207, description = "Some lines are taken, the others are wrong", body = BatchAnswer),
        (status = 400, description = "The body is wrong, or with atomic a line", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "With atomic: the same id with another message", body = ErrorBody),
        (status = 413, description = "Too large, or too many lines", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 422, description = "No line is of a known entity, or with atomic one is not", body = ErrorBody),
        (status = 429, description = "Too many requests, lines or bytes per second", body = ErrorBody),
        (status = 503, description = "Outcome unknown or overloaded: send again with the same key", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn batch(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    Extension(address): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["entity", "atomic"])?;
    let (head, body) = request.into_parts();
    let format = match body::essence(&head.headers).as_str() {
        "text/plain" => Format::Line,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Json,
        _ => {
            let message = "send Content-Type text/plain or application/x-ndjson";
            return Err(body::unsupported(message));
        }
    };
    let submission = submission(&state, &credential, address, &head, &query, format)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let lines = body::lines(&bytes, state.config.batch_lines_max)?;
    let mut sent = if query.atomic {
        let mut taken = submission.all_or_nothing(lines.clone()).await;
        if let Err(Refusal::Lines(wrong)) = &taken
            && wrong.iter().all(|(_, error)| error.is_conflict())
            && correction::make_way(&state, &submission, &lines, 1).await
        {
            taken = submission.all_or_nothing(lines.clone()).await;
        }
        match taken {
            Ok(sent) => sent,
            Err(refusal) => return Ok(answer::refused(refusal)),
        }
    } else {
        submission.lines(lines.clone()).await?
    };
    correction::take(&state, &submission, &lines, 1, &mut sent).await;
    let lines = sent;
    let (status_code, _) = submission.destination.success();
    Ok(answer::batch(lines, IdName::Message, status_code))
}

/// Ask what became of a message.
#[utoipa::path(
    get, path = "/ingest/status/{message_id}", operation_id = "get_status", tag = "messages",
    params(
        ("message_id" = Uuid, Path, description = "As the message was answered"),
        ("wait" = Option<String>, Query, description = "Waits for a final status, such as 5, 5s or 500ms", pattern = "^[0-9]{1,5}(ms|s)?$"),
    ),
    responses(
        (status = 200, description = "What is known of it", body = StatusBody),
        (status = 400, description = "Not a UUID, or a wrong wait", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 404, description = "Nobody knows it", body = UnknownStatus),
        (status = 429, description = "Too many requests per second, or too many that wait", body = ErrorBody),
        (status = 503, description = "The status cannot be read now, or overloaded", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn status(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    Path(message_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let message_id = Uuid::try_parse(&message_id)
        .map_err(|_| ApiError::bad("invalid_value", "message_id is not a UUID").at("message_id"))?;
    let query = Query::parse(query.as_deref(), &["wait"])?;
    let messages = messages(&state)?;
    let find = || find_status(&state, messages, &credential.organization, message_id);
    let mut found = find().await?;
    let open =
        |found: &Option<MessageStatus>| found.as_ref().is_some_and(|it| !it.status.is_final());
    if !query.wait.is_zero() && open(&found) {
        let _place = messages.waiting.enter(&credential.organization)?;
        let until = Instant::now() + query.wait.min(messages.config.status_wait_max);
        let mut pause = STATUS_PAUSE;
        while open(&found) && Instant::now() < until {
            tokio::time::sleep_until((Instant::now() + pause).min(until)).await;
            pause = (pause * 2).min(STATUS_PAUSE_MAX);
            found = find().await?;
        }
    }
    Ok(found.map_or_else(|| unknown(message_id), known))
}

fn known(status: MessageStatus) -> Response {
    Json(status).into_response()
}

fn unknown(message_id: Uuid) -> Response {
    let status = "unknown";
    let body = UnknownStatus { message_id, status };
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn find_status(
    state: &IngestState,
    messages: &Messages,
    organization: &str,
    message_id: Uuid,
) -> Result<Option<MessageStatus>, ApiError> {
    let reading = async {
        let _place = messages.waiting.reading().await;
        messages.store.status(organization, message_id).await
    };
    match tokio::time::timeout(state.config.publish_timeout, reading).await {
        // Its status may still be on the way to the store.
        Ok(Ok(None)) => Ok(messages.queued(organization, message_id)),
        Ok(Ok(found)) => Ok(found.map(|status| messages.corrections.look_through(status))),
        Ok(Err(_)) | Err(_) => Err(ApiError::unavailable(
            "the status cannot be read now: ask again later",
        )),
    }
}

fn messages(state: &IngestState) -> Result<&Messages, ApiError> {
    let none = || ApiError::unavailable("raw messages are not set up");
    state.messages.as_ref().ok_or_else(none)
}

fn submission<'a>(
    state: &'a IngestState,
    credential: &'a Credential,
    address: ClientAddress,
    head: &'a Parts,
    query: &'a Query,
    format: Format,
) -> Result<Submission<'a, MessageEncoder<'a>, Messages>, ApiError> {
    let messages = messages(state)?;
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ns()));
    Ok(Submission {
        encoder: MessageEncoder {
            identify: &messages.identify,
            check: (query.atomic || query.check).then_some(&messages.check),
            organization: &credential.organization,
            source: address.0.to_string(),
            idempotency_key: idempotency_key(&head.headers)?,
            hint: query.entity.as_deref(),
            format,
            keys_max: state.config.keys_max,
            received_at: now.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        },
        destination: messages,
        organization: &credential.organization,
        limits: &state.limits,
        tally: &state.metrics.messages,
    })
}
