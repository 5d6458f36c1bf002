//! A server of the API with a NATS of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ponix_ingest::{
    ApiKeys, DoorConfig, FieldProblem, IngestConfig, IngestMetrics, IngestState, MessagesConfig,
    Misfit, router, serve,
};
use ponix_nats::async_nats::jetstream;
use ponix_nats::{
    ConnectionRole, NatsConfig, NatsMetrics, Publisher, StreamSettings, connect, jetstream_context,
};
use ponix_stack::Nats;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::message::Format;
use ponix_wire::{DecodedEnvelope, decode_envelope};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, send};
use crate::memory_store::MemoryStore;

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const SOON: Duration = Duration::from_mins(1);
pub(crate) const STREAM: &str = "processed_envelopes";

pub(crate) const MESSAGES: &str = "MESSAGES";

/// The API, its NATS, and the stream behind it.
pub(crate) struct Api {
    pub(crate) addr: SocketAddr,
    pub(crate) nats: Nats,
    context: jetstream::Context,
    pub(crate) store: Arc<MemoryStore>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(public_metrics(), None).await
    }

    pub(crate) async fn with(config: IngestConfig, keys: Option<ApiKeys>) -> Self {
        Self::with_stream_bytes(config, keys, 64 << 20).await
    }

    pub(crate) async fn with_stream_bytes(
        config: IngestConfig,
        keys: Option<ApiKeys>,
        bytes_max: u64,
    ) -> Self {
        Self::with_messages(config, keys, bytes_max, MessagesConfig::default()).await
    }

    pub(crate) async fn with_messages(
        config: IngestConfig,
        keys: Option<ApiKeys>,
        bytes_max: u64,
        messages: MessagesConfig,
    ) -> Self {
        Self::with_all(config, keys, bytes_max, messages, &[], None).await
    }

    /// With doors, and a stream of this name and subject.
    pub(crate) async fn with_doors(
        keys: Option<ApiKeys>,
        doors: &[(&str, DoorConfig)],
        stream: (&str, &str),
    ) -> Self {
        let (config, messages) = (public_metrics(), MessagesConfig::default());
        Self::with_all(config, keys, 64 << 20, messages, doors, Some(stream)).await
    }

    async fn with_all(
        config: IngestConfig,
        keys: Option<ApiKeys>,
        bytes_max: u64,
        messages: MessagesConfig,
        doors: &[(&str, DoorConfig)],
        stream: Option<(&str, &str)>,
    ) -> Self {
        let nats = Nats::start().await.unwrap();
        let nats_config = NatsConfig {
            servers: vec![nats.url()],
            ..NatsConfig::default()
        };
        let mut registry = Registry::default();
        let nats_metrics = NatsMetrics::register(&mut registry);
        let metrics = IngestMetrics::register(&mut registry);
        let client = connect(
            &nats_config,
            ConnectionRole::Publish,
            &nats_metrics,
            Instant::now() + SOON,
        )
        .await
        .unwrap();
        let context = jetstream_context(client.clone(), &nats_config);
        let streams = [
            (STREAM, "processed_envelopes.>"),
            (MESSAGES, "messages.ingest.>"),
        ];
        for (name, subjects) in streams.into_iter().chain(stream) {
            let settings = StreamSettings {
                bytes_max,
                ..StreamSettings::new(name, vec![subjects.to_owned()])
            };
            settings.reconcile(&context).await.unwrap();
        }
        let publisher = Publisher::new(client, &nats_config, 1024, nats_metrics);
        let state = IngestState::new(
            config.clone(),
            keys,
            publisher,
            metrics.clone(),
            Arc::new(registry),
            Arc::new(Vec::new),
        );
        let state = doors.iter().fold(state, |state, (path, config)| {
            state.with_door(path, config.clone()).unwrap()
        });
        let store = Arc::new(MemoryStore::default());
        let (state, writer) =
            state.with_messages(messages, store.clone(), Arc::new(identify), Arc::new(check));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let serving = tokio::spawn(async move {
            let writing = tokio::spawn(writer.run(CancellationToken::new()));
            serve(
                listener,
                router(state),
                &config.server,
                metrics.server(),
                token,
            )
            .await
            .unwrap();
            // Ends by itself: the state is gone with the router.
            writing.await.unwrap();
        });
        Self {
            addr,
            nats,
            context,
            store,
            shutdown,
            serving,
        }
    }

    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.addr, "POST /v1/envelopes", headers, body).await
    }

    /// Messages in the stream.
    pub(crate) async fn stored(&self) -> u64 {
        self.stored_in(STREAM).await
    }

    /// Events in the stream, however they are packed.
    pub(crate) async fn events(&self) -> u64 {
        let mut events = 0;
        for sequence in 1..=self.stored().await {
            let message = self.raw_message_in(STREAM, sequence).await;
            let packed = message.headers.get(ponix_wire::header::PACKED);
            events += packed.map_or(1, |events| events.as_str().parse().unwrap());
        }
        events
    }

    /// Messages in the stream.
    pub(crate) async fn stored_in(&self, stream: &str) -> u64 {
        let stream = self.context.get_stream(stream).await.unwrap();
        stream.cached_info().state.messages
    }

    /// A raw message of its stream.
    pub(crate) async fn raw_message(&self, sequence: u64) -> StoredMessage {
        self.raw_message_in(MESSAGES, sequence).await
    }

    pub(crate) async fn raw_message_in(&self, stream: &str, sequence: u64) -> StoredMessage {
        let stream = self.context.get_stream(stream).await.unwrap();
        stream.get_raw_message(sequence).await.unwrap()
    }

    /// A message of the stream, as the worker would read it.
    pub(crate) async fn message(&self, sequence: u64) -> (StoredMessage, DecodedEnvelope) {
        let stream = self.context.get_stream(STREAM).await.unwrap();
        let message = stream.get_raw_message(sequence).await.unwrap();
        let envelope = decode_envelope(&message.payload, i64::MAX / 2).unwrap();
        (message, envelope)
    }

    /// Lets no new connection in.
    pub(crate) fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stop(self) {
        self.begin_stop();
        self.serving.await.unwrap();
    }
}

pub(crate) type StoredMessage = jetstream::message::StreamMessage;

/// An envelope in JSON with these further members, each with a comma before it.
pub(crate) fn json(device: &str, data: &str, more: &str) -> Vec<u8> {
    format!(
        r#"{{"end_device_id":{},"occurred_at":"2026-03-01T12:00:00Z","data":{data}{more}}}"#,
        serde_json::to_string(device).unwrap()
    )
    .into_bytes()
}

/// The least envelope a client sends in protobuf.
pub(crate) fn envelope(device: &str) -> ProcessedEnvelope {
    ProcessedEnvelope {
        end_device_id: device.to_owned(),
        occurred_at: Some(ponix_wire::timestamp_from_ns(1_772_366_400_000_000_000)),
        data: Some(ponix_wire::Struct::default()),
        ..ProcessedEnvelope::default()
    }
}

/// Keys of two organizations; the second key may send two requests per second.
pub(crate) fn two_keys() -> ApiKeys {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let lines = "{\"key\":\"key-of-organization-a\",\"organization\":\"a\"}\n\
                 {\"key\":\"key-of-organization-b\",\"organization\":\"b\",\"rate\":2}\n";
    std::fs::write(&path, lines).unwrap();
    ApiKeys::from_file(&path).unwrap()
}

/// Knows some entities; a line is of one of them unless it begins with a question mark.
fn identify(format: Format, payload: &[u8], hint: Option<&str>) -> Result<String, String> {
    let known = ["Order", "OrderLineItem", "Customer"];
    let named = |hint: &str| known.iter().find(|name| name.eq_ignore_ascii_case(hint));
    let found = match format {
        Format::Json => named(hint.unwrap_or("Order")),
        Format::Line if payload.starts_with(b"L|") => Some(&known[1]),
        Format::Line => (!payload.starts_with(b"?")).then_some(&known[0]),
    };
    let unknown = || "there is no such entity, known are Order, OrderLineItem, Customer".to_owned();
    found.map(|name| (*name).to_owned()).ok_or_else(unknown)
}

/// Lines that begin with `W|` are wrong in two fields.
fn check(_: Format, payload: &[u8], _: Option<&str>) -> Result<(), Misfit> {
    if !payload.starts_with(b"W|") {
        return Ok(());
    }
    let (field, message) = ("b".to_owned(), "is wrong too".to_owned());
    Err(Misfit {
        field: Some("a".to_owned()),
        reason: "is wrong".to_owned(),
        others: vec![FieldProblem { field, message }],
    })
}

fn public_metrics() -> IngestConfig {
    IngestConfig {
        public_metrics: true,
        ..IngestConfig::default()
    }
}
