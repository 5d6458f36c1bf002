//! What a client is told when its request is not done.

use axum::Json;
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ponix_nats::PublishError;
use ponix_wire::{ConversionError, DecodeError, JsonError, MISSING, distance};
use serde::Serialize;
use utoipa::ToSchema;

/// Said when nobody knows whether the message is stored.
const OUTCOME_UNKNOWN: &str = "outcome unknown: send again with the same Idempotency-Key";

/// Said when an id was taken with another content.
pub(crate) const CONFLICT: &str = "idempotency_conflict";

/// An answer that is not a success. The codes are stable, the messages are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    /// Every wrong field, where there are several.
    errors: Vec<FieldProblem>,
    retry_after_secs: Option<u64>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Stable name of what is wrong.
    #[schema(example = "invalid_value")]
    pub code: String,
    /// The same for people.
    pub message: String,
    /// The field that is meant, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// Every wrong field of a message, that one included, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field: `quantity`, `line_items.2.quantity`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
            errors: Vec::new(),
            retry_after_secs: None,
        }
    }

    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds what else is wrong with the same event. What keeps the event from being read to its end
    /// is told first.
    pub(crate) fn with_all(self, problems: Vec<Self>) -> Self {
        let unread = problems.last().filter(|last| last.field.is_none());
        let first = unread.cloned().unwrap_or(self.clone());
        let mut errors: Vec<FieldProblem> = Vec::new();
        for problem in problems {
            let Some(field) = problem.field else { continue };
            if errors.iter().any(|other| other.field == field) {
                continue;
            }
            let is_first = self.field.as_ref() == Some(&field);
            errors.push(FieldProblem {
                message: if is_first {
                    self.message.clone()
                } else {
                    problem.message
                },
                field,
            });
        }
        if errors.len() < 2 && first.field.is_some() {
            return first;
        }
        first.with_errors(errors)
    }

    pub(crate) fn with_errors(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// Whether the id of an event was taken with another content.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == CONFLICT
    }

    /// Says which line of a batch is meant.
    pub(crate) fn in_line(mut self, line: usize) -> Self {
        self.message = format!("line {line}: {}", self.message);
        self
    }

    pub(crate) fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_after(1)
    }

    pub(crate) fn outcome_unknown() -> Self {
        Self::unavailable(OUTCOME_UNKNOWN)
    }

    /// Returns the body of the answer.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            code: self.code.to_owned(),
            message: self.message.clone(),
            field: self.field.clone(),
            errors: self.errors.clone(),
        }
    }

    /// Returns the status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The same error in other words.
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// What a client is told beside the body.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Whoever has to wait is told how long.
        let later = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if let Some(secs) = self.retry_after_secs.or(later.then_some(1)) {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = self.headers();
        (self.status, headers, Json(self.body())).into_response()
    }
}

/// Gives an answer of axum's own, with its `Allow`, our body.
pub(crate) fn method_not_allowed(mut response: Response) -> Response {
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this route takes other methods: see the header Allow",
    );
    let allow = response.headers_mut().remove(ALLOW);
    let mut response = error.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

impl From<PublishError> for ApiError {
    fn from(err: PublishError) -> Self {
        match err {
            PublishError::TooLarge { bytes } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "message_too_large",
                format!("the message has {bytes} bytes, more than the stream takes"),
            ),
            PublishError::Subject { .. } | PublishError::Token(_) => {
                Self::bad("invalid_value", "the device id cannot be part of a subject")
                    .at("end_device_id")
            }
            PublishError::Refused { .. } => {
                Self::unavailable("the stream takes no messages now: send again later")
                    .retry_after(5)
            }
            PublishError::NoStream { .. } => {
                Self::unavailable("there is no stream for this message: send again later")
                    .retry_after(5)
            }
            _ => Self::outcome_unknown(),
        }
    }
}

impl From<JsonError> for ApiError {
    fn from(err: JsonError) -> Self {
        match err {
            JsonError::NotUtf8 { .. } => Self::bad("invalid_utf8", format!("the body {err}")),
            JsonError::Unknown { ref field, .. } => {
                Self::bad("unknown_field", err.to_string()).at(field.clone())
            }
            JsonError::Value { ref field, reason } => {
                let code = if reason == MISSING {
                    "missing_field"
                } else {
                    "invalid_value"
                };
                Self::bad(code, err.to_string()).at(field.clone())
            }
            _ => Self::bad("invalid_json", err.to_string()),
        }
    }
}

impl From<ConversionError> for ApiError {
    fn from(err: ConversionError) -> Self {
        let code = match &err {
            ConversionError::Missing { .. } => "missing_field",
            _ => "invalid_value",
        };
        Self::bad(code, err.to_string()).at(err.field())
    }
}

impl From<DecodeError> for ApiError {
    fn from(err: DecodeError) -> Self {
        use ponix_wire::DecodeErrorKind as Kind;
        if let DecodeError::TooFarAhead {
            field, ahead_ns, ..
        } = err
        {
            let message = format!(
                "{field} is {} ahead of now, at most one day is accepted: does the clock of the device run right?",
                distance(ahead_ns)
            );
            return Self::bad("invalid_value", message).at(field);
        }
        let code = match err.kind() {
            Kind::MissingField => "missing_field",
            Kind::Value => "invalid_value",
            Kind::Decode => "invalid_protobuf",
        };
        let error = Self::bad(code, err.to_string());
        match err.field() {
            Some(field) if err.kind() != Kind::Decode => error.at(field),
            _ => error,
        }
    }
}
