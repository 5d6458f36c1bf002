//! Servers, proxies, publishers and workers that belong together.

mod breaking;
mod builder;
mod others;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use ponix_clickhouse::{Client, Migrator};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{DeadLetters, StreamSettings};
use ponix_stack::{ClickHouse, Nats, NatsCluster, Postgres, Proxy, eventually};

pub use self::builder::WorldBuilder;
use self::others::OtherPipelines;
use crate::ledger::Ledger;
use crate::oracle::Judgement;
use crate::pipeline::Pipeline;
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
    pub(crate) view: bool,
    env: BTreeMap<String, String>,
}

impl World {
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

    /// The proxy between the workers and PostgreSQL.
    ///
    /// # Panics
    /// None was asked for.
    pub fn postgres_proxy(&self) -> &Proxy {
        let others = self.others.as_ref();
        let proxy = others.and_then(|others| others.postgres_proxy.as_ref());
        proxy.expect("asked for at the start")
    }

    /// The cluster of a world that has one.
    ///
    /// # Panics
    /// There is one server.
    pub fn nats_cluster(&self) -> &NatsCluster {
        match &self.nats {
            NatsServers::Cluster(cluster) => cluster,
            NatsServers::Single(_) => panic!("this world has one server"),
        }
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
        self.dead_letters_of(Pipeline::Envelopes).await
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

    async fn execute_on(&self, pipeline: Pipeline, sql: &str) -> Result<()> {
        match pipeline {
            Pipeline::Messages => {
                let client = self.postgres_client().await?;
                // All writers wait behind who waits for the table.
                client.batch_execute("SET lock_timeout = '2s'").await?;
                Ok(client.batch_execute(sql).await?)
            }
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
        if self.view {
            self.add_view().await?;
        }
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
