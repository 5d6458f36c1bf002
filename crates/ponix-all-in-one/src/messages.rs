//! The pipeline of raw messages: stream `MESSAGES` → rows → one transaction → acks.

mod dead_letters;
mod decoder;
mod metrics;
mod store;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ponix_entities::Catalog;
use ponix_nats::{BatchConsumer, BatchSettings, ConsumerSettings};
use ponix_postgres::{
    EntitiesError, ErrorKind, MessageSink, MigrateError, Postgres, PostgresMetrics,
};
use ponix_runner::{Shutdown, Startup};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::dead_letters::DeadLetterStatus;
pub(crate) use self::decoder::MessageDecoder;
pub(crate) use self::metrics::MessageMetrics;
pub(crate) use self::store::PostgresMessages;
use crate::config::Config;
use crate::nats::Nats;
use crate::pipeline::{self, Source};
use crate::readiness::Parts;
use crate::retry::until_ready;

/// The pipeline's name.
pub(crate) const NAME: &str = "messages";
/// What follows the dead letters, in metrics.
const STATUS_NAME: &str = "messages-status";
/// Time between two looks for statuses that are old enough to go.
const PRUNE_PERIOD: Duration = Duration::from_hours(1);
/// First and longest pause while PostgreSQL takes nothing.
const HOLD_BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Where messages go, ready to be written to.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) postgres: Postgres,
    pub(crate) catalog: Arc<Catalog>,
}

/// Brings the tables to what this version and the entities need; `None` when the pipeline is off.
///
/// # Errors
/// PostgreSQL is not there by `deadline` or refuses, or the entities cannot be followed.
pub(crate) async fn prepare_store(
    config: &Config,
    startup: &Startup,
    metrics: PostgresMetrics,
    deadline: Instant,
) -> anyhow::Result<Option<Store>> {
    let Some(client) = config.postgres.client() else {
        return Ok(None);
    };
    startup.phase("entities");
    // Without a folder only declared pipelines write there.
    let dir = config.service.entities_dir.as_deref();
    let catalog = dir.map(Catalog::load).transpose();
    let catalog = catalog.context("PONIX_ENTITIES_DIR")?.unwrap_or_default();
    let catalog = with_default(config, catalog)?;

    let postgres =
        Postgres::connect(client, metrics).context("the postgresql configuration is wrong")?;
    startup.phase("migrations on postgresql");
    until_ready(
        "postgresql migrations",
        deadline,
        |err: &MigrateError| err.kind() == ErrorKind::Transient,
        || postgres.migrate(),
    )
    .await?;
    startup.phase("tables of the entities");
    let changes = until_ready(
        "tables of the entities",
        deadline,
        |err: &EntitiesError| err.kind() == ErrorKind::Transient,
        || postgres.apply_entities(&catalog),
    )
    .await?;
    for statement in changes {
        tracing::info!(statement, "a table of the entities was changed");
    }
    Ok(Some(Store {
        postgres: postgres.for_pipeline(NAME),
        catalog: Arc::new(catalog),
    }))
}

/// Sets the entity of messages that name none, if one is configured.
///
/// # Errors
/// There is no such entity.
pub(crate) fn with_default(config: &Config, catalog: Catalog) -> anyhow::Result<Catalog> {
    match config.messages.default_entity.as_deref() {
        Some(name) => catalog
            .with_default(name)
            .context("PONIX_MESSAGES_DEFAULT_ENTITY"),
        None => Ok(catalog),
    }
}

/// Returns where the messages come from.
pub(crate) fn source(config: &Config) -> Source {
    let messages = &config.messages;
    Source {
        name: NAME.to_owned(),
        stream: messages.stream(&config.nats),
        dead_letters: messages.dead_letters(&config.nats),
        consumer: ConsumerSettings {
            target: config.postgres.target(),
            ..messages.consumer()
        },
        batches: BatchSettings {
            hold_backoff: HOLD_BACKOFF,
            ..messages.batches(&config.nats)
        },
        replay_window: messages.history_secs,
        janitor_interval: config.nats.janitor_interval_secs,
    }
}

/// Sets up the streams and the consumers, and starts the processes.
///
/// # Errors
/// NATS refuses a stream or a consumer.
pub(crate) async fn start(
    config: &Config,
    startup: &Startup,
    nats: &Nats,
    store: Store,
    metrics: MessageMetrics,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    startup.phase("streams and consumers of the messages");
    let source = source(config);
    let streams = source.streams(nats).await?;

    let Store { postgres, catalog } = store;
    let sink = MessageSink::new(postgres.clone(), Arc::clone(&catalog))
        .on_commit(move |incoming, written| metrics.committed(incoming, written));
    pipeline::watch_store("postgresql", sink.clone(), startup, parts);
    let keep = config.postgres.status_keep_secs;
    let pruned = postgres.clone();
    startup.app_process("status pruning", move |shutdown: Shutdown| async move {
        prune(pruned, keep, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
    if !config.messages.enabled {
        return Ok(());
    }
    let decoder = MessageDecoder::new(catalog).for_organization(&config.ingest.organization);
    pipeline::start(&source, &streams, decoder, sink, startup, nats, parts).await?;

    // Whoever gave a message up, its status follows from the dead letters themselves.
    let consumer = config.messages.status_consumer();
    let consumer = nats
        .consumer(&consumer, &streams.dead, &source.dead_letters)
        .await?;
    let followed = BatchConsumer::new(
        nats.consuming.clone(),
        consumer,
        DeadLetterStatus::new(postgres),
        source.dead_letters(nats),
        BatchSettings {
            deliveries_max: u32::MAX,
            ..source.batches
        },
        nats.metrics
            .consumer(STATUS_NAME, &source.dead_letters.name),
    );
    let name = "the messages' dead letters".to_owned();
    parts.consumers.push((name, followed.state()));
    startup.app_process("dead letter statuses", |shutdown: Shutdown| {
        followed.run(shutdown.soft().clone())
    });
    Ok(())
}

/// Forgets old statuses now and then until `shutdown`.
async fn prune(postgres: Postgres, keep: Duration, shutdown: CancellationToken) {
    loop {
        match postgres.prune(keep).await {
            Ok(pruned) if pruned.days > 0 => {
                tracing::info!(
                    days = pruned.days,
                    messages = pruned.messages,
                    "old statuses forgotten"
                );
            }
            Ok(_) => {}
            Err(err) => {
                let error = format!("{:#}", anyhow::Error::from(err));
                tracing::warn!(error, "old statuses could not be forgotten");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PRUNE_PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
