//! The service: puts the parts together and hands them to the runner.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ponix_clickhouse::{
    ClickHouseMetrics, Client as ClickHouseClient, EnvelopeWriter, ErrorKind, Migrator, RejectLimit,
};
use ponix_nats::async_nats::Client as NatsClient;
use ponix_nats::{
    BatchConsumer, ConnectionRole, ConsumerError, DeadLetters, Janitor, NatsMetrics, Publisher,
    StreamError, StreamSettings, connect, jetstream_context,
};
use ponix_runner::{Outcome, Runner, Shutdown, Signals, Startup};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::config::Config;
use crate::processor::EnvelopeProcessor;
use crate::producer::SampleProducer;
use crate::readiness::{Parts, Readiness};
use crate::retry::until_ready;
use crate::{clickhouse_health, janitor, migrate};

/// The start-up ends by itself, with its reason, this long before the runner would cut it off.
const STARTUP_MARGIN: Duration = Duration::from_millis(500);
/// Time the last acks get to leave the machine.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the service until a signal or a failure ends it.
pub(crate) async fn run(config: Config, signals: Signals) -> Outcome {
    let mut registry = Registry::default();
    let metrics = Metrics {
        nats: NatsMetrics::register(&mut registry),
        clickhouse: ClickHouseMetrics::register(&mut registry),
    };
    let service = &config.service;
    let runner = Runner::new()
        .with_signals(signals)
        .with_startup_timeout(service.startup_timeout_secs)
        .with_grace_time(service.shutdown_timeout_secs);
    let readiness = Readiness::new(runner.shutdown());
    let admin = Admin {
        readiness: readiness.clone(),
        registry: Arc::new(registry),
    };
    let admin_addr = service.admin_addr;
    runner
        .with_background_process("admin", move |shutdown: Shutdown| async move {
            admin.serve(admin_addr, shutdown.soft().clone()).await
        })
        .with_startup(|startup| start(config, startup, metrics, readiness))
        .run()
        .await
}

/// Counters of the crates below.
#[derive(Debug, Clone)]
struct Metrics {
    nats: NatsMetrics,
    clickhouse: ClickHouseMetrics,
}

/// Migrations → ClickHouse → NATS, streams, consumer → processes. Every step may be repeated.
async fn start(
    config: Config,
    startup: Startup,
    metrics: Metrics,
    readiness: Readiness,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + config.service.startup_timeout_secs - STARTUP_MARGIN;

    // Named with the address: a server that hangs until the time is over is told by its phase.
    startup.phase(format!("migrations on {}", config.clickhouse.url));
    let clickhouse = ClickHouseClient::new(&config.clickhouse.client())
        .context("the clickhouse configuration is wrong")?;
    migrate::up(&Migrator::new(&clickhouse), deadline)
        .await
        .with_context(|| format!("clickhouse at {}", config.clickhouse.url))?;

    startup.phase("clickhouse ping");
    until_ready(
        "clickhouse ping",
        deadline,
        |err: &ponix_clickhouse::RequestError| err.kind() == ErrorKind::Transient,
        || clickhouse.ping(),
    )
    .await?;

    startup.phase(format!("connecting to {}", config.nats.url_shown()));
    let nats = config.nats.connection();
    let publishing = connect(&nats, ConnectionRole::Publish, &metrics.nats, deadline).await?;
    startup.closer("nats publish connection", closer(publishing.clone()));
    let consuming = connect(&nats, ConnectionRole::Consume, &metrics.nats, deadline).await?;
    startup.closer("nats consume connection", closer(consuming.clone()));

    startup.phase("streams and consumer");
    let context = jetstream_context(consuming.clone(), &nats);
    let (stream, dead_letter_stream) = (config.nats.stream(), config.nats.dead_letters());
    let source = reconcile(&stream, &context, deadline).await?;
    reconcile(&dead_letter_stream, &context, deadline).await?;
    let consumer_settings = config.nats.consumer();
    let consumer = until_ready("consumer", deadline, ConsumerError::is_transient, || {
        consumer_settings.reconcile(&source, &stream)
    })
    .await?;

    startup.phase("processes");
    let publisher = Publisher::new(
        publishing.clone(),
        &nats,
        config.nats.publish_in_flight as usize,
        metrics.nats.clone(),
    );
    let writer = EnvelopeWriter::new(&clickhouse, metrics.clickhouse);
    let consumer = BatchConsumer::new(
        consuming.clone(),
        consumer,
        EnvelopeProcessor::new(writer, clickhouse.clone(), RejectLimit::default()),
        DeadLetters::new(publisher.clone(), &dead_letter_stream),
        config.nats.batches(),
        metrics.nats,
    );
    let (health, clickhouse_state) = watch::channel(Ok(()));
    readiness.started(Parts {
        connections: vec![("publishing", publishing), ("consuming", consuming)],
        consumer: consumer.state(),
        clickhouse: clickhouse_state,
    });
    startup.app_process("consumer", |shutdown: Shutdown| {
        consumer.run(shutdown.soft().clone())
    });
    startup.app_process("clickhouse health", move |shutdown: Shutdown| async move {
        clickhouse_health::watch(clickhouse, health, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
    let janitor = Janitor::new(source, config.nats.replay_window_secs);
    let janitor_interval = config.nats.janitor_interval_secs;
    startup.app_process("janitor", move |shutdown: Shutdown| async move {
        janitor::run(janitor, janitor_interval, shutdown.soft().clone()).await;
        anyhow::Ok(())
    });
    if !config.service.interval_secs.is_zero() {
        let producer = SampleProducer {
            publisher,
            subject_prefix: stream.name,
            interval: config.service.interval_secs,
            message: config.service.message,
        };
        startup.app_process("sample producer", |shutdown: Shutdown| {
            producer.run(shutdown.soft().clone())
        });
    }
    Ok(())
}

async fn reconcile(
    settings: &StreamSettings,
    context: &ponix_nats::async_nats::jetstream::Context,
    deadline: Instant,
) -> anyhow::Result<ponix_nats::async_nats::jetstream::stream::Stream> {
    until_ready("stream", deadline, StreamError::is_transient, || {
        settings.reconcile(context)
    })
    .await
}

/// Flushes what is queued, acks above all; the connection closes when its last handle is dropped.
fn closer(
    client: NatsClient,
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> + Send {
    move || {
        Box::pin(async move {
            match tokio::time::timeout(FLUSH_TIMEOUT, client.flush()).await {
                Ok(flushed) => flushed.context("the last acks could not be flushed"),
                Err(_) => anyhow::bail!(
                    "the last acks could not be flushed in {FLUSH_TIMEOUT:?}; they are delivered again"
                ),
            }
        })
    }
}
