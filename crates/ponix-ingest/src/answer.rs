//! The answer for a body of many lines.
//!
//! Its status must not let a client pass over an event that is not taken: 2xx only when every line
//! is taken, or when what is not taken is wrong in itself and others are.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{ApiError, ErrorBody};
use crate::submission::{Line, Refusal};

/// What became of the lines of a body.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// Lines that are taken.
    accepted: usize,
    /// Lines that are not, or of which nobody knows.
    failed: usize,
    /// One result per line that is not empty, in the order of the lines.
    results: Vec<LineResult>,
    /// With an answer that is an error: its stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<String>,
}

/// What became of one line.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct LineResult {
    /// The line, counted from 1.
    line: usize,
    /// Of an envelope that is taken: its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    event_id: Option<Uuid>,
    /// Of a message that is taken: its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message_id: Option<Uuid>,
    /// Why it is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<ErrorBody>,
}

/// The name that a kind of events has for their identity.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IdName {
    Event,
    Message,
}

/// Answers for lines; `success` is the status when all of them are taken.
pub(crate) fn batch(lines: Vec<Line>, name: IdName, success: StatusCode) -> Response {
    let errors = lines.iter().filter_map(|(_, sent)| sent.as_ref().err());
    let (failed, accepted) = (errors.clone().count(), lines.len() - errors.clone().count());
    let later = errors.clone().find(|err| err.status().is_server_error());
    let error = match (later, errors.clone().next()) {
        (None, None) => None,
        // Sent again, these may be taken: the client must do that, and not read a success.
        (Some(err), _) => {
            let message = format!(
                "{failed} of {} lines are not taken, see results; some only for now: {err}",
                lines.len()
            );
            Some(err.clone().with_message(message))
        }
        (None, Some(_)) if accepted > 0 => None,
        (None, Some(err)) => {
            let same = errors.clone().all(|other| other.status() == err.status());
            let status = if same {
                err.status()
            } else {
                StatusCode::BAD_REQUEST
            };
            Some(ApiError::new(
                status,
                "invalid_lines",
                "no line can be taken: see results",
            ))
        }
    };
    let answer = BatchAnswer {
        accepted,
        failed,
        code: error.as_ref().map(ApiError::code),
        message: error.as_ref().map(|err| err.body().message),
        results: lines.into_iter().map(|line| result(line, name)).collect(),
    };
    match error {
        Some(err) => (err.status(), err.headers(), Json(answer)).into_response(),
        None if failed > 0 => (StatusCode::MULTI_STATUS, Json(answer)).into_response(),
        None => (success, Json(answer)).into_response(),
    }
}

/// Answers for lines none of which is taken: with the first error, and each line that is wrong.
pub(crate) fn refused(refusal: Refusal) -> Response {
    let wrong = match refusal {
        Refusal::Whole(error) => return error.into_response(),
        Refusal::Lines(wrong) => wrong,
    };
    let Some((index, error)) = wrong.first() else {
        return ApiError::outcome_unknown().into_response();
    };
    let error = error.clone().in_line(index + 1);
    let answer = BatchAnswer {
        accepted: 0,
        failed: wrong.len(),
        code: Some(error.code()),
        message: Some(error.body().message),
        results: wrong
            .into_iter()
            .map(|(index, error)| result((index, Err(error)), IdName::Message))
            .collect(),
    };
    (error.status(), error.headers(), Json(answer)).into_response()
}

fn result((index, sent): Line, name: IdName) -> LineResult {
    let mut result = LineResult {
        line: index + 1,
        ..LineResult::default()
    };
    match (sent, name) {
        (Ok(sent), IdName::Event) => result.event_id = Some(sent.id),
        (Ok(sent), IdName::Message) => result.message_id = Some(sent.id),
        (Err(err), _) => result.error = Some(err.body()),
    }
    result
}
