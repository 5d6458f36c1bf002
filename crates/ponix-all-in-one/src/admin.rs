//! The admin endpoint: the page, `/livez`, `/readyz`, `/metrics`, `/stats`, `/scale`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use ponix_console::{Asker, Page, Said};
use ponix_ingest::{IngestMetrics, Peer, ServerConfig, ServerMetrics, probes, serve};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;
use crate::scale::{Backlog, Scale};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Time open requests get at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// An answer that is none, and why.
type Refused = (StatusCode, String);

/// What the handlers look at.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ingest: IngestMetrics,
    pub(crate) page: Page,
}

/// What the page asks of the service.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) readiness: Readiness,
    pub(crate) registry: Arc<Registry>,
}

impl ponix_console::Service for Seen {
    fn metrics(&self) -> String {
        let mut text = String::new();
        // Cannot fail: a string takes everything.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    fn said(&self) -> Said {
        Said {
            reasons: self.readiness.reasons(),
            warnings: self.readiness.warnings(),
        }
    }
}

impl Admin {
    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) async fn serve(
        self,
        addr: SocketAddr,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = TcpListener::bind(addr).await.with_context(|| {
            format!("cannot listen on {addr} (PONIX_ADMIN_ADDR): is another service there?")
        })?;
        tracing::info!(addr = %listener.local_addr().unwrap_or(addr), "admin endpoint listens");
        let limits = ServerConfig {
            connections_max: CONNECTIONS_MAX,
            connections_kept: 0,
            address_connections_max: 0,
            drain_timeout: DRAIN_TIMEOUT,
            ..ServerConfig::default()
        };
        let metrics = ServerMetrics::default();
        let page = self.page.clone();
        let served = serve(listener, self.router(), &limits, metrics, shutdown.clone());
        let (served, ()) = tokio::join!(served, page.watch(shutdown));
        Ok(served?)
    }

    fn backlogs(&self) -> Result<Vec<Backlog>, Refused> {
        let starting = || unavailable("the service is starting".to_owned());
        self.readiness.backlogs().ok_or_else(starting)
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/stats", get(stats))
            .route("/scale", get(scale_of_all))
            .route("/scale/{pipeline}", get(scale_of_one))
            .merge(self.page.routes().layer(from_fn(say_who)))
            .with_state(self)
    }
}

/// Lets the page know who asks.
async fn say_who(mut request: Request, next: Next) -> Response {
    if let Some(Peer(address)) = request.extensions().get().copied() {
        request.extensions_mut().insert(Asker(address));
    }
    next.run(request).await
}

async fn readyz(State(admin): State<Admin>) -> Response {
    probes::readiness(&admin.readiness.reasons(), &admin.readiness.warnings())
}

async fn metrics(State(admin): State<Admin>) -> Response {
    probes::metrics(&admin.registry)
}

async fn stats(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.ingest.stats())
}

/// What every pipeline has still to do, by its name.
async fn scale_of_all(State(admin): State<Admin>) -> Result<Json<Value>, Refused> {
    let looks = admin.backlogs()?.into_iter().map(|backlog| async move {
        let scale = backlog.look().await.map_err(unavailable)?;
        Ok((backlog.pipeline().to_owned(), json!(scale)))
    });
    let scales: serde_json::Map<_, _> = futures::future::try_join_all(looks)
        .await?
        .into_iter()
        .collect();
    Ok(Json(Value::Object(scales)))
}

async fn scale_of_one(
    State(admin): State<Admin>,
    Path(pipeline): Path<String>,
) -> Result<Json<Scale>, Refused> {
    let mut backlogs = admin.backlogs()?.into_iter();
    let Some(backlog) = backlogs.find(|one| one.pipeline() == pipeline) else {
        let text = format!("this service neither runs nor keeps a pipeline {pipeline}\n");
        return Err((StatusCode::NOT_FOUND, text));
    };
    Ok(Json(backlog.look().await.map_err(unavailable)?))
}

fn unavailable(reason: String) -> Refused {
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
}
