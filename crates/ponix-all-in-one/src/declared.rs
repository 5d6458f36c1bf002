//! The declared pipelines: a document each, in one loop.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ponix_clickhouse::{
    ClickHouseMetrics, Client, ErrorKind, TableConfig, TableError, TableSink, table,
};
use ponix_entities::Catalog;
use ponix_ingest::{DoorConfig, IngestState};
use ponix_nats::{BatchSettings, ConsumerSettings, StreamSettings};
use ponix_pipeline::{
    ClickhouseSink, Decode as _, DecodeFormat, Delivery, LoadErrors, Message, Pipeline,
    PostgresSink, RecordDecoder, Schema, Sink, UnknownFields,
};
use ponix_postgres::table as postgres;
use ponix_postgres::{EntitiesError, ErrorKind as PostgresErrorKind, MessageSink, Postgres};
use ponix_runner::Startup;
use tokio::time::Instant;

use crate::config::Config;
use crate::messages::MessageDecoder;
use crate::nats::Nats;
use crate::pipeline::{self, Source, Streams};
use crate::readiness::Parts;
use crate::retry::until_ready;

/// Reads the documents of the configured folder; none without one.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(dir: Option<&Path>) -> Result<Vec<Pipeline>, LoadErrors> {
    dir.map_or_else(|| Ok(Vec::new()), ponix_pipeline::load)
}

/// The stores of declared pipelines, by what they need.
#[derive(Debug)]
pub(crate) struct Stores<'a> {
    pub(crate) clickhouse: Client,
    pub(crate) clickhouse_metrics: ClickHouseMetrics,
    pub(crate) postgres: Option<&'a Postgres>,
    pub(crate) deadline: Instant,
}

/// Starts every declared pipeline.
///
/// # Errors
/// The first that cannot start, named.
pub(crate) async fn start(
    config: &Config,
    pipelines: &[Pipeline],
    stores: &Stores<'_>,
    startup: &Startup,
    nats: &Nats,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let mut watches_clickhouse = config.clickhouse.enabled;
    // A table may be made by one pipeline and used by another.
    let (making, using): (Vec<_>, Vec<_>) = pipelines.iter().partition(|one| makes_table(one));
    for pipeline in making.into_iter().chain(using) {
        startup.phase(format!("pipeline {}", pipeline.name));
        start_one(
            config,
            pipeline,
            stores,
            startup,
            nats,
            parts,
            &mut watches_clickhouse,
        )
        .await
        .with_context(|| format!("pipeline {} ({})", pipeline.name, pipeline.path.display()))?;
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

async fn start_one(
    config: &Config,
    declared: &Pipeline,
    stores: &Stores<'_>,
    startup: &Startup,
    nats: &Nats,
    parts: &mut Parts,
    watches_clickhouse: &mut bool,
) -> anyhow::Result<()> {
    let (source, streams) = streams(config, declared, nats).await?;
    match &declared.sink {
        Sink::Clickhouse(table) => {
            let decoder = RecordDecoder::new(declared)?;
            let sink = clickhouse_sink(declared, table, stores).await?;
            if !std::mem::replace(watches_clickhouse, true) {
                pipeline::watch_store("clickhouse", sink.clone(), startup, parts);
            }
            pipeline::start(&source, &streams, decoder, sink, startup, nats, parts).await
        }
        Sink::Postgres(PostgresSink::Entities { dir }) => {
            let dir = dir.as_deref().or(config.service.entities_dir.as_deref());
            let dir = dir.context("neither the document nor PONIX_ENTITIES_DIR names entities")?;
            let catalog = Arc::new(Catalog::load(dir)?);
            let sink = postgres_sink(declared, &catalog, stores).await?;
            let decoder = MessageDecoder::new(catalog);
            pipeline::start(&source, &streams, decoder, sink, startup, nats, parts).await
        }
        Sink::Postgres(PostgresSink::Table { .. }) => {
            let decoder = RecordDecoder::new(declared)?;
            let sink = postgres_table(declared, stores).await?;
            pipeline::start(&source, &streams, decoder, sink, startup, nats, parts).await
        }
        other => bail!("this program knows no sink like {other:?}"),
    }
}

/// Returns where the pipeline stores, as its consumer's metadata has it.
fn target(config: &Config, declared: &Pipeline) -> Option<String> {
    match &declared.sink {
        Sink::Clickhouse(sink) => {
            let database = sink.database.clone();
            let database = database.unwrap_or_else(|| config.clickhouse.client().database);
            Some(format!("clickhouse {database}.{}", sink.table))
        }
        Sink::Postgres(PostgresSink::Table { table, .. }) => {
            let database = config.postgres.target()?;
            Some(format!("{database}.{table}"))
        }
        Sink::Postgres(_) => config.postgres.target(),
        _ => None,
    }
}

async fn streams(
    config: &Config,
    declared: &Pipeline,
    nats: &Nats,
) -> anyhow::Result<(Source, Streams)> {
    let adopted = nats.adopt(&stream(config, declared)).await?;
    let dead_letters = dead_letters(config, declared);
    let streams = Streams {
        source: adopted.stream,
        dead: nats.stream(&dead_letters).await?,
        purges: adopted.drops_nothing,
    };
    let limits = &declared.limits;
    let store = config.clickhouse.client();
    let source = Source {
        name: declared.name.clone(),
        consumer: ConsumerSettings {
            name: declared.source.consumer.clone(),
            filter_subject: filter(declared, &adopted.settings)?,
            ack_wait: limits.ack_wait,
            ack_pending_max: i64::try_from(limits.ack_pending_max).unwrap_or(i64::MAX),
            target: target(config, declared),
        },
        stream: adopted.settings,
        dead_letters,
        batches: BatchSettings {
            messages_max: limits.batch_messages,
            bytes_max: limits.batch_bytes,
            linger: limits.linger,
            in_flight_max: limits.in_flight,
            ack_wait: limits.ack_wait,
            deliveries_max: limits.deliveries_max,
            hold_backoff: (store.retry_backoff_min, store.retry_backoff_max),
            ..config.nats.batches()
        },
        replay_window: config.nats.replay_window_secs,
        janitor_interval: config.nats.janitor_interval_secs,
    };
    Ok((source, streams))
}

/// Returns the stream of a pipeline, should it have to be made.
pub(crate) fn stream(config: &Config, declared: &Pipeline) -> StreamSettings {
    StreamSettings {
        bytes_max: declared.source.bytes_max,
        replicas: config.nats.replicas as usize,
        duplicate_window: config.nats.duplicate_window_secs,
        ..StreamSettings::new(
            declared.source.stream.clone(),
            declared.source.subjects.clone(),
        )
    }
}

pub(crate) fn dead_letters(config: &Config, declared: &Pipeline) -> StreamSettings {
    let dead = &declared.dead_letters;
    StreamSettings {
        bytes_max: dead.bytes_max,
        age_max: config.nats.dead_letter_keep_secs,
        one_per_subject: true,
        name: dead.stream.clone(),
        subjects: vec![format!("{}.>", dead.subject_prefix)],
        ..stream(config, declared)
    }
}

/// Returns what the consumer reads; empty for the whole stream.
fn filter(declared: &Pipeline, stream: &StreamSettings) -> anyhow::Result<String> {
    if let Some(filter) = &declared.source.filter {
        return Ok(filter.clone());
    }
    match &declared.source.subjects[..] {
        [subject] => Ok(subject.clone()),
        several if several == stream.subjects => Ok(String::new()),
        several => bail!(
            "stream {} has the subjects {}, the document says {}: name what is read as `filter`",
            stream.name,
            stream.subjects.join(", "),
            several.join(", ")
        ),
    }
}

async fn clickhouse_sink(
    declared: &Pipeline,
    declared_table: &ClickhouseSink,
    stores: &Stores<'_>,
) -> anyhow::Result<TableSink> {
    let config = table_config(declared, declared_table);
    let metrics = stores.clickhouse_metrics.for_pipeline(&declared.name);
    until_ready(
        "clickhouse table",
        stores.deadline,
        |err: &TableError| err.kind() == ErrorKind::Transient,
        || TableSink::prepare(&stores.clickhouse, config.clone(), metrics.clone()),
    )
    .await
}

/// Returns what a document says of its table.
pub(crate) fn table_config(declared: &Pipeline, sink: &ClickhouseSink) -> TableConfig {
    TableConfig {
        database: sink.database.clone(),
        table: sink.table.clone(),
        columns: sink.columns.clone(),
        identity: if sink.identity.is_empty() {
            table::Identity::Message
        } else {
            table::Identity::Fields(sink.identity.clone())
        },
        partition_by: sink.partition_by.clone(),
        unknown_fields: match sink.unknown_fields {
            UnknownFields::Reject => table::UnknownFields::Reject,
            UnknownFields::JsonColumn => table::UnknownFields::JsonColumn,
            UnknownFields::Ignore => table::UnknownFields::Ignore,
        },
        schema: match sink.schema {
            Schema::Require => table::Schema::Require,
            Schema::Create => table::Schema::Create,
            Schema::Evolve => table::Schema::Evolve,
        },
        delivery: match declared.delivery {
            Delivery::ExactlyOnce => table::Delivery::ExactlyOnce,
            Delivery::AtLeastOnce => table::Delivery::AtLeastOnce,
        },
    }
}

async fn postgres_sink(
    declared: &Pipeline,
    catalog: &Arc<Catalog>,
    stores: &Stores<'_>,
) -> anyhow::Result<MessageSink> {
    let postgres = stores.postgres.context("PONIX_POSTGRES_URL is not set")?;
    let postgres = postgres.for_pipeline(&declared.name);
    until_ready(
        "tables of the entities",
        stores.deadline,
        |err: &EntitiesError| err.kind() == PostgresErrorKind::Transient,
        || postgres.apply_entities(catalog),
    )
    .await?;
    Ok(MessageSink::new(postgres, Arc::clone(catalog)))
}

async fn postgres_table(
    declared: &Pipeline,
    stores: &Stores<'_>,
) -> anyhow::Result<postgres::TableSink> {
    let pool = stores.postgres.context("PONIX_POSTGRES_URL is not set")?;
    let pool = pool.for_pipeline(&declared.name);
    let config = postgres_table_config(&declared.sink).context("no table of PostgreSQL")?;
    until_ready(
        "postgresql table",
        stores.deadline,
        |err: &postgres::TableError| err.kind() == PostgresErrorKind::Transient,
        || postgres::TableSink::prepare(pool.clone(), config.clone()),
    )
    .await
}

/// Returns what a document says of its table of PostgreSQL; `None` for another sink.
pub(crate) fn postgres_table_config(sink: &Sink) -> Option<postgres::TableConfig> {
    let Sink::Postgres(PostgresSink::Table {
        table,
        columns,
        unknown_fields,
    }) = sink
    else {
        return None;
    };
    Some(postgres::TableConfig {
        table: table.clone(),
        columns: columns.clone(),
        unknown_fields: match unknown_fields {
            UnknownFields::Reject => postgres::UnknownFields::Reject,
            UnknownFields::JsonColumn => postgres::UnknownFields::JsonColumn,
            UnknownFields::Ignore => postgres::UnknownFields::Ignore,
        },
    })
}

/// Adds the doors of the pipelines that have one.
///
/// # Errors
/// A path that cannot be served.
pub(crate) fn with_doors(
    mut state: IngestState,
    pipelines: &[Pipeline],
) -> anyhow::Result<IngestState> {
    for pipeline in pipelines {
        let Some(http) = &pipeline.http else { continue };
        let door = DoorConfig {
            pipeline: pipeline.name.clone(),
            stream: pipeline.source.stream.clone(),
            subject_prefix: http.subject_prefix.clone(),
        };
        state = state
            .with_door(&http.path, door)
            .with_context(|| format!("pipeline {}", pipeline.name))?;
    }
    Ok(state)
}

/// Reads a message and forgets what it says.
pub(crate) type ReadMessage = Box<dyn FnMut(&Message<'_>)>;

/// Returns how the messages of a pipeline are read, without any server.
///
/// # Errors
/// There is no such pipeline, or its files cannot be read.
pub(crate) fn read_offline(config: &Config, name: &str) -> anyhow::Result<ReadMessage> {
    let pipelines = load(config.service.pipelines_dir.as_deref())?;
    let found = pipelines.into_iter().find(|pipeline| pipeline.name == name);
    let pipeline = found.with_context(|| format!("there is no pipeline {name:?}"))?;
    if let DecodeFormat::Entity { dir, .. } = &pipeline.decode {
        let dir = dir.as_deref().or(config.service.entities_dir.as_deref());
        let catalog = Catalog::load(dir.context("no folder of entities is named")?)?;
        let decoder = MessageDecoder::new(catalog.into());
        return Ok(Box::new(move |message| {
            drop(std::hint::black_box(decoder.decode(message)));
        }));
    }
    let decoder = RecordDecoder::new(&pipeline)?;
    Ok(Box::new(move |message| {
        drop(std::hint::black_box(decoder.decode(message)));
    }))
}
