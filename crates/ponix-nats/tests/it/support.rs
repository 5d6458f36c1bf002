//! What the tests share: a server, a scene of streams and consumer, a processor with a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_nats::jetstream::consumer::{Info, PullConsumer};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::future::BoxFuture;
use ponix_nats::async_nats;
use ponix_nats::{
    Batch, BatchConsumer, BatchConsumerError, BatchProcessor, BatchSettings, ConnectionRole,
    ConsumerMetrics, ConsumerSettings, ConsumerState, DeadLetter, DeadLetterReason, DeadLetters,
    Delivery, NatsConfig, NatsMetrics, OutgoingMessage, PendingPublish, ProcessError,
    ProcessingResult, Publisher, StreamSettings, connect, jetstream_context,
};
use ponix_stack::{Nats, eventually, watch_this_test};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough on a busy machine for what happens in milliseconds on an idle one.
pub(crate) const SOON: Duration = Duration::from_mins(1);

const IN_FLIGHT_MAX: usize = 256;

/// A server that tests running at the same time share; the last one takes it down.
pub(crate) async fn shared_nats() -> Arc<Nats> {
    watch_this_test();
    static SHARED: tokio::sync::Mutex<Weak<Nats>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(nats) = shared.upgrade() {
        return nats;
    }
    let nats = Arc::new(Box::pin(Nats::start()).await.unwrap());
    *shared = Arc::downgrade(&nats);
    nats
}

/// A configuration for a server that needs no login.
pub(crate) fn config(url: &str) -> NatsConfig {
    NatsConfig {
        servers: vec![url.to_owned()],
        request_timeout: Duration::from_secs(20),
        ..NatsConfig::default()
    }
}

/// The same for a server that will not always answer.
pub(crate) fn impatient(url: &str) -> NatsConfig {
    NatsConfig {
        request_timeout: Duration::from_secs(2),
        ..config(url)
    }
}

/// Streams, a consumer and connections of one test, under a name of its own.
pub(crate) struct Scene {
    /// Of the consumer.
    pub(crate) metrics: ConsumerMetrics,
    pub(crate) nats_metrics: NatsMetrics,
    pub(crate) client: async_nats::Client,
    pub(crate) context: Context,
    pub(crate) publisher: Publisher,
    pub(crate) source: StreamSettings,
    pub(crate) dead: StreamSettings,
    pub(crate) consumer: ConsumerSettings,
    /// Keeps a shared server up.
    pub(crate) server: Option<Arc<Nats>>,
}

impl Scene {
    /// On the shared server.
    pub(crate) async fn shared(name: &str) -> Self {
        let nats = shared_nats().await;
        let mut scene = Box::pin(Self::at(&nats.url(), name)).await;
        scene.server = Some(nats);
        scene
    }

    /// On the server at this URL, with streams and consumer created.
    pub(crate) async fn at(url: &str, name: &str) -> Self {
        let scene = Self::bare(url, name).await;
        scene.create().await;
        scene
    }

    /// The same, for a server that will not always answer.
    pub(crate) async fn at_impatient(url: &str, name: &str) -> Self {
        let scene = Self::with(impatient(url), name).await;
        scene.create().await;
        scene
    }

    /// Connected, with settings, and nothing created.
    pub(crate) async fn bare(url: &str, name: &str) -> Self {
        Self::with(config(url), name).await
    }

    /// The same, with this configuration of the connections.
    pub(crate) async fn with(config: NatsConfig, name: &str) -> Self {
        let nats_metrics = NatsMetrics::unregistered();
        let metrics = &nats_metrics;
        let deadline = Instant::now() + SOON;
        let consume = connect(&config, ConnectionRole::Consume, metrics, deadline);
        let publish = connect(&config, ConnectionRole::Publish, metrics, deadline);
        let (consume, publish) = (Box::pin(consume), Box::pin(publish));
        let (client, publish) = tokio::try_join!(consume, publish).unwrap();
        let source = StreamSettings {
            bytes_max: 256 << 20,
            ..StreamSettings::new(name, vec![format!("{name}.>")])
        };
        Self {
            context: jetstream_context(client.clone(), &config),
            publisher: Publisher::new(publish, &config, IN_FLIGHT_MAX, metrics.clone()),
            dead: DeadLetters::stream_settings(&source, 64 << 20),
            consumer: ConsumerSettings {
                name: "worker".to_owned(),
                filter_subject: format!("{name}.>"),
                ack_wait: Duration::from_secs(30),
                ack_pending_max: 100_000,
                target: None,
            },
            source,
            client,
            metrics: nats_metrics.consumer("test", name),
            nats_metrics,
            server: None,
        }
    }

    pub(crate) async fn create(&self) {
        self.dead.reconcile(&self.context).await.unwrap();
        self.create_source().await;
    }

    pub(crate) async fn create_source(&self) -> PullConsumer {
        let stream = self.source.reconcile(&self.context).await.unwrap();
        self.consumer
            .reconcile(&stream, &self.source)
            .await
            .unwrap()
    }

    pub(crate) fn message(&self, device: &str, body: impl Into<Bytes>) -> OutgoingMessage {
        OutgoingMessage {
            subject: format!("{}.{device}", self.source.name),
            id: Some(Uuid::now_v7()),
            headers: async_nats::HeaderMap::new(),
            payload: body.into(),
        }
    }

    /// Publishes each text as a message, in order, and waits for all PubAcks.
    pub(crate) async fn publish<T: Into<Bytes>>(&self, bodies: impl IntoIterator<Item = T>) {
        let mut sent = VecDeque::new();
        for body in bodies {
            if sent.len() == IN_FLIGHT_MAX {
                let oldest: PendingPublish = sent.pop_front().unwrap();
                oldest.wait().await.unwrap();
            }
            sent.push_back(self.publisher.send(self.message("d", body)).await.unwrap());
        }
        for pending in sent {
            pending.wait().await.unwrap();
        }
    }

    pub(crate) fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.publisher.clone(), &self.dead)
    }

    /// Starts a consumer with this script.
    pub(crate) async fn start(&self, settings: BatchSettings, script: &Script) -> Running {
        self.start_with(settings, script.clone()).await
    }

    /// Starts a consumer with this processor.
    pub(crate) async fn start_with(
        &self,
        settings: BatchSettings,
        processor: impl BatchProcessor,
    ) -> Running {
        let consumer = self.create_source().await;
        let consumer = BatchConsumer::new(
            self.client.clone(),
            consumer,
            processor,
            self.dead_letters(),
            BatchSettings {
                ack_wait: self.consumer.ack_wait,
                ..settings
            },
            self.metrics.clone(),
        );
        Running::new(consumer)
    }

    pub(crate) async fn stream(&self) -> Stream {
        self.context.get_stream(&self.source.name).await.unwrap()
    }

    /// What the server says about the consumer; an error while it cannot be asked.
    pub(crate) async fn consumer_info(&self) -> anyhow::Result<Info> {
        let stream = self.context.get_stream(&self.source.name).await?;
        Ok(stream.consumer_info(&self.consumer.name).await?)
    }

    /// Waits until every message is settled: none pending, none with a worker.
    pub(crate) async fn settled(&self) {
        eventually("every message settled", SOON, || async {
            let info = self.consumer_info().await?;
            let open = info.num_pending + info.num_ack_pending as u64;
            anyhow::ensure!(
                open == 0,
                "{} pending, {} ack pending",
                info.num_pending,
                info.num_ack_pending
            );
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Asserts that no message was counted twice or not at all.
    pub(crate) fn assert_balance(&self) {
        let m = &self.metrics;
        let settled = m.acked() + m.nakked() + self.dead_lettered();
        assert_eq!(
            m.received() as i64,
            settled as i64 + m.in_flight(),
            "received {}, acked {}, nakked {}, dead-lettered {}, in flight {}",
            m.received(),
            m.acked(),
            m.nakked(),
            self.dead_lettered(),
            m.in_flight()
        );
    }

    pub(crate) fn dead_lettered(&self) -> u64 {
        use DeadLetterReason::{Decode, MaxDeliveries, MissingField, RejectedByStore, Value};
        [Decode, MissingField, Value, RejectedByStore, MaxDeliveries]
            .map(|reason| self.metrics.dead_lettered(reason))
            .iter()
            .sum()
    }

    /// What is in the dead-letter stream, oldest first.
    pub(crate) async fn kept(&self) -> Vec<StreamMessage> {
        messages(&self.context, &self.dead.name).await
    }
}

/// All messages of a stream, oldest first.
pub(crate) async fn messages(context: &Context, stream: &str) -> Vec<StreamMessage> {
    let stream = context.get_stream(stream).await.unwrap();
    let state = &stream.cached_info().state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        // The other way to read a message keeps one value of each header.
        messages.extend(stream.direct_get(sequence).await.ok());
    }
    messages
}

/// Settings of a consumer that a test need not wait for.
pub(crate) fn quick() -> BatchSettings {
    BatchSettings {
        messages_max: 1_000,
        linger: Duration::from_millis(100),
        nak_delay: Duration::from_millis(50),
        hold_backoff: (Duration::from_millis(20), Duration::from_millis(100)),
        ..BatchSettings::default()
    }
}

/// Settings with which so many messages that are there make one batch.
pub(crate) fn together(messages: usize) -> BatchSettings {
    BatchSettings {
        messages_max: messages,
        linger: Duration::from_secs(2),
        ..quick()
    }
}

/// A running batch consumer.
pub(crate) struct Running {
    pub(crate) state: tokio::sync::watch::Receiver<ConsumerState>,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Result<(), BatchConsumerError>>,
}

impl Running {
    fn new(consumer: BatchConsumer<impl BatchProcessor>) -> Self {
        let shutdown = CancellationToken::new();
        Self {
            state: consumer.state(),
            task: tokio::spawn(consumer.run(shutdown.clone())),
            shutdown,
        }
    }

    /// Waits for a state.
    pub(crate) async fn reaches(&mut self, what: fn(&ConsumerState) -> bool) -> ConsumerState {
        let reached = self.state.wait_for(what);
        let reached = tokio::time::timeout(SOON, reached).await;
        let state = reached.map(|state| state.map(|state| state.clone()));
        state
            .unwrap_or_else(|_| panic!("still {:?}", self.state.borrow()))
            .unwrap()
    }

    /// Tells it to stop and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
    }

    pub(crate) async fn ended(self) -> Result<(), BatchConsumerError> {
        let ended = tokio::time::timeout(SOON, self.task).await;
        ended.expect("the consumer did not stop").unwrap()
    }

    /// Drops it as a crash would, in the middle of whatever it does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// One message as a processor saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) body: Bytes,
    pub(crate) deliveries: u32,
    pub(crate) sequence: u64,
}

impl Seen {
    fn new(delivery: &Delivery) -> Self {
        Self {
            body: delivery.payload().clone(),
            deliveries: delivery.deliveries(),
            sequence: delivery.stream_sequence(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One call of a processor.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) messages: Vec<Seen>,
    pub(crate) give_up: CancellationToken,
}

impl Call {
    /// `Ack` for all.
    #[expect(clippy::unnecessary_wraps, reason = "it is a whole answer")]
    pub(crate) fn ack_all(&self) -> Answer {
        Ok(ProcessingResult::ack_all(self.messages.len()))
    }

    /// Tells whether a message with this body is in the batch.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.messages.iter().any(|m| m.text() == text)
    }

    /// The position of the message with this body.
    pub(crate) fn position(&self, text: &str) -> Option<usize> {
        self.messages.iter().position(|m| m.text() == text)
    }
}

pub(crate) type Answer = Result<ProcessingResult, ProcessError>;
type Decide = dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync;

/// A processor that answers as a test says, and remembers what it was given and what it stored.
#[derive(Clone)]
pub(crate) struct Script {
    decide: Arc<Decide>,
    calls: Arc<Mutex<Vec<Vec<Seen>>>>,
    stored: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Script {
    pub(crate) fn new<F, Fut>(decide: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self {
            decide: Arc::new(move |call| Box::pin(decide(call))),
            calls: Arc::default(),
            stored: Arc::default(),
        }
    }

    /// Stores everything.
    pub(crate) fn ack() -> Self {
        Self::new(|call| async move { call.ack_all() })
    }

    /// The batches so far.
    pub(crate) fn calls(&self) -> Vec<Vec<Seen>> {
        self.calls.lock().unwrap().clone()
    }

    /// The sizes of the batches so far.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.calls.lock().unwrap().iter().map(Vec::len).collect()
    }

    /// Messages seen so far, all deliveries counted.
    pub(crate) fn seen(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// How often each body was given a disposition of `Ack`.
    pub(crate) fn stored(&self) -> BTreeMap<String, usize> {
        self.stored.lock().unwrap().clone()
    }

    /// Waits for so many messages, all deliveries counted.
    pub(crate) async fn has_seen(&self, messages: usize) {
        eventually("messages seen", SOON, || async {
            let seen = self.seen();
            anyhow::ensure!(seen >= messages, "{seen} of {messages}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits until so many different bodies are stored.
    pub(crate) async fn has_stored(&self, bodies: usize) {
        eventually("bodies stored", SOON, || async {
            let stored = self.stored.lock().unwrap().len();
            anyhow::ensure!(stored >= bodies, "{stored} of {bodies}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

impl BatchProcessor for Script {
    async fn process(&self, batch: &Batch, give_up: &CancellationToken) -> Answer {
        let messages: Vec<_> = batch.messages().iter().map(Seen::new).collect();
        self.calls.lock().unwrap().push(messages.clone());
        let call = Call {
            messages: messages.clone(),
            give_up: give_up.clone(),
        };
        let result = (self.decide)(call).await?;
        let mut stored = self.stored.lock().unwrap();
        for (message, disposition) in messages.iter().zip(result.dispositions()) {
            if *disposition == ponix_nats::Disposition::Ack {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                *stored.entry(text).or_default() += 1;
            }
        }
        drop(stored);
        Ok(result)
    }
}

/// A dead letter with this reason and text, under the identity of the delivery.
pub(crate) fn dead(reason: DeadLetterReason, error: &str) -> DeadLetter {
    DeadLetter {
        reason,
        error: error.to_owned(),
        event_id: None,
    }
}

/// The batch failed, for a reason of its own.
pub(crate) fn failed(why: &'static str) -> Answer {
    Err(ProcessError::Failed(why.into()))
}

/// The store takes nothing.
pub(crate) fn unusable(why: &'static str) -> Answer {
    Err(ProcessError::StoreUnusable {
        waiting_helps: false,
        stored: Vec::new(),
        source: why.into(),
    })
}

/// A JetStream context on a connection of its own, besides the crate.
pub(crate) async fn plain_context(url: &str) -> Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

/// Now, as messages are stamped.
pub(crate) fn now_ns() -> i64 {
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since_1970.as_nanos()).unwrap()
}

/// Numbers as texts, `from` to `to` without the last.
pub(crate) fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}
