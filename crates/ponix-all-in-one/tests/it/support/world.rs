//! A stream and a database for one test, on servers that the tests share.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::ensure;
use ponix_clickhouse::{ClickHouseConfig, Client};
use ponix_nats::async_nats::HeaderMap;
use ponix_nats::async_nats::jetstream::Context;
use ponix_nats::async_nats::jetstream::message::StreamMessage;
use ponix_nats::{
    ConnectionRole, DeadLetters, NatsConfig, NatsMetrics, OutgoingMessage, PendingPublish,
    Publisher, StreamSettings, connect, envelope_message, jetstream_context,
};
use ponix_stack::{ClickHouse, Nats, eventually, watch_this_test};
use ponix_wire::envelope::v1::ProcessedEnvelope;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::{SOON, ServiceBuilder};

const STREAM_BYTES_MAX: u64 = 64 << 20;
const PUBLISHES_IN_FLIGHT_MAX: usize = 256;

/// Servers, and names on them that no other test uses.
pub(crate) struct World {
    /// Stream, subject prefix and database.
    pub(crate) name: String,
    pub(crate) nats: Arc<Nats>,
    pub(crate) clickhouse: Arc<ClickHouse>,
    store: Client,
    jetstream: OnceCell<(Context, Publisher)>,
}

/// What the consumer still has to do with the messages of its stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) pending: u64,
    pub(crate) ack_pending: u64,
}

impl World {
    /// On the servers that all tests share which do not harm them.
    pub(crate) async fn new(name: &str) -> Self {
        let (nats, clickhouse) = tokio::join!(shared_nats(), shared_clickhouse());
        Self::on(name, nats, clickhouse)
    }

    /// On a NATS of its own, for faults to be injected.
    pub(crate) async fn with_own_nats(name: &str) -> Self {
        let nats = Arc::new(Nats::start().await.unwrap());
        Self::on(name, nats, shared_clickhouse().await)
    }

    /// On a ClickHouse of its own, for faults to be injected.
    pub(crate) async fn with_own_clickhouse(name: &str) -> Self {
        let clickhouse = Arc::new(ClickHouse::start().await.unwrap());
        Self::on(name, shared_nats().await, clickhouse)
    }

    pub(crate) fn on(name: &str, nats: Arc<Nats>, clickhouse: Arc<ClickHouse>) -> Self {
        let config = ClickHouseConfig {
            url: clickhouse.url(),
            database: name.to_owned(),
            username: clickhouse.user().to_owned(),
            password: clickhouse.password().into(),
            ..ClickHouseConfig::default()
        };
        Self {
            name: name.to_owned(),
            nats,
            clickhouse,
            store: Client::new(&config).unwrap(),
            jetstream: OnceCell::new(),
        }
    }

    /// A service of this world: no sample producer, short waits, a free admin port.
    pub(crate) fn service(&self) -> ServiceBuilder {
        ServiceBuilder::new()
            .env("PONIX_INGEST_ADDR", "127.0.0.1:0")
            .env("PONIX_INTERVAL_SECS", 0)
            .env("PONIX_STARTUP_TIMEOUT_SECS", SOON.as_secs())
            .env("PONIX_SHUTDOWN_TIMEOUT_SECS", SOON.as_secs())
            .env("PONIX_NATS_URL", self.nats.url())
            .env("PONIX_NATS_STREAM", &self.name)
            .env("PONIX_NATS_SUBJECT", format!("{}.>", self.name))
            .env("PONIX_NATS_STREAM_BYTES_MAX", STREAM_BYTES_MAX)
            .env("PONIX_NATS_DEAD_LETTER_BYTES_MAX", STREAM_BYTES_MAX)
            .env("PONIX_NATS_BATCH_WAIT_SECS", 0.2)
            .env("PONIX_NATS_NAK_DELAY_SECS", 0.1)
            .env("PONIX_CLICKHOUSE_URL", self.clickhouse.url())
            .env("PONIX_CLICKHOUSE_DATABASE", &self.name)
            .env("PONIX_CLICKHOUSE_RETRY_BACKOFF_MAX_SECS", 0.5)
    }

    /// Runs `migrate` with this direction; returns what it printed.
    pub(crate) async fn migrate(&self, direction: &str) -> String {
        let (code, printed) = self.service().args(&["migrate", direction]).run().await;
        assert_eq!(code, 0, "{printed}");
        printed
    }

    /// Makes the tables and keeps merges from dropping copies, so that every copy can be counted.
    pub(crate) async fn tables_that_keep_copies(&self) {
        self.migrate("up").await;
        self.execute("SYSTEM STOP MERGES processed_envelopes").await;
    }

    /// The stream as the service asks for it.
    pub(crate) fn stream(&self) -> StreamSettings {
        StreamSettings {
            bytes_max: STREAM_BYTES_MAX,
            ..StreamSettings::new(self.name.clone(), vec![format!("{}.>", self.name)])
        }
    }

    /// Makes the stream before there is a service, for a backlog.
    pub(crate) async fn create_stream(&self) {
        self.stream().reconcile(self.context().await).await.unwrap();
    }

    pub(crate) async fn context(&self) -> &Context {
        &self.jetstream().await.0
    }

    pub(crate) async fn jetstream(&self) -> &(Context, Publisher) {
        let connected = self.jetstream.get_or_init(|| async {
            let config = NatsConfig {
                servers: vec![self.nats.url()],
                ..NatsConfig::default()
            };
            let metrics = NatsMetrics::unregistered();
            let deadline = Instant::now() + SOON;
            let client = connect(&config, ConnectionRole::Publish, &metrics, deadline);
            let client = client.await.unwrap();
            let publisher =
                Publisher::new(client.clone(), &config, PUBLISHES_IN_FLIGHT_MAX, metrics);
            (jetstream_context(client, &config), publisher)
        });
        connected.await
    }

    /// Publishes events, pipelined, in order.
    pub(crate) async fn publish(&self, envelopes: impl IntoIterator<Item = ProcessedEnvelope>) {
        let messages = envelopes
            .into_iter()
            .map(|envelope| envelope_message(&self.name, envelope).unwrap());
        self.send(messages).await;
    }

    /// Publishes bodies as they are, without a message id.
    pub(crate) async fn publish_bodies(&self, bodies: impl IntoIterator<Item = Vec<u8>>) {
        let messages = bodies.into_iter().map(|body| OutgoingMessage {
            subject: format!("{}.device", self.name),
            id: None,
            headers: HeaderMap::new(),
            payload: body.into(),
        });
        self.send(messages).await;
    }

    async fn send(&self, messages: impl Iterator<Item = OutgoingMessage>) {
        let (_, publisher) = self.jetstream().await;
        let mut waiting = VecDeque::new();
        for message in messages {
            if waiting.len() == PUBLISHES_IN_FLIGHT_MAX {
                let first: PendingPublish = waiting.pop_front().unwrap();
                first.wait().await.unwrap();
            }
            waiting.push_back(publisher.send(message).await.unwrap());
        }
        for pending in waiting {
            pending.wait().await.unwrap();
        }
    }

    /// What is in the dead letters, oldest first.
    pub(crate) async fn dead_letters(&self) -> Vec<StreamMessage> {
        let settings = DeadLetters::stream_settings(&self.stream(), STREAM_BYTES_MAX);
        let stream = self
            .context()
            .await
            .get_stream(settings.name)
            .await
            .unwrap();
        let state = &stream.cached_info().state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            messages.push(stream.get_raw_message(sequence).await.unwrap());
        }
        messages
    }

    /// Asks the server for the consumer of the default name.
    pub(crate) async fn settlement(&self) -> anyhow::Result<Settlement> {
        let stream = self.context().await.get_stream(&self.name).await?;
        let info = stream.consumer_info("ponix-all-in-one").await?;
        Ok(Settlement {
            pending: info.num_pending,
            ack_pending: info.num_ack_pending as u64,
        })
    }

    /// Waits until every message is settled.
    pub(crate) async fn settled(&self) {
        eventually("every message settled", SOON, || async {
            let left = self.settlement().await?;
            ensure!((left.pending, left.ack_pending) == (0, 0), "{left:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits until readers see so many events, and asserts that they do not see more.
    pub(crate) async fn stored(&self, events: u64) {
        eventually(format!("{events} events"), SOON, || async {
            let found = self.number("SELECT count() FROM envelopes").await?;
            ensure!(found >= events, "{found} events");
            Ok(())
        })
        .await
        .unwrap();
        self.assert_events(events).await;
    }

    /// Asserts that readers see so many events, each once.
    pub(crate) async fn assert_events(&self, events: u64) {
        let sql = "SELECT toString((count(), uniqExact(event_id))) FROM envelopes";
        assert_eq!(self.text(sql).await, format!("({events},{events})"));
    }

    /// Rows in the table, with copies that merges have not dropped.
    pub(crate) async fn copies(&self) -> u64 {
        let sql = "SELECT count() FROM processed_envelopes";
        self.number(sql).await.unwrap()
    }

    /// The one value of one row, a text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let query = self.store.raw().query_raw(sql);
        let query = query.with_setting("json_type_escape_dots_in_keys", "1");
        query.fetch_one().await.expect(sql)
    }

    /// The one value of one row, a number; an error while it cannot be asked.
    pub(crate) async fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let query = self.store.raw().query_raw(sql).fetch_one();
        Ok(tokio::time::timeout(Duration::from_secs(10), query).await??)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.store.raw().query_raw(sql).execute().await.unwrap();
    }
}

/// A server that tests running at the same time share; the last one takes it down.
async fn shared_nats() -> Arc<Nats> {
    static SHARED: Mutex<Weak<Nats>> = Mutex::const_new(Weak::new());
    shared(&SHARED, Nats::start).await
}

/// As [`shared_nats`].
async fn shared_clickhouse() -> Arc<ClickHouse> {
    static SHARED: Mutex<Weak<ClickHouse>> = Mutex::const_new(Weak::new());
    shared(&SHARED, ClickHouse::start).await
}

async fn shared<T, F>(server: &Mutex<Weak<T>>, start: impl FnOnce() -> F + Send) -> Arc<T>
where
    T: Send + Sync,
    F: Future<Output = anyhow::Result<T>> + Send,
{
    watch_this_test();
    let mut server = server.lock().await;
    if let Some(running) = server.upgrade() {
        return running;
    }
    let started = Arc::new(start().await.unwrap());
    *server = Arc::downgrade(&started);
    started
}
