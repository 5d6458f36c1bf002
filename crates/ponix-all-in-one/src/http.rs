//! The HTTP API: the way in for those who do not speak NATS.

mod message_store;

use std::sync::Arc;

use anyhow::Context as _;
use ponix_entities::{Format, MessageError};
use ponix_ingest::{
    ApiKeys, Check, DoorConfig, FieldProblem, Identify, IngestMetrics, IngestState, Misfit, router,
    serve,
};
use ponix_pipeline::Pipeline;
use ponix_runner::{Shutdown, Startup};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use self::message_store::PostgresMessages;
use crate::config::Config;
use crate::nats::Nats;
use crate::pipelines::{self, EntityStore};
use crate::readiness::Readiness;

/// What can be sent beside envelopes.
#[derive(Debug)]
pub(crate) struct Ways<'a> {
    /// Raw messages, where they are kept.
    pub(crate) messages: Option<EntityStore>,
    /// Every pipeline, those that have a door among them.
    pub(crate) pipelines: &'a [Pipeline],
}

/// Starts the server of the API, if it is wanted.
///
/// # Errors
/// The API keys cannot be read, or the address cannot be listened on.
pub(crate) async fn start(
    config: &Config,
    startup: &Startup,
    nats: &Nats,
    Ways {
        messages,
        pipelines,
    }: Ways<'_>,
    metrics: IngestMetrics,
    registry: Arc<Registry>,
    readiness: Readiness,
) -> anyhow::Result<()> {
    let variables = &config.ingest;
    if !variables.enabled {
        return Ok(());
    }
    // It may be alone: then nobody else has made the streams.
    for pipeline in pipelines {
        let is_fed = match pipeline.name.as_str() {
            _ if !pipeline.is_built_in() => pipeline.http.is_some(),
            pipelines::MESSAGES => messages.is_some(),
            _ => variables.envelopes_enabled,
        };
        if is_fed {
            pipelines::open_stream(config, pipeline, nats).await?;
        }
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
    let time = config.service.shutdown_timeout_secs / 2;
    let api = variables.api(&config.nats.stream, keys.is_some(), time);
    let server = api.server.clone();
    let at_once = messages.is_some() && !variables.nats_enabled;
    let state = IngestState::new(
        api,
        keys,
        nats.publisher.clone(),
        metrics.clone(),
        registry,
        Arc::new(move || readiness.intake_reasons(at_once)),
    );
    let state = match messages {
        Some(store) => with_messages(config, startup, state, store),
        None => state,
    };
    let state = with_doors(state, pipelines)?;
    startup.app_process("http api", move |shutdown: Shutdown| async move {
        serve(
            listener,
            router(state),
            &server,
            metrics.server(),
            shutdown.soft().clone(),
        )
        .await
    });
    Ok(())
}

/// Adds the routes of the raw messages, and the process that writes their first status.
fn with_messages(
    config: &Config,
    startup: &Startup,
    state: IngestState,
    store: EntityStore,
) -> IngestState {
    let catalog = Arc::clone(&store.catalog);
    let identify: Identify = Arc::new(move |format: Format, payload: &[u8], hint: Option<&str>| {
        let name = catalog.identify(format, payload, hint);
        name.map(str::to_owned).map_err(|err| err.reason)
    });
    let catalog = Arc::clone(&store.catalog);
    let check: Check = Arc::new(move |format: Format, payload: &[u8], hint: Option<&str>| {
        let parsed = catalog.parse(format, payload, hint);
        parsed.map(drop).map_err(misfit)
    });
    let store = Arc::new(PostgresMessages(store));
    let (state, statuses) = state.with_messages(
        config.ingest.messages(&config.messages.subject_prefix),
        store,
        identify,
        check,
    );
    startup.app_process("accepted statuses", move |shutdown: Shutdown| async move {
        statuses.run(shutdown.hard().clone()).await;
        anyhow::Ok(())
    });
    state
}

/// Adds the doors of the pipelines that have one.
///
/// # Errors
/// A path that cannot be served.
fn with_doors(mut state: IngestState, pipelines: &[Pipeline]) -> anyhow::Result<IngestState> {
    for pipeline in pipelines {
        let Some(http) = &pipeline.http else { continue };
        let door = DoorConfig {
            pipeline: pipeline.name.clone(),
            stream: pipeline.source.stream.clone(),
            subject_prefix: http.subject_prefix.clone(),
        };
        state = state
            .with_door(&http.path, door)
            .with_context(|| format!("pipeline {}", pipeline.name))?;
    }
    Ok(state)
}

fn misfit(error: MessageError) -> Misfit {
    let others = error.others.into_iter().map(|other| FieldProblem {
        field: other.field,
        message: other.reason,
    });
    Misfit {
        field: error.field,
        reason: error.reason,
        others: others.collect(),
    }
}
