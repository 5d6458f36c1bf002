//! The routes, and what every request passes through.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::FutureExt as _;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;

use crate::auth::{authenticate, client_address};
use crate::error::{ApiError, method_not_allowed};
use crate::metrics::RequestLabels;
use crate::server::{Peer, WithKey};
use crate::state::IngestState;
use crate::{doors, envelopes, messages, openapi, probes, trace};

/// Whose request it is, as trusted proxies tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Returns all routes.
pub fn router(state: IngestState) -> Router {
    let mut ingest = Router::new();
    if state.config.envelopes {
        ingest = ingest.route(openapi::ENVELOPES, post(envelopes::post));
    }
    if state.messages.is_some() {
        ingest = ingest
            .route("/ingest/message", post(messages::post))
            .route("/ingest/batch", post(messages::batch))
            .route("/ingest/status/{message_id}", get(messages::status))
            .route(
                "/ingest/status",
                get(messages::list::all).post(messages::list::of_these),
            );
    }
    for door in &state.doors {
        let documents = post(doors::post).layer(Extension(Arc::clone(door)));
        ingest = ingest.route(&door.path, documents);
    }
    if ingest.has_routes() {
        ingest = ingest.route_layer(middleware::from_fn_with_state(state.clone(), take));
    }
    let mut others = Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/ready", get(ready));
    if state.config.public_metrics {
        others = others
            .route("/metrics", get(metrics))
            .route("/stats", get(stats));
    }
    others
        .merge(openapi::routes(openapi::document(
            state.keys.is_some(),
            state.config.envelopes,
            state.messages.is_some(),
            &state.doors,
        )))
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(state.clone(), look))
        .nest("/api", ingest.clone())
        .merge(ingest)
        .with_state(state)
}

/// What every request for ingest passes through.
async fn take(State(state): State<IngestState>, request: Request, next: Next) -> Response {
    let route = route(&request);
    let headers = request.headers().clone();
    let work = async {
        admit(&state, request, next)
            .await
            .unwrap_or_else(IntoResponse::into_response)
    };
    account(&state, route, trace::within(&headers, work)).await
}

/// What every other request passes through.
async fn look(State(state): State<IngestState>, request: Request, next: Next) -> Response {
    account(&state, route(&request), next.run(request)).await
}

/// The route that was found, the same with and without `/api`.
fn route(request: &Request) -> Option<MatchedPath> {
    request.extensions().get::<MatchedPath>().cloned()
}

/// Lets a request in: its address, its credential, and a place among those in work.
async fn admit(
    state: &IngestState,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let headers = request.headers();
    let address = client_address(peer, &state.config.trusted_proxies, headers);
    state.limits.of_address(address)?;
    let credential = authenticate(
        state.keys.as_deref(),
        &state.config.default_organization,
        headers,
    )?;
    state.limits.of_credential(&credential)?;
    let _place = state.limits.admit()?;
    let with_key = credential.key.is_some();
    request.extensions_mut().insert(credential);
    request.extensions_mut().insert(ClientAddress(address));
    let mut response = next.run(request).await;
    if with_key {
        response.extensions_mut().insert(WithKey);
    }
    Ok(response)
}

/// Counts a request, answers for a handler that panics, and gives axum's own answers our form.
async fn account(
    state: &IngestState,
    route: Option<MatchedPath>,
    work: impl Future<Output = Response>,
) -> Response {
    let in_flight = InFlight::new(&state.metrics.in_flight);
    let answered = AssertUnwindSafe(work).catch_unwind().await;
    drop(in_flight);
    let response = match answered {
        Ok(response) if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            method_not_allowed(response)
        }
        Ok(response) => response,
        // The panic hook has written what happened.
        Err(_) => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something is wrong with the service: send again with the same Idempotency-Key",
        )
        .into_response(),
    };
    let path = route.as_ref().map_or("other", MatchedPath::as_str);
    let labels = RequestLabels {
        route: path.trim_start_matches("/api").to_owned(),
        status: response.status().as_u16(),
    };
    state.metrics.requests.get_or_create(&labels).inc();
    state.metrics.answered.inc();
    response
}

/// Counts a request as long as it is in work, also one whose client goes away.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn no_route(State(state): State<IngestState>, uri: Uri) -> ApiError {
    let path = uri.path().trim_start_matches("/api");
    if state.messages.is_none() && path.starts_with("/ingest/") {
        let message = "the pipeline of raw messages is off: its database is not configured";
        return ApiError::new(StatusCode::NOT_FOUND, "messages_off", message);
    }
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such route")
}

async fn ready(State(state): State<IngestState>) -> Response {
    probes::readiness(&(state.reasons)(), &[])
}

async fn metrics(State(state): State<IngestState>) -> Response {
    probes::metrics(&state.registry)
}

async fn stats(State(state): State<IngestState>) -> Json<serde_json::Value> {
    Json(state.metrics.stats())
}
