//! Starts pipelines, one like the other: streams, consumer, and the processes around it.

use std::sync::Arc;

use anyhow::Context as _;
use ponix_clickhouse::{EnvelopeSink, ErrorKind, TableError, TableSink};
use ponix_entities::Catalog;
use ponix_nats::async_nats::jetstream::consumer::PullConsumer;
use ponix_nats::{BatchConsumer, BatchSettings, ConsumerSettings, ConsumerState, Janitor};
use ponix_pipeline::{
    ClickhouseSink, CrashIsolation, Decode, Pipeline, PipelineProcessor, PostgresSink,
    RecordDecoder, Schema, Sink,
};
use ponix_postgres::{ErrorKind as PostgresErrorKind, MessageSink, table as postgres};
use ponix_runner::{Shutdown, Startup};
use tokio::sync::watch;

use super::dead_letter_status::DeadLetterStatus;
use super::envelope_decoder::EnvelopeDecoder;
use super::source::Source;
use super::stores::{CLICKHOUSE, POSTGRESQL, Stores, make_tables};
use super::{
    MessageMetrics, Writer, catalog, message_decoder, postgres_table_config, table_config,
};
use crate::activity::Activity;
use crate::config::{Config, PipelinesMode};
use crate::janitor;
use crate::nats::Nats;
use crate::readiness::Parts;
use crate::retry::until_ready;
use crate::scale::Backlog;

/// Name of the hidden subcommand whose processes read suspects, see [`CrashIsolation`].
const CRASH_ISOLATION: &str = "crash-isolation";

/// What every pipeline is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) startup: &'a Startup,
    pub(crate) nats: &'a Nats,
    pub(crate) stores: &'a Stores,
    pub(crate) message_metrics: MessageMetrics,
    pub(crate) parts: &'a mut Parts,
}

/// Starts every one of these pipelines.
///
/// # Errors
/// The first that cannot start, named.
pub(crate) async fn start(pipelines: &[Pipeline], mut start: Start<'_>) -> anyhow::Result<()> {
    // A table may be made by one pipeline and used by another.
    let (making, using): (Vec<_>, Vec<_>) = pipelines.iter().partition(|one| makes_table(one));
    for pipeline in making.into_iter().chain(using) {
        let name = &pipeline.name;
        start.startup.phase(format!("pipeline {name}"));
        let started = start.pipeline(pipeline).await;
        started.with_context(|| format!("pipeline {name} ({})", pipeline.path.display()))?;
    }
    Ok(())
}

fn makes_table(pipeline: &Pipeline) -> bool {
    match &pipeline.sink {
        Sink::Clickhouse(table) => table.schema != Schema::Require,
        Sink::Postgres(PostgresSink::Table { columns, .. }) => columns.is_some(),
        _ => false,
    }
}

impl Start<'_> {
    async fn pipeline(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let source = Source::open(self.config, pipeline, self.nats).await?;
        let stores = self.stores;
        match Writer::of(pipeline)? {
            Writer::Envelopes => {
                let metrics = stores.clickhouse_metrics.for_pipeline(&pipeline.name);
                let sink = EnvelopeSink::new(&stores.clickhouse, metrics);
                self.consumer(pipeline, source, EnvelopeDecoder, sink).await
            }
            Writer::Table(table) => {
                let decoder = RecordDecoder::new(pipeline)?;
                let sink = clickhouse_table(pipeline, table, stores).await?;
                self.consumer(pipeline, source, decoder, sink).await
            }
            Writer::PostgresTable => {
                let decoder = RecordDecoder::new(pipeline)?;
                let sink = postgres_table(pipeline, stores).await?;
                self.consumer(pipeline, source, decoder, sink).await
            }
            Writer::Entities(dir) => {
                let postgres = stores.postgres(pipeline)?;
                let catalog = if let (None, Some(own)) = (dir, &stores.postgres) {
                    Arc::clone(&own.catalog)
                } else {
                    let catalog = catalog(self.config, dir)?;
                    make_tables(&postgres, &catalog, stores.deadline).await?;
                    Arc::new(catalog)
                };
                self.dead_letter_statuses(pipeline, &source).await?;
                let sink = self.entities(pipeline, &catalog)?;
                let decoder = message_decoder(self.config, &catalog);
                self.consumer(pipeline, source, decoder, sink).await
            }
        }
    }

    fn entities(&self, pipeline: &Pipeline, catalog: &Arc<Catalog>) -> anyhow::Result<MessageSink> {
        let metrics = self.message_metrics.clone();
        let sink = MessageSink::new(self.stores.postgres(pipeline)?, Arc::clone(catalog));
        Ok(sink.on_commit(move |incoming, written| metrics.committed(incoming, written)))
    }

    /// Sets up the consumer and starts it, with what tells of it and what purges behind it.
    async fn consumer<D, S>(
        &mut self,
        pipeline: &Pipeline,
        source: Source,
        decoder: D,
        sink: S,
    ) -> anyhow::Result<()>
    where
        D: Decode,
        S: ponix_sink::Sink<Row = D::Row>,
    {
        let (name, nats, startup) = (&pipeline.name, self.nats, self.startup);
        let stream = &source.settings.name;
        let durable = nats
            .consumer(&source.consumer, &source.stream, &source.settings)
            .await?;
        if self.config.service.pipelines_mode == PipelinesMode::Keep {
            self.backlog(pipeline, &durable, &source, None);
            if source.purges {
                self.janitor(pipeline, source);
            }
            return Ok(());
        }
        let isolation = CrashIsolation::new([CRASH_ISOLATION, name]);
        let consumer = BatchConsumer::new(
            nats.consuming.clone(),
            durable.clone(),
            PipelineProcessor::new(decoder, sink, isolation, &source.batches),
            source.dead_letters(nats),
            source.batches.clone(),
            nats.metrics.consumer(name, stream),
        );
        self.parts.consumers.push((name.clone(), consumer.state()));
        self.backlog(pipeline, &durable, &source, Some(consumer.state()));
        startup.app_process(format!("{name} consumer"), |shutdown: Shutdown| {
            consumer.run(shutdown.soft().clone())
        });
        let activity = Activity::new(name, stream, &source.consumer.name, &nats.metrics);
        startup.app_process(
            format!("{name} activity"),
            move |shutdown: Shutdown| async move {
                activity.tell(shutdown.soft().clone()).await;
                anyhow::Ok(())
            },
        );
        if source.purges {
            self.janitor(pipeline, source);
        }
        Ok(())
    }

    /// Has `/scale` tell of a pipeline.
    fn backlog(
        &mut self,
        pipeline: &Pipeline,
        consumer: &PullConsumer,
        source: &Source,
        state: Option<watch::Receiver<ConsumerState>>,
    ) {
        let store = match &pipeline.sink {
            Sink::Postgres(_) => POSTGRESQL,
            _ => CLICKHOUSE,
        };
        let mut stores = self.parts.stores.iter();
        let store = stores.find(|(name, _)| *name == store);
        self.parts.backlogs.push(Backlog::new(
            &pipeline.name,
            consumer.clone(),
            source.batches.messages_max,
            state,
            store.map(|(_, health)| health.clone()),
        ));
    }

    fn janitor(&mut self, pipeline: &Pipeline, source: Source) {
        let janitor = Janitor::new(source.stream, source.replay_window, &self.nats.metrics);
        let (warnings, warned) = watch::channel(Vec::new());
        self.parts.warnings.push(warned);
        self.startup.app_process(
            format!("{} janitor", pipeline.name),
            move |shutdown: Shutdown| async move {
                let shutdown = shutdown.soft().clone();
                janitor::run(janitor, source.janitor_interval, warnings, shutdown).await;
                anyhow::Ok(())
            },
        );
    }

    /// Whoever gave a message up, its status follows from the dead letters themselves.
    async fn dead_letter_statuses(
        &mut self,
        pipeline: &Pipeline,
        source: &Source,
    ) -> anyhow::Result<()> {
        let (nats, dead) = (self.nats, &source.dead_letter_settings);
        let consumer = ConsumerSettings {
            name: format!("{}_status", source.consumer.name),
            filter_subject: format!("{}.>", pipeline.dead_letters.subject_prefix),
            target: None,
            ..source.consumer.clone()
        };
        let postgres = self.stores.postgres(pipeline)?;
        let name = format!("{}-status", pipeline.name);
        let followed = BatchConsumer::new(
            nats.consuming.clone(),
            nats.consumer(&consumer, &source.dead_letter_stream, dead)
                .await?,
            DeadLetterStatus::new(postgres),
            source.dead_letters(nats),
            BatchSettings {
                room: None,
                deliveries_max: u32::MAX,
                ..source.batches.clone()
            },
            nats.metrics.consumer(&name, &dead.name),
        );
        let shown = format!("the dead letters of {}", pipeline.name);
        self.parts.consumers.push((shown, followed.state()));
        self.startup.app_process(name, |shutdown: Shutdown| {
            followed.run(shutdown.soft().clone())
        });
        Ok(())
    }
}

async fn clickhouse_table(
    pipeline: &Pipeline,
    table: &ClickhouseSink,
    stores: &Stores,
) -> anyhow::Result<TableSink> {
    let config = table_config(pipeline, table);
    let metrics = stores.clickhouse_metrics.for_pipeline(&pipeline.name);
    until_ready(
        "clickhouse table",
        stores.deadline,
        |err: &TableError| err.kind() == ErrorKind::Transient,
        || TableSink::prepare(&stores.clickhouse, config.clone(), metrics.clone()),
    )
    .await
}

async fn postgres_table(
    pipeline: &Pipeline,
    stores: &Stores,
) -> anyhow::Result<postgres::TableSink> {
    let pool = stores.postgres(pipeline)?;
    let config = postgres_table_config(&pipeline.sink).context("no table of PostgreSQL")?;
    until_ready(
        "postgresql table",
        stores.deadline,
        |err: &postgres::TableError| err.kind() == PostgresErrorKind::Transient,
        || postgres::TableSink::prepare(pool.clone(), config.clone()),
    )
    .await
}
