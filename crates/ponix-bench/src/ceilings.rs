//! `ceilings`: what publishing, consuming, decoding and inserting can do, each by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use ponix_clickhouse::{ClickHouseMetrics, EnvelopeRow, EnvelopeSink, Migrator};
use ponix_nats::{
    Batch, BatchConsumer, BatchProcessor, BatchSettings, ConnectionRole, ConsumerSettings,
    DeadLetters, NatsMetrics, ProcessError, ProcessingResult, Publisher, StreamSettings, connect,
    jetstream_context,
};
use ponix_sink::{Around, Attempt, RejectGuard, Sink as _};
use ponix_wire::{decode_envelope, now_ns};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::CeilingsArgs;
use crate::events::Events;
use crate::progress::say;
use crate::publish::{Pipeline, nats_config};
use crate::report;
use crate::servers::Servers;
use crate::usage::{Part, Usage, UsageMeter};

const STREAM: &str = "processed_envelopes";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One measurement.
#[derive(Debug, Serialize)]
struct Ceiling {
    events: u64,
    seconds: f64,
    events_per_second: f64,
    processes: BTreeMap<&'static str, Usage>,
}

/// Runs the measurements, prints and writes their results.
///
/// # Errors
/// A server fails.
pub(crate) async fn run(args: &CeilingsArgs) -> Result<()> {
    let servers = Servers::start().await?;
    let mut ceilings = BTreeMap::new();
    say("publish only");
    ceilings.insert("publish", publish(&servers, args).await?);
    say("consume only, explicit acks");
    ceilings.insert("consume", consume(&servers, args).await?);
    say("decode only");
    ceilings.insert("decode", decode(args)?);
    say("insert only");
    ceilings.insert("insert", insert(&servers, args).await?);
    for (name, ceiling) in &ceilings {
        report::line(name, format_args!("{} events/s", ceiling.events_per_second));
        report::usage(&ceiling.processes);
    }
    report::write("ceilings", args.measure.json.as_deref(), &ceilings)
}

/// Publishes with PubAcks, nobody consumes.
async fn publish(servers: &Servers, args: &CeilingsArgs) -> Result<Ceiling> {
    let config = nats_config(&servers.nats.url());
    let metrics = NatsMetrics::register(&mut Registry::default());
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let client = connect(&config, ConnectionRole::Publish, &metrics, deadline).await?;
    let context = jetstream_context(client, &config);
    StreamSettings::new(STREAM, vec![format!("{STREAM}.>")])
        .reconcile(&context)
        .await?;

    let mut pipeline =
        Pipeline::connect(&servers.nats.url(), args.measure.in_flight as usize).await?;
    let mut events = Events::new(STREAM, args.measure.devices);
    let count = args.events;
    let meter = UsageMeter::start(nats_parts(servers));
    let publishing = tokio::spawn(async move {
        for _ in 0..count {
            pipeline.send(events.next()).await?;
        }
        pipeline.finish().await
    });
    let start = Instant::now();
    publishing.await.context("publish")??;
    Ok(ceiling(args.events, start, &meter))
}

/// Consumes and acks what was published, with the worker's consumer and no store.
async fn consume(servers: &Servers, args: &CeilingsArgs) -> Result<Ceiling> {
    let config = nats_config(&servers.nats.url());
    let metrics = NatsMetrics::register(&mut Registry::default());
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let client = connect(&config, ConnectionRole::Consume, &metrics, deadline).await?;
    let context = jetstream_context(client.clone(), &config);
    let source = StreamSettings::new(STREAM, vec![format!("{STREAM}.>")]);
    let stream = source.reconcile(&context).await?;
    let settings = BatchSettings::default();
    let consumer = ConsumerSettings {
        name: "ponix-bench".to_owned(),
        filter_subject: format!("{STREAM}.>"),
        ack_wait: settings.ack_wait,
        ack_pending_max: 200_000,
        target: None,
    };
    let consumer = consumer.reconcile(&stream, &source).await?;
    let dead_letters = DeadLetters::stream_settings(&source, 1 << 30);
    let publisher = Publisher::new(client.clone(), &config, 1, metrics.clone());
    let done = CancellationToken::new();
    let processor = AckAll {
        left: Arc::new(AtomicU64::new(args.events)),
        done: done.clone(),
    };
    let consumer = BatchConsumer::new(
        client.clone(),
        consumer,
        processor,
        DeadLetters::new(publisher, &dead_letters),
        settings,
        metrics.consumer("bench", STREAM),
    );
    let meter = UsageMeter::start(nats_parts(servers));
    let start = Instant::now();
    consumer.run(done).await?;
    client.flush().await.context("flush the last acks")?;
    Ok(ceiling(args.events, start, &meter))
}

/// Acks everything until a number of messages is reached.
#[derive(Debug)]
struct AckAll {
    left: Arc<AtomicU64>,
    done: CancellationToken,
}

impl BatchProcessor for AckAll {
    async fn process(
        &self,
        batch: &Batch,
        _: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let len = batch.len() as u64;
        if self.left.fetch_sub(len, Ordering::Relaxed) <= len {
            self.done.cancel();
        }
        Ok(ProcessingResult::ack_all(batch.len()))
    }
}

/// Decodes payloads, on one core.
fn decode(args: &CeilingsArgs) -> Result<Ceiling> {
    let payloads = payloads(args, args.insert_rows);
    let now = now_ns();
    let meter = UsageMeter::start([("decoder", Part::Bench)]);
    let start = Instant::now();
    for payload in payloads.iter().cycle().take(args.events as usize) {
        std::hint::black_box(decode_envelope(std::hint::black_box(payload), now)?);
    }
    Ok(ceiling(args.events, start, &meter))
}

/// Encodes and inserts, some INSERTs at a time.
async fn insert(servers: &Servers, args: &CeilingsArgs) -> Result<Ceiling> {
    Migrator::new(servers.client()).up().await?;
    let sink = Arc::new(EnvelopeSink::new(
        servers.client(),
        ClickHouseMetrics::default(),
    ));
    let batches = args.events.div_ceil(args.insert_rows);
    let mut batches: Vec<Vec<EnvelopeRow>> = (0..batches)
        .map(|_| rows(args, args.insert_rows))
        .collect::<Result<_>>()?;
    let events = batches.iter().map(|rows| rows.len() as u64).sum();

    let meter = UsageMeter::start([
        ("writer", Part::Bench),
        ("clickhouse", Part::Server(&servers.clickhouse)),
    ]);
    let start = Instant::now();
    let mut inserts = JoinSet::new();
    while let Some(rows) = batches.pop() {
        if inserts.len() >= args.inserts as usize
            && let Some(stored) = inserts.join_next().await
        {
            stored.context("insert")??;
        }
        let sink = Arc::clone(&sink);
        inserts.spawn(async move {
            let (guard, never) = (RejectGuard::default(), CancellationToken::new());
            let attempt = Attempt {
                guard: &guard,
                around: Around::default(),
                give_up: &never,
            };
            let rows = sink.encode(rows).await?;
            sink.write(&rows, attempt).await.map(drop)
        });
    }
    while let Some(stored) = inserts.join_next().await {
        stored.context("insert")??;
    }
    Ok(ceiling(events, start, &meter))
}

fn payloads(args: &CeilingsArgs, count: u64) -> Vec<Bytes> {
    let mut events = Events::new(STREAM, args.measure.devices);
    (0..count).map(|_| events.next().payload).collect()
}

fn rows(args: &CeilingsArgs, count: u64) -> Result<Vec<EnvelopeRow>> {
    let now = now_ns();
    let row = |(sequence, payload): (u64, Bytes)| {
        let envelope = decode_envelope(&payload, now)?;
        let event_id = envelope.event_id.context("the events have ids")?;
        anyhow::Ok(EnvelopeRow {
            envelope,
            event_id,
            published_at_ns: now,
            stream_sequence: sequence,
        })
    };
    (1..).zip(payloads(args, count)).map(row).collect()
}

fn nats_parts(servers: &Servers) -> [(&'static str, Part<'_>); 2] {
    [
        ("client", Part::Bench),
        ("nats-server", Part::Server(&servers.nats)),
    ]
}

fn ceiling(events: u64, start: Instant, meter: &UsageMeter<'_>) -> Ceiling {
    let seconds = start.elapsed().as_secs_f64();
    let events_per_second = report::rate(events, seconds);
    Ceiling {
        events,
        seconds,
        events_per_second,
        processes: meter.read(),
    }
}
