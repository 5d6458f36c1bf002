//! The admin endpoint: `/livez`, `/readyz`, `/metrics`, `/stats`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use ponix_ingest::{IngestMetrics, ServerConfig, ServerMetrics, probes, serve};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Time open requests get at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What the handlers look at.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ingest: IngestMetrics,
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
        serve(listener, self.router(), &limits, metrics, shutdown).await?;
        Ok(())
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/stats", get(stats))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    probes::readiness(&admin.readiness.reasons(), &admin.readiness.warnings())
}

async fn metrics(State(admin): State<Admin>) -> Response {
    probes::metrics(&admin.registry)
}

async fn stats(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(admin.ingest.stats())
}
