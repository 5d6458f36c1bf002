//! The pipeline of the events: stream `processed_envelopes` → batch → one INSERT → acks.

mod processor;
mod producer;
pub(crate) mod reconcile;
mod surroundings;
pub(crate) mod trial;

use anyhow::Context as _;
use ponix_clickhouse::{
    ClickHouseMetrics, Client, EnvelopeWriter, ErrorKind, Migrator, RejectLimit,
};
use ponix_nats::{BatchConsumer, DeadLetters, Janitor};
use ponix_runner::{Shutdown, Startup};
use tokio::sync::watch;
use tokio::time::Instant;

use self::processor::EnvelopeProcessor;
use self::producer::SampleProducer;
use crate::config::Config;
use crate::nats::Nats;
use crate::readiness::Parts;
use crate::retry::until_ready;
use crate::{janitor, migrate, store_health};

/// Brings the tables to what this version needs.
///
/// # Errors
/// ClickHouse is not there by `deadline`, or refuses.
pub(crate) async fn prepare_store(
    config: &Config,
    startup: &Startup,
    deadline: Instant,
) -> anyhow::Result<Client> {
    // Named with the address: a server that hangs until the time is over is told by its phase.
    startup.phase(format!("migrations on {}", config.clickhouse.url));
    let client = Client::new(&config.clickhouse.client())
        .context("the clickhouse configuration is wrong")?;
    migrate::up(&Migrator::new(&client), deadline)
        .await
        .with_context(|| format!("clickhouse at {}", config.clickhouse.url))?;
    startup.phase("clickhouse ping");
    until_ready(
        "clickhouse ping",
        deadline,
        |err: &ponix_clickhouse::RequestError| err.kind() == ErrorKind::Transient,
        || client.ping(),
    )
    .await?;
    Ok(client)
}

/// Sets up the streams and the consumer, and starts the processes.
///
/// # Errors
/// NATS refuses a stream or the consumer.
pub(crate) async fn start(
    config: &Config,
    startup: &Startup,
    nats: &Nats,
    clickhouse: Client,
    metrics: ClickHouseMetrics,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    startup.phase("streams and consumer");
    let (stream, dead_letter_stream) = (config.nats.stream(), config.nats.dead_letters());
    let source = nats.stream(&stream).await?;
    nats.stream(&dead_letter_stream).await?;
    let consumer = nats
        .consumer(&config.nats.consumer(), &source, &stream)
        .await?;

    startup.phase("processes");
    let writer = EnvelopeWriter::new(&clickhouse, metrics);
    let consumer = BatchConsumer::new(
        nats.consuming.clone(),
        consumer,
        EnvelopeProcessor::new(writer, clickhouse.clone(), RejectLimit::default()),
        DeadLetters::new(nats.publisher.clone(), &dead_letter_stream),
        config.nats.batches(),
        &nats.metrics,
    );
    parts.consumers.push(("envelopes", consumer.state()));
    startup.app_process("consumer", |shutdown: Shutdown| {
        consumer.run(shutdown.soft().clone())
    });
    let (health, state) = watch::channel(Ok(()));
    parts.stores.push(("clickhouse", state));
    startup.app_process("clickhouse health", move |shutdown: Shutdown| async move {
        let ping = || clickhouse.ping();
        store_health::watch("clickhouse", ping, health, shutdown.soft().clone()).await;
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
            publisher: nats.publisher.clone(),
            subject_prefix: stream.name,
            interval: config.service.interval_secs,
            message: config.service.message.clone(),
        };
        startup.app_process("sample producer", |shutdown: Shutdown| {
            producer.run(shutdown.soft().clone())
        });
    }
    Ok(())
}
