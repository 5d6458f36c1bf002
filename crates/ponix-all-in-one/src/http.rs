//! The HTTP API: the way in for those who do not speak NATS.

use std::sync::Arc;

use anyhow::Context as _;
use ponix_ingest::{ApiKeys, IngestMetrics, IngestState, router, serve};
use ponix_runner::{Shutdown, Startup};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::nats::Nats;
use crate::readiness::Readiness;

/// Starts the server of the API, if it is wanted.
///
/// # Errors
/// The API keys cannot be read, or the address cannot be listened on.
pub(crate) async fn start(
    config: &Config,
    startup: &Startup,
    nats: &Nats,
    metrics: IngestMetrics,
    registry: Arc<Registry>,
    readiness: Readiness,
) -> anyhow::Result<()> {
    let variables = &config.ingest;
    if !variables.enabled {
        return Ok(());
    }
    let keys = variables.api_keys_file.as_deref().map(ApiKeys::from_file);
    let keys = keys.transpose().context("PONIX_INGEST_API_KEYS_FILE")?;
    let addr = variables.addr;
    let listener = TcpListener::bind(addr).await.with_context(|| {
        format!("cannot listen on {addr} (PONIX_INGEST_ADDR): is another service there?")
    })?;
    tracing::info!(
        addr = %listener.local_addr().unwrap_or(addr),
        api_keys = keys.is_some(),
        "http api listens"
    );
    // Half of the grace time: what was taken in must still be acknowledged after it.
    let api = variables.api(
        &config.nats.stream,
        config.service.shutdown_timeout_secs / 2,
    );
    let state = IngestState::new(
        api.clone(),
        keys,
        nats.publisher.clone(),
        metrics.clone(),
        registry,
        Arc::new(move || readiness.reasons()),
    );
    startup.app_process("http api", move |shutdown: Shutdown| async move {
        serve(
            listener,
            router(state),
            &api,
            metrics,
            shutdown.soft().clone(),
        )
        .await
    });
    Ok(())
}
