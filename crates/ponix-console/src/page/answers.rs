//! Answers of the page's routes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why something is not done.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    /// What was asked for is wrong.
    pub(super) fn wrong(err: &impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("{err:#}"))
    }

    /// A server did not do what it was asked.
    pub(super) fn failed(err: &anyhow::Error) -> Self {
        Self(StatusCode::BAD_GATEWAY, format!("{err:#}"))
    }

    /// It can be tried again.
    pub(super) fn later(text: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, text.to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refused(&self)
    }
}

/// Says why something is not done.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let Refusal(status, text) = refusal;
    (*status, Json(json!({ "error": text }))).into_response()
}
