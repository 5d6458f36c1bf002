//! The service: puts the parts together and hands them to the runner.

use std::sync::Arc;
use std::time::Duration;

use ponix_clickhouse::ClickHouseMetrics;
use ponix_console::Page;
use ponix_ingest::IngestMetrics;
use ponix_nats::NatsMetrics;
use ponix_pipeline::Pipeline;
use ponix_postgres::PostgresMetrics;
use ponix_runner::{Outcome, Runner, Shutdown, Signals, Startup};
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::admin::{Admin, Seen};
use crate::build_info;
use crate::config::{Config, PipelinesMode};
use crate::http::{self, Ways};
use crate::nats::Nats;
use crate::pipelines::{self, MessageMetrics, Start, Stores};
use crate::readiness::{Parts, Readiness};
use crate::sample_producer::SampleProducer;

/// The start-up ends by itself, with its reason, this long before the runner would cut it off.
const STARTUP_MARGIN: Duration = Duration::from_millis(500);

/// Runs the service until a signal or a failure ends it.
pub(crate) async fn run(config: Config, pipelines: Vec<Pipeline>, signals: Signals) -> Outcome {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let service = &config.service;
    let runner = Runner::new()
        .with_signals(signals)
        .with_startup_timeout(service.startup_timeout_secs)
        .with_grace_time(service.shutdown_timeout_secs);
    let readiness = Readiness::new(runner.shutdown());
    let registry = Arc::new(registry);
    let admin_addr = service.admin_addr;
    let seen = Seen {
        readiness: readiness.clone(),
        registry: Arc::clone(&registry),
    };
    let token = service.admin_token.as_ref();
    let token = token.map(|token| token.expose_secret().to_owned());
    let page = Page::new(seen, env!("CARGO_PKG_VERSION"), admin_addr.ip(), token);
    let admin = Admin {
        readiness: readiness.clone(),
        registry: Arc::clone(&registry),
        ingest: metrics.ingest.clone(),
        page: page.clone(),
    };
    runner
        .with_background_process("admin", move |shutdown: Shutdown| async move {
            admin.serve(admin_addr, shutdown.soft().clone()).await
        })
        .with_startup(|startup| {
            start(
                config, pipelines, startup, metrics, registry, readiness, page,
            )
        })
        .run()
        .await
}

/// Counters of the crates below.
#[derive(Debug, Clone)]
struct Metrics {
    nats: NatsMetrics,
    clickhouse: ClickHouseMetrics,
    ingest: IngestMetrics,
    postgres: PostgresMetrics,
    messages: MessageMetrics,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        build_info::register(registry);
        Self {
            nats: NatsMetrics::register(registry),
            clickhouse: ClickHouseMetrics::register(registry),
            ingest: IngestMetrics::register(registry),
            postgres: PostgresMetrics::register(registry),
            messages: MessageMetrics::register(registry),
        }
    }
}

/// Stores → NATS → pipelines. Every step may be repeated.
async fn start(
    config: Config,
    pipelines: Vec<Pipeline>,
    startup: Startup,
    metrics: Metrics,
    registry: Arc<Registry>,
    readiness: Readiness,
    page: Page,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + config.service.startup_timeout_secs - STARTUP_MARGIN;
    let run = pipelines::run_by(&config, &pipelines);
    let store_metrics = (metrics.clickhouse, metrics.postgres);
    let stores = Stores::prepare(&config, &run, &startup, store_metrics, deadline).await?;
    let nats = Nats::connect(
        &config.nats,
        config.service.batches_bytes_max,
        &startup,
        metrics.nats,
        deadline,
    )
    .await?;
    page.connected(nats.streams(&pipelines));
    let mut parts = Parts {
        connections: vec![
            ("publishing", nats.publishing.clone()),
            ("consuming", nats.consuming.clone()),
        ],
        nats: Some(nats.metrics.clone()),
        ..Parts::default()
    };
    stores.start(&config, &run, &startup, &mut parts);
    let start = Start {
        config: &config,
        startup: &startup,
        nats: &nats,
        stores: &stores,
        message_metrics: metrics.messages,
        parts: &mut parts,
    };
    pipelines::start(&run, start).await?;
    let runs = config.clickhouse.enabled && config.service.pipelines_mode == PipelinesMode::Run;
    if runs && !config.service.interval_secs.is_zero() {
        let producer = SampleProducer {
            publisher: nats.publisher.clone(),
            subject_prefix: config.nats.stream.clone(),
            interval: config.service.interval_secs,
            message: config.service.message.clone(),
        };
        startup.app_process("sample producer", |shutdown: Shutdown| {
            producer.run(shutdown.soft().clone())
        });
    }
    http::start(
        &config,
        &startup,
        &nats,
        Ways {
            messages: stores.for_messages(),
            pipelines: &pipelines,
        },
        metrics.ingest,
        registry,
        readiness.clone(),
    )
    .await?;
    readiness.started(parts);
    Ok(())
}

#[cfg(test)]
mod tests;
