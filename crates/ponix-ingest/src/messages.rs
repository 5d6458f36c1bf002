//! `/ingest/…`: raw messages into the stream that ends in PostgreSQL, and their status.

mod query;

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use self::query::Query;
use crate::auth::Credential;
use crate::body;
use crate::envelopes::{IN_FLIGHT_PER_REQUEST, now_ns};
use crate::error::{ApiError, ErrorBody};
use crate::message::{IncomingMessage, MessageFormat, describe};
use crate::openapi::{MessageLine, MessageLines, MessageObject, ObjectLines};
use crate::publish::{content_hash, id_of_key, idempotency_key, own_id};
use crate::router::ClientAddress;
use crate::state::{Counts, IngestState, Messages};
use crate::store::{AcceptedMessage, MessageStatus, Persisted};

/// Pause between two looks at a status that is waited for.
const STATUS_PAUSE: Duration = Duration::from_millis(50);

/// A message that JetStream has, or the database in the synchronous mode.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAccepted {
    /// The message's identity: ask for its status with it.
    message_id: Uuid,
    /// `accepted`, or `persisted` in the synchronous mode.
    #[schema(example = "accepted")]
    status: &'static str,
    /// When it came in.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

/// What became of the lines of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAccepted {
    /// Lines that are taken.
    accepted: usize,
    /// Lines that are not, or of which nobody knows.
    failed: usize,
    /// One result per line that is not empty, in the order of the lines.
    results: Vec<BatchLine>,
}

/// What became of one line of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchLine {
    /// The line, counted from 1.
    line: usize,
    /// The message's identity, when it is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Uuid>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// The answer for a message that nobody knows, or that is another organization's.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnknownStatus {
    /// As it was asked for.
    message_id: Uuid,
    /// Always `unknown`.
    #[schema(example = "unknown")]
    status: &'static str,
}

/// Send one raw message.
///
/// The answer comes once JetStream has acknowledged. With an `Idempotency-Key`, or a `message_id` in
/// a JSON message, a request may be sent again and again: the message is stored once.
#[utoipa::path(
    post, path = "/ingest/message", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same key is the same message", pattern = "^[!-~]([ -~]{0,126}[!-~])?$"),
        ("entity" = Option<String>, Query, description = "The entity that the message holds", pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"),
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
        (status = 429, description = "Too many requests per second", body = ErrorBody),
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
    let query = Query::parse(query.as_deref(), &["entity"])?;
    let (head, body) = request.into_parts();
    let format = match body::essence(&head.headers).as_str() {
        "text/plain" => MessageFormat::Line,
        "application/json" => MessageFormat::Json,
        _ => {
            let message = "send Content-Type text/plain or application/json";
            return Err(body::unsupported(message));
        }
    };
    let sender = Sender::new(&state, &credential, address, &head, &query, format)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let line = bytes.slice_ref(bytes.trim_ascii());
    if line.is_empty() {
        return Err(ApiError::bad("empty_body", "the body is empty"));
    }
    let (message_id, timestamp) = sender.counted(sender.single(line).await)?;
    let (status_code, status) = sender.success();
    let answer = MessageAccepted {
        message_id,
        status,
        timestamp,
    };
    Ok((status_code, Json(answer)).into_response())
}

/// Send many raw messages, one per line.
///
/// Every line stands for itself: bad ones are told, the others are taken. With `atomic=true` nothing
/// is taken when a line is wrong.
#[utoipa::path(
    post, path = "/ingest/batch", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 printable ASCII characters: the same line under the same key is the same message", pattern = "^[!-~]([ -~]{0,126}[!-~])?$"),
        ("entity" = Option<String>, Query, description = "The entity that the messages hold", pattern = "^[A-Za-z][A-Za-z0-9_]{0,63}$"),
        ("atomic" = Option<bool>, Query, description = "All or nothing"),
    ),
    request_body(content((MessageLines = "text/plain"), (ObjectLines = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Synchronous mode: the database has the accepted lines", body = BatchAccepted),
        (status = 202, description = "JetStream has the accepted lines", body = BatchAccepted),
        (status = 400, description = "The body is wrong, or with atomic a line", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 409, description = "With atomic: the same id with another message", body = ErrorBody),
        (status = 413, description = "Too large, or too many lines", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 429, description = "Too many requests per second", body = ErrorBody),
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
        "text/plain" => MessageFormat::Line,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => MessageFormat::Json,
        _ => {
            let message = "send Content-Type text/plain or application/x-ndjson";
            return Err(body::unsupported(message));
        }
    };
    let sender = Sender::new(&state, &credential, address, &head, &query, format)?;
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let lines = body::lines(&bytes, state.config.batch_lines_max)?;
    let results = if query.atomic {
        sender.all_or_nothing(lines).await?
    } else {
        sender.one_by_one(lines).await
    };
    let accepted = results.iter().filter(|line| line.error.is_none()).count();
    let answer = BatchAccepted {
        accepted,
        failed: results.len() - accepted,
        results,
    };
    Ok((sender.success().0, Json(answer)).into_response())
}

/// Ask what became of a message.
#[utoipa::path(
    get, path = "/ingest/status/{message_id}", tag = "messages",
    params(
        ("message_id" = Uuid, Path, description = "As the message was answered"),
        ("wait" = Option<String>, Query, description = "Waits for a final status, such as 5s or 500ms", pattern = "^[0-9]{1,5}(ms|s)$"),
    ),
    responses(
        (status = 200, description = "What is known of it", body = MessageStatus),
        (status = 400, description = "Not a UUID, or a wrong wait", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 404, description = "Nobody knows it", body = UnknownStatus),
        (status = 429, description = "Too many requests per second", body = ErrorBody),
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
    let until = Instant::now() + query.wait.min(messages.config.status_wait_max);
    loop {
        let found = read_status(&state, messages, &credential.organization, message_id).await?;
        let done = found.as_ref().is_some_and(MessageStatus::is_final);
        if done || Instant::now() >= until {
            return Ok(found.map_or_else(|| unknown(message_id), answer));
        }
        tokio::time::sleep_until((Instant::now() + STATUS_PAUSE).min(until)).await;
    }
}

fn answer(status: MessageStatus) -> Response {
    Json(status).into_response()
}

fn unknown(message_id: Uuid) -> Response {
    let status = "unknown";
    let body = UnknownStatus { message_id, status };
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn read_status(
    state: &IngestState,
    messages: &Messages,
    organization: &str,
    message_id: Uuid,
) -> Result<Option<MessageStatus>, ApiError> {
    let reading = messages.store.status(organization, message_id);
    match tokio::time::timeout(state.config.publish_timeout, reading).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) | Err(_) => Err(ApiError::unavailable(
            "the status cannot be read now: ask again later",
        )),
    }
}

fn messages(state: &IngestState) -> Result<&Messages, ApiError> {
    let none = || ApiError::unavailable("raw messages are not set up");
    state.messages.as_ref().ok_or_else(none)
}

/// A message that may be sent.
struct Checked {
    incoming: IncomingMessage,
    /// What the stream knows the message by.
    stream_id: Uuid,
    /// Whether the client chose the id.
    id_given: bool,
}

struct Sender<'a> {
    state: &'a IngestState,
    messages: &'a Messages,
    organization: &'a str,
    source: String,
    key: Option<&'a str>,
    hint: Option<&'a str>,
    format: MessageFormat,
    received_at: OffsetDateTime,
}

impl<'a> Sender<'a> {
    fn new(
        state: &'a IngestState,
        credential: &'a Credential,
        address: ClientAddress,
        head: &'a Parts,
        query: &'a Query,
        format: MessageFormat,
    ) -> Result<Self, ApiError> {
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ns()));
        Ok(Self {
            state,
            messages: messages(state)?,
            organization: &credential.organization,
            source: address.0.to_string(),
            key: idempotency_key(&head.headers)?,
            hint: query.entity.as_deref(),
            format,
            received_at: now.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        })
    }

    /// Status and word of a request that is done.
    fn success(&self) -> (StatusCode, &'static str) {
        if self.messages.config.nats_enabled {
            (StatusCode::ACCEPTED, "accepted")
        } else {
            (StatusCode::OK, "persisted")
        }
    }

    fn read(&self, payload: Bytes, line: usize) -> Result<Checked, ApiError> {
        let described = describe(self.format, &payload, self.state.config.keys_max)?;
        let by_key = |key| id_of_key(self.organization, key, line as u64);
        let given = described.message_id.or_else(|| self.key.map(by_key));
        let named = self.hint.or(described.entity_type.as_deref());
        let entity_type = (self.messages.identify)(self.format, &payload, named);
        let incoming = IncomingMessage {
            message_id: given.unwrap_or_else(Uuid::now_v7),
            organization: self.organization.to_owned(),
            entity_type,
            hint: self.hint.map(str::to_owned),
            format: self.format,
            payload,
            received_at: self.received_at,
            source: self.source.clone(),
        };
        let own = |id| own_id(self.organization, id);
        let stream_id = described.message_id.map_or(incoming.message_id, own);
        if !self.messages.config.nats_enabled && given.is_some() {
            let hash = content_hash(&content(&incoming));
            let publishing = &self.messages.publishing;
            publishing.check_conflict(stream_id, incoming.message_id, hash)?;
        }
        Ok(Checked {
            incoming,
            stream_id,
            id_given: given.is_some(),
        })
    }

    async fn single(&self, payload: Bytes) -> Result<(Uuid, OffsetDateTime), ApiError> {
        let message = self.read(payload, 0)?;
        let answer = (message.incoming.message_id, message.incoming.received_at);
        self.send(message).await?;
        Ok(answer)
    }

    async fn send(&self, message: Checked) -> Result<(), ApiError> {
        if self.messages.config.nats_enabled {
            self.publish(message).await
        } else {
            let mut results = self.persist(vec![message], false).await?;
            results.pop().unwrap_or(Ok(()))
        }
    }

    async fn publish(&self, message: Checked) -> Result<(), ApiError> {
        let Checked {
            incoming,
            stream_id,
            id_given,
        } = message;
        let outgoing = incoming.outgoing(&self.messages.config.subject_prefix, stream_id);
        let content = id_given.then(|| content(&incoming));
        let publishing = &self.messages.publishing;
        let published = publishing.publish(incoming.message_id, outgoing, content.as_deref());
        let duplicate = published.await?;
        self.state.metrics.messages_published.inc();
        if duplicate {
            self.state.metrics.messages_duplicate.inc();
            Counts::add(&self.state.counts.messages_duplicates, 1);
        }
        self.messages.queue.push(AcceptedMessage {
            message_id: incoming.message_id,
            organization: incoming.organization,
            entity_type: incoming.entity_type,
            received_at: incoming.received_at,
            source: incoming.source,
        });
        Ok(())
    }

    /// Stores at once; one result per message.
    async fn persist(
        &self,
        checked: Vec<Checked>,
        atomic: bool,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        let publishing = &self.messages.publishing;
        let chosen = |one: &Checked| {
            one.id_given
                .then(|| (one.stream_id, content_hash(&content(&one.incoming))))
        };
        let chosen: Vec<_> = checked.iter().map(chosen).collect();
        let messages: Vec<IncomingMessage> = checked.into_iter().map(|one| one.incoming).collect();
        let work = self.messages.store.persist(&messages, atomic);
        let results = publishing.in_time(work).await?;
        for (chosen, result) in chosen.into_iter().zip(&results) {
            if let (Some((key, hash)), Persisted::Stored) = (chosen, result) {
                publishing.remember(key, hash);
            }
        }
        Ok(results.into_iter().map(persisted).collect())
    }

    async fn one_by_one(&self, lines: Vec<(usize, Bytes)>) -> Vec<BatchLine> {
        if self.messages.config.nats_enabled {
            let sent = lines.into_iter().map(|(index, line)| async move {
                let sent = match self.read(line, index + 1) {
                    Ok(message) => {
                        let id = message.incoming.message_id;
                        self.publish(message).await.map(|()| id)
                    }
                    Err(err) => Err(err),
                };
                batch_line(index, self.counted(sent))
            });
            return stream::iter(sent)
                .buffered(IN_FLIGHT_PER_REQUEST)
                .collect()
                .await;
        }
        let (mut results, mut good, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in lines {
            match self.read(line, index + 1) {
                Ok(message) => {
                    places.push(results.len());
                    results.push((index, Ok(message.incoming.message_id)));
                    good.push(message);
                }
                Err(err) => results.push((index, Err(err))),
            }
        }
        let count = good.len();
        let stored = match self.persist(good, false).await {
            Ok(stored) => stored,
            Err(err) => vec![Err(err); count],
        };
        for (place, stored) in places.into_iter().zip(stored) {
            if let Err(err) = stored {
                results[place].1 = Err(err);
            }
        }
        results
            .into_iter()
            .map(|(index, result)| batch_line(index, self.counted(result)))
            .collect()
    }

    /// Checks every line before the first is sent. What breaks while they are sent is an unknown
    /// outcome: the request sent again with its key completes it.
    async fn all_or_nothing(&self, lines: Vec<(usize, Bytes)>) -> Result<Vec<BatchLine>, ApiError> {
        let mut checked = Vec::with_capacity(lines.len());
        let mut taken = Vec::with_capacity(lines.len());
        for (index, line) in lines {
            let message = self
                .read(line, index + 1)
                .map_err(|err| err.in_line(index + 1))?;
            taken.push((index, message.incoming.message_id));
            checked.push(message);
        }
        if self.messages.config.nats_enabled {
            let mut sent = stream::iter(checked.into_iter().map(|one| self.publish(one)))
                .buffered(IN_FLIGHT_PER_REQUEST);
            let mut first_error = None;
            while let Some(sent) = sent.next().await {
                first_error = first_error.or(sent.err());
            }
            if let Some(err) = first_error {
                return Err(err);
            }
        } else {
            let results = self.persist(checked, true).await?;
            for ((index, _), result) in taken.iter().zip(results) {
                result.map_err(|err| err.in_line(index + 1))?;
            }
        }
        Ok(taken
            .into_iter()
            .map(|(index, id)| batch_line(index, self.counted(Ok(id))))
            .collect())
    }

    fn counted<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        let counts = &self.state.counts;
        if result.is_err() {
            self.state.metrics.messages_refused.inc();
            Counts::add(&counts.messages_refused, 1);
        } else {
            Counts::add(&counts.messages_accepted, 1);
        }
        result
    }
}

fn persisted(result: Persisted) -> Result<(), ApiError> {
    match result {
        Persisted::Stored | Persisted::AlreadyDone => Ok(()),
        Persisted::Refused { field, reason } => {
            let error = ApiError::bad("invalid_message", reason);
            Err(match field {
                Some(field) => error.at(field),
                None => error,
            })
        }
    }
}

fn batch_line(index: usize, sent: Result<Uuid, ApiError>) -> BatchLine {
    let (message_id, error) = match sent {
        Ok(id) => (Some(id), None),
        Err(err) => (None, Some(err.body())),
    };
    BatchLine {
        line: index + 1,
        message_id,
        error,
    }
}

/// What a repeat must be the same in: also the organization, because an id is one for all of them.
fn content(message: &IncomingMessage) -> Vec<u8> {
    let hint = message.hint.as_deref().unwrap_or_default();
    let head = [message.organization.as_bytes(), hint.as_bytes()];
    let mut content = head.join(&0);
    content.push(0);
    content.extend_from_slice(&message.payload);
    content
}
