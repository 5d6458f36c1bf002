//! The pipeline of the events: stream `processed_envelopes` → batch → one INSERT → acks.

mod decoder;
mod producer;

use anyhow::Context as _;
use ponix_clickhouse::{ClickHouseMetrics, Client, EnvelopeSink, ErrorKind, Migrator};
use ponix_nats::{BatchSettings, ConsumerSettings};
use ponix_runner::{Shutdown, Startup};
use tokio::time::Instant;

pub(crate) use self::decoder::EnvelopeDecoder;
use self::producer::SampleProducer;
use crate::commands::migrate;
use crate::config::Config;
use crate::nats::Nats;
use crate::pipeline::{self, Source};
use crate::readiness::Parts;
use crate::retry::until_ready;

/// The pipeline's name.
pub(crate) const NAME: &str = "envelopes";

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

/// Returns where the events come from.
pub(crate) fn source(config: &Config) -> Source {
    let clickhouse = config.clickhouse.client();
    Source {
        name: NAME.to_owned(),
        stream: config.nats.stream(),
        dead_letters: config.nats.dead_letters(),
        consumer: ConsumerSettings {
            target: Some(format!(
                "clickhouse {}.processed_envelopes",
                clickhouse.database
            )),
            ..config.nats.consumer()
        },
        batches: BatchSettings {
            hold_backoff: (clickhouse.retry_backoff_min, clickhouse.retry_backoff_max),
            ..config.nats.batches()
        },
        replay_window: config.nats.replay_window_secs,
        janitor_interval: config.nats.janitor_interval_secs,
    }
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
    let source = source(config);
    let streams = source.streams(nats).await?;
    let sink = EnvelopeSink::new(&clickhouse, metrics.for_pipeline(NAME));
    pipeline::watch_store("clickhouse", sink.clone(), startup, parts);
    pipeline::start(
        &source,
        &streams,
        EnvelopeDecoder,
        sink,
        startup,
        nats,
        parts,
    )
    .await?;
    if !config.service.interval_secs.is_zero() {
        let producer = SampleProducer {
            publisher: nats.publisher.clone(),
            subject_prefix: source.stream.name,
            interval: config.service.interval_secs,
            message: config.service.message.clone(),
        };
        startup.app_process("sample producer", |shutdown: Shutdown| {
            producer.run(shutdown.soft().clone())
        });
    }
    Ok(())
}
