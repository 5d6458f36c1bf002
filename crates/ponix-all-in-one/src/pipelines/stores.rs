//! The stores of the pipelines: made ready before the first pipeline starts, and watched.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ponix_clickhouse::{ClickHouseMetrics, Client, ErrorKind, Migrator, RequestError};
use ponix_entities::Catalog;
use ponix_pipeline::{Pipeline, Sink};
use ponix_postgres::{
    EntitiesError, ErrorKind as PostgresErrorKind, MigrateError, Postgres, PostgresMetrics,
};
use ponix_runner::{Shutdown, Startup};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Writer, with_default};
use crate::commands::migrate;
use crate::config::Config;
use crate::readiness::Parts;
use crate::retry::until_ready;
use crate::store_health;

/// Names of the stores, as `/readyz` has them.
pub(super) const CLICKHOUSE: &str = "clickhouse";
pub(super) const POSTGRESQL: &str = "postgresql";
/// Time between two looks for statuses that are old enough to go.
const PRUNE_PERIOD: Duration = Duration::from_hours(1);

/// Where pipelines write.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) clickhouse: Client,
    pub(crate) clickhouse_metrics: ClickHouseMetrics,
    /// PostgreSQL, where it is configured, with the service's own entities.
    pub(crate) postgres: Option<EntityStore>,
    /// Until when a store may keep a start waiting.
    pub(crate) deadline: Instant,
}

/// PostgreSQL, and the entities whose messages go there.
#[derive(Debug, Clone)]
pub(crate) struct EntityStore {
    pub(crate) postgres: Postgres,
    pub(crate) catalog: Arc<Catalog>,
}

impl Stores {
    /// Brings tables that are the service's own to what this version and the entities need.
    ///
    /// # Errors
    /// A store is not there by `deadline` or refuses, or the entities cannot be followed.
    pub(crate) async fn prepare(
        config: &Config,
        pipelines: &[Pipeline],
        startup: &Startup,
        (clickhouse_metrics, postgres_metrics): (ClickHouseMetrics, PostgresMetrics),
        deadline: Instant,
    ) -> anyhow::Result<Self> {
        let clickhouse = Client::new(&config.clickhouse.client())
            .context("the clickhouse configuration is wrong")?;
        let has_envelopes = |one: &Pipeline| matches!(Writer::of(one), Ok(Writer::Envelopes));
        if pipelines.iter().any(has_envelopes) {
            migrate_clickhouse(config, &clickhouse, startup, deadline).await?;
        }
        Ok(Self {
            clickhouse,
            clickhouse_metrics,
            postgres: prepare_postgres(config, startup, postgres_metrics, deadline).await?,
            deadline,
        })
    }

    /// Returns PostgreSQL for a pipeline.
    ///
    /// # Errors
    /// It is not configured.
    pub(crate) fn postgres(&self, pipeline: &Pipeline) -> anyhow::Result<Postgres> {
        let store = self.postgres.as_ref();
        let store = store.context("PONIX_POSTGRES_URL is not set")?;
        Ok(store.postgres.for_pipeline(&pipeline.name))
    }

    /// Returns PostgreSQL for raw messages that come over HTTP, where it is configured with entities:
    /// without, only declared pipelines write there.
    pub(crate) fn for_messages(&self) -> Option<EntityStore> {
        let store = self.postgres.as_ref()?;
        if store.catalog.entities().is_empty() {
            return None;
        }
        Some(EntityStore {
            postgres: store.postgres.for_pipeline(super::MESSAGES),
            catalog: Arc::clone(&store.catalog),
        })
    }

    /// Starts what goes on with the stores beside the pipelines.
    pub(crate) fn start(
        &self,
        config: &Config,
        pipelines: &[Pipeline],
        startup: &Startup,
        parts: &mut Parts,
    ) {
        let in_clickhouse = |one: &Pipeline| matches!(one.sink, Sink::Clickhouse(_));
        if pipelines.iter().any(in_clickhouse) {
            let client = self.clickhouse.clone();
            let ping = move || {
                let client = client.clone();
                async move { client.ping().await }
            };
            watch_store(CLICKHOUSE, ping, startup, parts);
        }
        let Some(EntityStore { postgres, .. }) = &self.postgres else {
            return;
        };
        let pinged = postgres.clone();
        let ping = move || {
            let postgres = pinged.clone();
            async move { postgres.ping().await }
        };
        watch_store(POSTGRESQL, ping, startup, parts);
        let (postgres, keep) = (postgres.clone(), config.postgres.status_keep_secs);
        startup.app_process("status pruning", move |shutdown: Shutdown| async move {
            prune(postgres, keep, shutdown.soft().clone()).await;
            anyhow::Ok(())
        });
    }
}

async fn migrate_clickhouse(
    config: &Config,
    client: &Client,
    startup: &Startup,
    deadline: Instant,
) -> anyhow::Result<()> {
    // Named with the address: a server that hangs until the time is over is told by its phase.
    startup.phase(format!("migrations on {}", config.clickhouse.url));
    migrate::up(&Migrator::new(client), deadline)
        .await
        .with_context(|| format!("clickhouse at {}", config.clickhouse.url))?;
    startup.phase("clickhouse ping");
    until_ready(
        "clickhouse ping",
        deadline,
        |err: &RequestError| err.kind() == ErrorKind::Transient,
        || client.ping(),
    )
    .await
}

/// Returns `None` where PostgreSQL is not configured.
async fn prepare_postgres(
    config: &Config,
    startup: &Startup,
    metrics: PostgresMetrics,
    deadline: Instant,
) -> anyhow::Result<Option<EntityStore>> {
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
        |err: &MigrateError| err.kind() == PostgresErrorKind::Transient,
        || postgres.migrate(),
    )
    .await
    .with_context(|| format!("postgresql at {}", config.postgres.url_shown()))?;
    startup.phase("tables of the entities");
    make_tables(&postgres, &catalog, deadline).await?;
    Ok(Some(EntityStore {
        postgres,
        catalog: Arc::new(catalog),
    }))
}

/// Makes and extends the tables of entities.
///
/// # Errors
/// PostgreSQL is not there by `deadline` or refuses.
pub(super) async fn make_tables(
    postgres: &Postgres,
    catalog: &Catalog,
    deadline: Instant,
) -> anyhow::Result<()> {
    let changes = until_ready(
        "tables of the entities",
        deadline,
        |err: &EntitiesError| err.kind() == PostgresErrorKind::Transient,
        || postgres.apply_entities(catalog),
    )
    .await?;
    for statement in changes {
        tracing::info!(statement, "a table of the entities was changed");
    }
    Ok(())
}

/// Starts the watch on a store.
fn watch_store<E, F>(
    store: &'static str,
    ping: impl Fn() -> F + Send + Sync + 'static,
    startup: &Startup,
    parts: &mut Parts,
) where
    E: Into<anyhow::Error> + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let (health, state) = watch::channel(Ok(()));
    parts.stores.push((store, state));
    startup.app_process(
        format!("{store} health"),
        move |shutdown: Shutdown| async move {
            store_health::watch(store, ping, health, shutdown.soft().clone()).await;
            anyhow::Ok(())
        },
    );
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
