//! Servers, proxies, publishers and workers that belong together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ponix_clickhouse::{ClickHouseConfig, Client, Migrator};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{DeadLetters, StreamSettings};
use ponix_stack::{
    ClickHouse, ClickHouseBuilder, Nats, NatsBuilder, NatsCluster, Postgres, Proxy, eventually,
};
use tempfile::TempDir;

use crate::event::REFUSED_DEVICE;
use crate::ledger::Ledger;
use crate::oracle::Judgement;
use crate::pipeline::{Pipeline, write_declarations};
use crate::publishing::Publishing;
use crate::worker::binary;
use crate::{SOON, Worker};

/// Long runs leave much to read and to merge.
const QUERY_TIMEOUT: Duration = Duration::from_mins(5);
/// Reading a whole stream takes its time.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(15);

/// The NATS servers of a world.
#[derive(Debug)]
pub enum NatsServers {
    /// One server.
    Single(Box<Nats>),
    /// Three that replicate.
    Cluster(NatsCluster),
}

impl NatsServers {
    /// The URLs of all servers, separated by commas.
    pub fn url(&self) -> String {
        match self {
            Self::Single(nats) => nats.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

/// Describes a [`World`]: one NATS server, one ClickHouse, no proxies, short waits.
#[derive(Debug)]
pub struct WorldBuilder {
    nats: NatsBuilder,
    cluster: bool,
    clickhouse: ClickHouseBuilder,
    nats_proxy: bool,
    clickhouse_proxy: bool,
    all_pipelines: bool,
    env: BTreeMap<String, String>,
}

impl WorldBuilder {
    /// Has every pipeline, and PostgreSQL, beside the one of the envelopes.
    #[must_use]
    pub fn all_pipelines(mut self) -> Self {
        self.all_pipelines = true;
        self
    }

    /// Puts the NATS server into this folder.
    #[must_use]
    pub fn nats_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.nats = self.nats.data_dir(folder);
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
            anyhow::Ok(if self.cluster {
                NatsServers::Cluster(NatsCluster::builder().each(self.nats).start().await?)
            } else {
                NatsServers::Single(Box::new(self.nats.start().await?))
            })
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
            Some(OtherPipelines::start(&mut env).await?)
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
            env,
        };
        world.make_tables_and_stream().await?;
        Ok(world)
    }
}

/// Servers with tables and streams, and everything that talks to them.
#[derive(Debug)]
pub struct World {
    nats: NatsServers,
    clickhouse: ClickHouse,
    nats_proxy: Option<Proxy>,
    clickhouse_proxy: Option<Proxy>,
    store: Client,
    publishing: Publishing,
    ledger: Ledger,
    others: Option<OtherPipelines>,
    env: BTreeMap<String, String>,
}

/// What the pipelines beside the envelopes' need.
#[derive(Debug)]
struct OtherPipelines {
    postgres: Postgres,
    /// Their entities and documents.
    _declarations: TempDir,
}

impl OtherPipelines {
    /// Starts PostgreSQL, and tells the workers.
    async fn start(env: &mut BTreeMap<String, String>) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let folder = tempfile::tempdir()?;
        let (entities, pipelines) = (
            folder.path().join("entities"),
            folder.path().join("pipelines"),
        );
        let ack_wait = env["PONIX_NATS_ACK_WAIT_SECS"].clone();
        write_declarations(&entities, &pipelines, &format!("{ack_wait}s"))?;
        for (name, value) in [
            ("PONIX_POSTGRES_URL", postgres.url()),
            ("PONIX_ENTITIES_DIR", entities.display().to_string()),
            ("PONIX_PIPELINES_DIR", pipelines.display().to_string()),
            ("PONIX_MESSAGES_BATCH_SIZE", "100".to_owned()),
            ("PONIX_MESSAGES_NAK_DELAY_SECS", "0.2".to_owned()),
            ("PONIX_MESSAGES_ACK_WAIT_SECS", ack_wait),
        ] {
            env.insert(name.to_owned(), value);
        }
        Ok(Self {
            postgres,
            _declarations: folder,
        })
    }
}

impl World {
    /// Describes one.
    pub fn builder() -> WorldBuilder {
        let builder = WorldBuilder {
            nats: Nats::builder(),
            cluster: false,
            clickhouse: ClickHouse::builder(),
            nats_proxy: false,
            clickhouse_proxy: false,
            all_pipelines: false,
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

    /// One of the defaults.
    ///
    /// # Errors
    /// A server does not start.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// The NATS servers.
    pub fn nats_servers(&self) -> &NatsServers {
        &self.nats
    }

    /// The NATS server of a world without a cluster.
    ///
    /// # Panics
    /// There is a cluster.
    pub fn nats(&self) -> &Nats {
        match &self.nats {
            NatsServers::Single(nats) => nats,
            NatsServers::Cluster(_) => panic!("this world has a cluster"),
        }
    }

    /// ClickHouse.
    pub fn clickhouse(&self) -> &ClickHouse {
        &self.clickhouse
    }

    /// PostgreSQL.
    ///
    /// # Panics
    /// Not all pipelines were asked for.
    pub fn postgres(&self) -> &Postgres {
        &self.others.as_ref().expect("all pipelines").postgres
    }

    /// The pipelines that the workers run.
    pub fn pipelines(&self) -> &'static [Pipeline] {
        match self.others {
            Some(_) => &Pipeline::ALL,
            None => &[Pipeline::Envelopes],
        }
    }

    /// The proxy between the workers and NATS.
    ///
    /// # Panics
    /// None was asked for.
    pub fn nats_proxy(&self) -> &Proxy {
        self.nats_proxy.as_ref().expect("asked for at the start")
    }

    /// The proxy between the workers and ClickHouse.
    ///
    /// # Panics
    /// None was asked for.
    pub fn clickhouse_proxy(&self) -> &Proxy {
        self.clickhouse_proxy
            .as_ref()
            .expect("asked for at the start")
    }

    /// The publisher, on a connection that no proxy disturbs.
    pub fn publishing(&self) -> &Publishing {
        &self.publishing
    }

    /// Another publisher with a connection of its own and the same ledger.
    ///
    /// # Errors
    /// NATS does not answer.
    pub async fn another_publishing(&self) -> Result<Publishing> {
        Publishing::connect(&self.nats.url(), self.ledger.clone()).await
    }

    /// What was published.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Starts a worker with these failpoints and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start_worker(&self, failpoints: &str) -> Result<Worker> {
        let worker = self.launch_worker(failpoints, &[]).await?;
        worker.ready().await?;
        Ok(worker)
    }

    /// Starts a worker with these failpoints and further variables, and does not wait for it.
    ///
    /// # Errors
    /// There is no binary with failpoints.
    pub async fn launch_worker(&self, failpoints: &str, env: &[(&str, &str)]) -> Result<Worker> {
        let mut all = self.env.clone();
        all.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        self.start_process(all, &[], failpoints).await
    }

    async fn start_process(
        &self,
        mut env: BTreeMap<String, String>,
        args: &[&str],
        failpoints: &str,
    ) -> Result<Worker> {
        env.insert("FAILPOINTS".into(), failpoints.into());
        Worker::start(&binary().await?, args, &env)
    }

    /// Runs the worker's binary with these arguments to its end; its exit code and what it printed.
    ///
    /// # Errors
    /// It does not end.
    pub async fn run_command(
        &self,
        args: &[&str],
        failpoints: &str,
    ) -> Result<(Option<i32>, String)> {
        let mut env = self.env.clone();
        // Commands go to the servers themselves: what the proxies do is not their business.
        env.insert("PONIX_NATS_URL".into(), self.nats.url());
        env.insert("PONIX_CLICKHOUSE_URL".into(), self.clickhouse.url());
        let command = self.start_process(env, args, failpoints).await?;
        let status = command.ended_within(COMMAND_TIMEOUT).await?;
        Ok((status.code(), command.process().log()?))
    }

    /// Has every table refuse rows of the devices that [`Poison::RefusedByClickHouse`] uses.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    ///
    /// [`Poison::RefusedByClickHouse`]: crate::Poison::RefusedByClickHouse
    pub async fn refuse_some_rows(&self) -> Result<()> {
        for pipeline in self.pipelines() {
            let check = match pipeline {
                Pipeline::Messages => format!("(device NOT LIKE '{REFUSED_DEVICE}%')"),
                Pipeline::Readings => format!("NOT startsWith(meter, '{REFUSED_DEVICE}')"),
                Pipeline::Envelopes => format!("NOT startsWith(end_device_id, '{REFUSED_DEVICE}')"),
            };
            let table = pipeline.table();
            let add = format!("ALTER TABLE {table} ADD CONSTRAINT planted CHECK {check}");
            self.execute_on(*pipeline, &add).await?;
        }
        Ok(())
    }

    /// Has the table take all rows again.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn refuse_no_rows(&self) -> Result<()> {
        self.execute("ALTER TABLE processed_envelopes DROP CONSTRAINT planted")
            .await
    }

    /// The stream of the events.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn stream(&self) -> Result<Stream> {
        self.stream_of(Pipeline::Envelopes).await
    }

    /// The stream of the dead letters.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn dead_letter_stream(&self) -> Result<Stream> {
        self.stream_named(&dead_letters().name).await
    }

    /// The workers' consumer.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn consumer(&self) -> Result<Info> {
        self.consumer_of(Pipeline::Envelopes).await
    }

    /// Waits until every message is settled.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settled(&self) -> Result<()> {
        self.settled_within(SOON).await
    }

    /// As [`settled`](Self::settled), with a time of its own.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settled_within(&self, timeout: Duration) -> Result<()> {
        eventually("every message to be settled", timeout, || async {
            for pipeline in self.pipelines() {
                let info = self.consumer_of(*pipeline).await?;
                let left = (info.num_pending, info.num_ack_pending);
                let (pending, open) = left;
                ensure!(
                    left == (0, 0),
                    "{pipeline}: {pending} pending, {open} not settled"
                );
            }
            Ok(())
        })
        .await
    }

    /// Waits until readers see at least so many events.
    ///
    /// # Errors
    /// Not in time.
    pub async fn readable(&self, events: u64) -> Result<()> {
        eventually(format!("{events} events"), SOON, || async {
            let found = self.number("SELECT count() FROM envelopes").await?;
            ensure!(found >= events, "{found} events");
            Ok(())
        })
        .await
    }

    /// Rows in the table, copies included. Merges are held back, so every copy is counted.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn rows(&self) -> Result<u64> {
        self.number("SELECT count() FROM processed_envelopes").await
    }

    /// The one number of one row.
    ///
    /// # Errors
    /// ClickHouse does not answer.
    pub async fn number(&self, sql: &str) -> Result<u64> {
        let query = self.store.raw().query_raw(sql).fetch_one();
        Ok(tokio::time::timeout(QUERY_TIMEOUT, query).await??)
    }

    /// Two texts of every row.
    pub(crate) async fn pairs(&self, sql: &str) -> Result<Vec<(String, String)>> {
        let query = self.store.raw().query_raw(sql).fetch_all();
        Ok(tokio::time::timeout(QUERY_TIMEOUT, query).await??)
    }

    /// A connection to PostgreSQL.
    pub(crate) async fn postgres_client(&self) -> Result<tokio_postgres::Client> {
        let url = self.postgres().url();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Has a pipeline's table refuse every row, as after a constraint that was added by mistake.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn refuse_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let check = match pipeline {
            Pipeline::Messages => "(value < 0) NOT VALID",
            Pipeline::Readings => "value < 0",
            Pipeline::Envelopes => "end_device_id = ''",
        };
        let table = pipeline.table();
        let add = format!("ALTER TABLE {table} ADD CONSTRAINT mistaken CHECK {check}");
        self.execute_on(pipeline, &add).await
    }

    /// Takes the constraint away again.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn take_rows_of(&self, pipeline: Pipeline) -> Result<()> {
        let table = pipeline.table();
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT mistaken");
        self.execute_on(pipeline, &drop).await
    }

    async fn execute_on(&self, pipeline: Pipeline, sql: &str) -> Result<()> {
        match pipeline {
            Pipeline::Messages => Ok(self.postgres_client().await?.batch_execute(sql).await?),
            Pipeline::Envelopes | Pipeline::Readings => self.execute(sql).await,
        }
    }

    /// Executes a statement.
    ///
    /// # Errors
    /// ClickHouse refuses it, or does not answer.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let query = self.store.raw().query_raw(sql).execute();
        Ok(tokio::time::timeout(QUERY_TIMEOUT, query).await??)
    }

    /// Judges, and [confirms](Self::confirm) the judgement.
    ///
    /// # Errors
    /// The oracle finds something wrong, or its judgement is not confirmed.
    pub async fn expect_sound(&self) -> Result<Judgement> {
        let judgements = self.judge_all().await?;
        for (pipeline, judgement) in &judgements {
            ensure!(
                judgement.is_sound(),
                "{pipeline} are not sound: {judgement}"
            );
        }
        self.confirm().await?;
        Ok(judgements[&Pipeline::Envelopes].clone())
    }

    /// Judges every pipeline.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn judge_all(&self) -> Result<BTreeMap<Pipeline, Judgement>> {
        let mut judgements = BTreeMap::new();
        for pipeline in self.pipelines() {
            judgements.insert(*pipeline, self.judge_pipeline(*pipeline).await?);
        }
        Ok(judgements)
    }

    /// Asks the reconciler too; then merges everything and judges again.
    ///
    /// # Errors
    /// The reconciler finds something wrong, or merging changes what readers see.
    pub async fn confirm(&self) -> Result<()> {
        let (code, report) = self.run_command(&["reconcile"], "").await?;
        ensure!(
            code == Some(0),
            "the reconciler ends with {code:?}: {report}"
        );
        for pipeline in self.pipelines() {
            if *pipeline != Pipeline::Messages {
                let optimize = format!("OPTIMIZE TABLE {} FINAL", pipeline.table());
                self.execute(&optimize).await?;
            }
            let merged = self.judge_pipeline(*pipeline).await?;
            ensure!(
                merged.is_sound(),
                "{pipeline} are not sound once merged: {merged}"
            );
            ensure!(
                merged.physical_duplicates == 0,
                "{pipeline}: copies are left once all parts are merged: {merged}"
            );
        }
        Ok(())
    }

    async fn make_tables_and_stream(&self) -> Result<()> {
        Migrator::new(&self.store).up().await?;
        // Copies are counted, so merges must not drop them; unlike SYSTEM STOP MERGES this holds
        // over restarts. Many parts are then no reason to refuse more.
        self.execute(
            "ALTER TABLE processed_envelopes MODIFY SETTING \
             max_bytes_to_merge_at_max_space_in_pool = 1, \
             max_bytes_to_merge_at_min_space_in_pool = 1, \
             parts_to_delay_insert = 100000, parts_to_throw_insert = 100000",
        )
        .await?;
        let (mut stream, mut dead_letters) = (stream(), dead_letters());
        if matches!(self.nats, NatsServers::Cluster(_)) {
            (stream.replicas, dead_letters.replicas) = (3, 3);
        }
        stream.bytes_max = self.env["PONIX_NATS_STREAM_BYTES_MAX"].parse()?;
        dead_letters.bytes_max = self.env["PONIX_NATS_DEAD_LETTER_BYTES_MAX"].parse()?;
        for settings in [stream, dead_letters] {
            settings.reconcile(self.publishing.context()).await?;
        }
        Ok(())
    }
}

/// The names; the sizes are those that the workers are told.
fn stream() -> StreamSettings {
    let name = Pipeline::Envelopes.stream();
    StreamSettings::new(name, vec![format!("{name}.>")])
}

fn dead_letters() -> StreamSettings {
    let source = stream();
    DeadLetters::stream_settings(&source, source.bytes_max)
}
