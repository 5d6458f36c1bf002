//! The statuses of many messages: of a batch, or all that failed.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use ponix_wire::message::MessageStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::query::Query;
use super::{StatusBody, messages};
use crate::auth::Credential;
use crate::body;
use crate::error::{ApiError, ErrorBody};
use crate::state::IngestState;
use crate::store::{StatusList, StoreUnavailable};

/// Messages in one answer at most.
pub(super) const LIST_MAX: usize = 1_000;
/// Messages in one answer where the request does not say.
const LIST_DEFAULT: usize = 100;

/// The messages that are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message_ids": ["0190f3a8-0000-7000-8000-000000000001"]}))]
pub(crate) struct StatusQuestion {
    /// As they were answered, 1,000 at most.
    #[schema(min_items = 1, max_items = 1000)]
    message_ids: Vec<Uuid>,
}

/// What became of many messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusesAnswer {
    /// How many there are of each status; `unknown` are those that nobody knows.
    counts: BTreeMap<String, usize>,
    /// Those that are known.
    #[schema(value_type = Vec<StatusBody>)]
    messages: Vec<MessageStatus>,
    /// Unless this is all: ask on with `before=` this message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<Uuid>,
}

/// Ask what became of many messages, those of a batch for instance.
#[utoipa::path(
    post, path = "/ingest/status", operation_id = "post_statuses", tag = "messages",
    request_body = StatusQuestion,
    responses(
        (status = 200, description = "What is known of them, in the order of the question", body = StatusesAnswer),
        (status = 400, description = "The body is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 408, description = "The body did not come in time", body = ErrorBody),
        (status = 413, description = "Too large", body = ErrorBody),
        (status = 415, description = "Content-Type or Content-Encoding", body = ErrorBody),
        (status = 429, description = "Too many requests per second", body = ErrorBody),
        (status = 503, description = "The statuses cannot be read now, or overloaded", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn of_these(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    request: Request,
) -> Result<Response, ApiError> {
    let messages = messages(&state)?;
    let (head, body) = request.into_parts();
    if body::essence(&head.headers) != "application/json" {
        return Err(body::unsupported("send Content-Type application/json"));
    }
    let bytes = body::read(&head.headers, body, state.body_limits()).await?;
    let question: StatusQuestion = serde_json::from_slice(&bytes)
        .map_err(|err| ApiError::bad("invalid_json", err.to_string()))?;
    let ids = question.message_ids;
    if ids.is_empty() || ids.len() > LIST_MAX {
        let message = format!("message_ids must have 1 to {LIST_MAX} ids");
        return Err(ApiError::bad("invalid_value", message).at("message_ids"));
    }
    let organization = &credential.organization;
    let found = within(&state, messages.store.statuses(organization, &ids)).await?;
    let mut found: HashMap<Uuid, MessageStatus> = found
        .into_iter()
        .map(|status| messages.corrections.look_through(status))
        .map(|status| (status.message_id, status))
        .collect();
    let mut unknown = 0;
    let mut known = Vec::with_capacity(found.len());
    for id in &ids {
        let status = found.remove(id);
        match status.or_else(|| messages.queued(organization, *id)) {
            Some(status) => known.push(status),
            None => unknown += 1,
        }
    }
    Ok(answer(known, unknown, None))
}

/// List messages, those that failed for instance; the newest first.
#[utoipa::path(
    get, path = "/ingest/status", operation_id = "list_statuses", tag = "messages",
    params(
        ("status" = Option<String>, Query, description = "With this status alone", pattern = "^(accepted|processing|processed|failed|dead_letter)$"),
        ("before" = Option<Uuid>, Query, description = "Only those that came in before this message: the `next` of an answer"),
        ("limit" = Option<u32>, Query, description = "So many at most, 100 if nothing is said", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "The messages", body = StatusesAnswer),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
        (status = 401, description = "No API key, or an unknown one", body = ErrorBody),
        (status = 429, description = "Too many requests per second", body = ErrorBody),
        (status = 503, description = "The statuses cannot be read now, or overloaded", body = ErrorBody),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn all(
    State(state): State<IngestState>,
    Extension(credential): Extension<Credential>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["status", "before", "limit"])?;
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    // One more, to know whether there are more.
    let list = StatusList {
        status: query.status,
        before: query.before,
        limit: limit + 1,
    };
    let messages = messages(&state)?;
    let mut found = within(&state, messages.store.list(&credential.organization, &list)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|status| status.message_id);
    Ok(answer(found, 0, last.filter(|_| more)))
}

fn answer(messages: Vec<MessageStatus>, unknown: usize, next: Option<Uuid>) -> Response {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for message in &messages {
        let name = message.status.as_str().to_owned();
        *counts.entry(name).or_default() += 1;
    }
    if unknown > 0 {
        counts.insert("unknown".to_owned(), unknown);
    }
    let answer = StatusesAnswer {
        counts,
        messages,
        next,
    };
    Json(answer).into_response()
}

async fn within<T>(
    state: &IngestState,
    reading: impl Future<Output = Result<T, StoreUnavailable>> + Send,
) -> Result<T, ApiError> {
    let messages = messages(state)?;
    let reading = async {
        let _place = messages.waiting.reading().await;
        reading.await
    };
    match tokio::time::timeout(state.config.publish_timeout, reading).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) | Err(_) => Err(ApiError::unavailable(
            "the statuses cannot be read now: ask again later",
        )),
    }
}
