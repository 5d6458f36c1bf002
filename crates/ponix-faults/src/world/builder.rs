//! How a world is described and started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use ponix_clickhouse::{ClickHouseConfig, Client};
use ponix_stack::{ClickHouse, ClickHouseBuilder, Nats, NatsBuilder, NatsCluster, Proxy};

use super::others::OtherPipelines;
use super::{NatsServers, World};
use crate::SOON;
use crate::ledger::Ledger;
use crate::publishing::Publishing;

impl World {
    /// Describes one.
    pub fn builder() -> WorldBuilder {
        let builder = WorldBuilder {
            nats: Nats::builder(),
            nats_folder: None,
            cluster: false,
            clickhouse: ClickHouse::builder(),
            nats_proxy: false,
            clickhouse_proxy: false,
            postgres_proxy: false,
            all_pipelines: false,
            view: false,
            env: BTreeMap::new(),
        };
        builder
            .env("RUST_LOG", "")
            .env("PONIX_INGEST_ENABLED", false)
            .env("PONIX_INTERVAL_SECS", 0)
            .env("PONIX_NATS_STREAM_BYTES_MAX", 1 << 30)
            .env("PONIX_NATS_DEAD_LETTER_BYTES_MAX", 256 << 20)
            .env("PONIX_STARTUP_TIMEOUT_SECS", SOON.as_secs())
            .env("PONIX_NATS_BATCH_SIZE", 100)
            .env("PONIX_NATS_BATCH_WAIT_SECS", 0.2)
            .env("PONIX_NATS_ACK_WAIT_SECS", 2)
            .env("PONIX_NATS_NAK_DELAY_SECS", 0.2)
            .env("PONIX_NATS_REQUEST_TIMEOUT_SECS", 2)
            .env("PONIX_NATS_PING_INTERVAL_SECS", 1)
            .env("PONIX_NATS_STALL_TIMEOUT_SECS", 5)
            .env("PONIX_CLICKHOUSE_RETRY_BACKOFF_MAX_SECS", 0.5)
    }
}

/// Describes a [`World`]: one NATS server, one ClickHouse, no proxies, short waits.
#[derive(Debug)]
pub struct WorldBuilder {
    nats: NatsBuilder,
    nats_folder: Option<PathBuf>,
    cluster: bool,
    clickhouse: ClickHouseBuilder,
    nats_proxy: bool,
    clickhouse_proxy: bool,
    postgres_proxy: bool,
    all_pipelines: bool,
    view: bool,
    env: BTreeMap<String, String>,
}

impl WorldBuilder {
    /// Has every pipeline, and PostgreSQL, beside the one of the envelopes.
    #[must_use]
    pub fn all_pipelines(mut self) -> Self {
        self.all_pipelines = true;
        self
    }

    /// Has a materialized view over the table of the envelopes.
    #[must_use]
    pub fn view(mut self) -> Self {
        self.view = true;
        self
    }

    /// Puts the NATS server into this folder; those of a cluster into `nats-0` and so on below it.
    #[must_use]
    pub fn nats_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.nats_folder = Some(folder.into());
        self
    }

    /// Sets how often NATS syncs what it stores to the disk, as NATS writes it: `always` or `10s`.
    #[must_use]
    pub fn nats_sync_interval(mut self, interval: &str) -> Self {
        self.nats = self.nats.sync_interval(interval);
        self
    }

    /// Puts ClickHouse into this folder.
    #[must_use]
    pub fn clickhouse_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.clickhouse = self.clickhouse.data_dir(folder);
        self
    }

    /// Has three NATS servers that replicate, instead of one.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self.env("PONIX_NATS_REPLICAS", 3)
    }

    /// Puts a proxy between the workers and NATS.
    #[must_use]
    pub fn nats_proxy(mut self) -> Self {
        self.nats_proxy = true;
        self
    }

    /// Puts a proxy between the workers and ClickHouse.
    #[must_use]
    pub fn clickhouse_proxy(mut self) -> Self {
        self.clickhouse_proxy = true;
        self
    }

    /// Puts a proxy between the workers and PostgreSQL, of a world with all pipelines.
    #[must_use]
    pub fn postgres_proxy(mut self) -> Self {
        self.postgres_proxy = true;
        self
    }

    /// Sets a variable of every worker.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and texts read better without &"
    )]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Starts the servers and makes the tables; there is no worker yet.
    ///
    /// # Errors
    /// A server does not start.
    pub async fn start(self) -> Result<World> {
        let nats = async {
            if self.cluster {
                let mut cluster = NatsCluster::builder().each(self.nats);
                if let Some(folder) = self.nats_folder {
                    cluster = cluster.data_dir(folder);
                }
                return Ok(NatsServers::Cluster(cluster.start().await?));
            }
            let mut nats = self.nats;
            if let Some(folder) = self.nats_folder {
                nats = nats.data_dir(folder);
            }
            anyhow::Ok(NatsServers::Single(Box::new(nats.start().await?)))
        };
        let (nats, clickhouse) = tokio::try_join!(nats, self.clickhouse.start())?;
        let nats_proxy = match &nats {
            NatsServers::Single(nats) if self.nats_proxy => Some(Proxy::start(nats.addr()).await?),
            NatsServers::Cluster(_) if self.nats_proxy => bail!("a cluster has no proxy"),
            _ => None,
        };
        let clickhouse_proxy = if self.clickhouse_proxy {
            Some(Proxy::start(clickhouse.addr()).await?)
        } else {
            None
        };
        let store = Client::new(&ClickHouseConfig {
            url: clickhouse.url(),
            username: clickhouse.user().to_owned(),
            password: clickhouse.password().into(),
            ..ClickHouseConfig::default()
        })?;
        let ledger = Ledger::default();
        let publishing = Publishing::connect(&nats.url(), ledger.clone()).await?;
        let mut env = self.env;
        let others = if self.all_pipelines {
            Some(OtherPipelines::start(&mut env, self.postgres_proxy).await?)
        } else {
            None
        };
        let nats_url = nats_proxy.as_ref().map(|proxy| proxy.url("nats"));
        env.insert(
            "PONIX_NATS_URL".into(),
            nats_url.unwrap_or_else(|| nats.url()),
        );
        let clickhouse_url = clickhouse_proxy.as_ref().map(|proxy| proxy.url("http"));
        let clickhouse_url = clickhouse_url.unwrap_or_else(|| clickhouse.url());
        env.insert("PONIX_CLICKHOUSE_URL".into(), clickhouse_url);
        let world = World {
            nats,
            clickhouse,
            nats_proxy,
            clickhouse_proxy,
            store,
            publishing,
            ledger,
            others,
            view: self.view,
            env,
        };
        world.make_tables_and_stream().await?;
        Ok(world)
    }
}
