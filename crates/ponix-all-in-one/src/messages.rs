//! The pipeline of raw messages: stream `MESSAGES` → rows → one transaction → acks.

mod dead_letters;
mod metrics;
mod processor;
mod store;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ponix_entities::Catalog;
use ponix_nats::{BatchConsumer, BatchSettings, DeadLetters, Janitor};
use ponix_postgres::{EntitiesError, ErrorKind, MigrateError, Postgres, PostgresMetrics};
use ponix_runner::{Shutdown, Startup};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::dead_letters::DeadLetterStatus;
pub(crate) use self::metrics::MessageMetrics;
use self::processor::MessageProcessor;
pub(crate) use self::store::{PostgresMessages, entity_format};
use crate::config::Config;
use crate::nats::Nats;
use crate::readiness::Parts;
use crate::retry::until_ready;
use crate::{janitor, store_health};

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
    let dir = config.service.entities_dir.as_deref();
    let dir = dir.context("PONIX_ENTITIES_DIR is not set")?;
    let catalog = Catalog::load(dir).context("PONIX_ENTITIES_DIR")?;

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
        postgres,
        catalog: Arc::new(catalog),
    }))
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
    let messages = &config.messages;
    let stream = messages.stream(&config.nats);
    let dead_letter_stream = messages.dead_letters(&config.nats);
    let source = nats.stream(&stream).await?;
    let dead = nats.stream(&dead_letter_stream).await?;

    let Store { postgres, catalog } = store;
    watch_postgres(startup, postgres.clone(), parts);
    let keep = config.postgres.status_keep_secs;
    let pruned = postgres.clone();
    startup.app_process("status pruning", move |shutdown: Shutdown| async move {
        prune(pruned, keep, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
    if !messages.enabled {
        return Ok(());
    }
    let consumer = nats
        .consumer(&messages.consumer(), &source, &stream)
        .await?;
    let settings = BatchSettings {
        hold_backoff: HOLD_BACKOFF,
        ..messages.batches(&config.nats)
    };
    let dead_letters = DeadLetters::new(nats.publisher.clone(), &dead_letter_stream);
    let consumer = BatchConsumer::new(
        nats.consuming.clone(),
        consumer,
        MessageProcessor::new(postgres.clone(), catalog, &settings, metrics),
        dead_letters.clone(),
        settings.clone(),
        &nats.metrics,
    );
    parts.consumers.push(("messages", consumer.state()));
    startup.app_process("message consumer", |shutdown: Shutdown| {
        consumer.run(shutdown.soft().clone())
    });

    // Whoever condemns a message, its status follows from the dead letters themselves.
    let status_consumer = nats
        .consumer(&messages.status_consumer(), &dead, &dead_letter_stream)
        .await?;
    let followed = BatchConsumer::new(
        nats.consuming.clone(),
        status_consumer,
        DeadLetterStatus::new(postgres),
        dead_letters,
        BatchSettings {
            deliveries_max: u32::MAX,
            ..settings
        },
        &nats.metrics,
    );
    parts
        .consumers
        .push(("the messages' dead letters", followed.state()));
    startup.app_process("dead letter statuses", |shutdown: Shutdown| {
        followed.run(shutdown.soft().clone())
    });
    let janitor = Janitor::new(source, messages.history_secs);
    let janitor_interval = config.nats.janitor_interval_secs;
    startup.app_process("message janitor", move |shutdown: Shutdown| async move {
        janitor::run(janitor, janitor_interval, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
    Ok(())
}

fn watch_postgres(startup: &Startup, postgres: Postgres, parts: &mut Parts) {
    let (health, state) = watch::channel(Ok(()));
    parts.stores.push(("postgresql", state));
    startup.app_process("postgresql health", move |shutdown: Shutdown| async move {
        let ping = || postgres.ping();
        store_health::watch("postgresql", ping, health, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
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
