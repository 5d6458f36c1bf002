//! The pipelines of a service: the two that every one has, as its variables say, and the declared
//! ones. All start by one loop, [`start`].

mod dead_letter_status;
mod envelope_decoder;
mod message_decoder;
mod message_metrics;
mod sinks;
mod source;
mod start;
mod stores;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ponix_clickhouse::{BatchLimits, ClickHouseConfig, encode};
use ponix_entities::Catalog;
use ponix_pipeline::{
    ClickhouseSink, Decode, DecodeFormat, Decoded, LoadErrors, Message, Pipeline, PostgresSink,
    RecordDecoder, Sink, Unpacked,
};

use self::envelope_decoder::EnvelopeDecoder;
use crate::config::{Config, PipelinesMode};

pub(crate) use self::message_decoder::MessageDecoder;
pub(crate) use self::message_metrics::MessageMetrics;
pub(crate) use self::sinks::{postgres_table_config, table_config};
pub(crate) use self::source::open_stream;
pub(crate) use self::start::{Start, start};
pub(crate) use self::stores::{EntityStore, Stores};

/// The name of the built-in pipeline of events.
pub(crate) const ENVELOPES: &str = "envelopes";
/// The name of the built-in pipeline of raw messages.
pub(crate) const MESSAGES: &str = "messages";

/// What writes the rows of a pipeline, and so what reads its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writer<'a> {
    /// Events, straight from their protobuf form into their own table.
    Envelopes,
    /// Records into any table of ClickHouse.
    Table(&'a ClickhouseSink),
    /// Raw messages into the tables of their entities, which are in this folder or the service's.
    Entities(Option<&'a Path>),
    /// Records into any table of PostgreSQL.
    PostgresTable,
}

impl<'a> Writer<'a> {
    /// Returns what writes the rows of a pipeline.
    ///
    /// # Errors
    /// This program knows no such sink.
    pub(crate) fn of(pipeline: &'a Pipeline) -> anyhow::Result<Self> {
        Ok(match &pipeline.sink {
            Sink::Clickhouse(_)
                if pipeline.is_built_in() && pipeline.decode == DecodeFormat::Envelope =>
            {
                Self::Envelopes
            }
            Sink::Clickhouse(table) => Self::Table(table),
            Sink::Postgres(PostgresSink::Entities { dir }) => Self::Entities(dir.as_deref()),
            Sink::Postgres(PostgresSink::Table { .. }) => Self::PostgresTable,
            other => bail!("this program knows no sink like {other:?}"),
        })
    }
}

/// Reads the documents of the configured folder; none without one.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(dir: Option<&Path>) -> Result<Vec<Pipeline>, LoadErrors> {
    dir.map_or_else(|| Ok(Vec::new()), ponix_pipeline::load)
}

/// Returns every pipeline, whether or not this service runs it, the built-in ones first.
pub(crate) fn all(config: &Config, declared: Vec<Pipeline>) -> Vec<Pipeline> {
    let built_in = [config.nats.envelopes(), config.messages.pipeline()];
    built_in.into_iter().chain(declared).collect()
}

/// Returns the pipelines that this service runs, or keeps for others.
pub(crate) fn run_by(config: &Config, pipelines: &[Pipeline]) -> Vec<Pipeline> {
    let run = pipelines.iter().filter(|one| is_run(config, one));
    run.cloned().collect()
}

fn is_run(config: &Config, pipeline: &Pipeline) -> bool {
    if config.service.pipelines_mode == PipelinesMode::Off {
        return false;
    }
    match pipeline.name.as_str() {
        _ if !pipeline.is_built_in() => true,
        ENVELOPES => config.clickhouse.enabled,
        _ => config.messages.enabled && config.postgres.url.is_some(),
    }
}

/// Returns the pipeline with this name.
pub(crate) fn named<'a>(pipelines: &'a [Pipeline], name: &str) -> Option<&'a Pipeline> {
    pipelines.iter().find(|pipeline| pipeline.name == name)
}

/// Reads the entities of a folder, or those of the service.
///
/// # Errors
/// There are none, or they are wrong.
pub(crate) fn catalog(config: &Config, dir: Option<&Path>) -> anyhow::Result<Catalog> {
    let dir = dir.or(config.service.entities_dir.as_deref());
    let dir = dir.context("neither the document nor PONIX_ENTITIES_DIR names entities")?;
    with_default(config, Catalog::load(dir)?)
}

/// Sets the entity of messages that name none, if one is configured.
///
/// # Errors
/// There is no such entity.
pub(crate) fn with_default(config: &Config, catalog: Catalog) -> anyhow::Result<Catalog> {
    match config.messages.default_entity.as_deref() {
        Some(name) => catalog
            .with_default(name)
            .context("PONIX_MESSAGES_DEFAULT_ENTITY"),
        None => Ok(catalog),
    }
}

pub(crate) fn message_decoder(config: &Config, catalog: &Arc<Catalog>) -> MessageDecoder {
    let decoder = MessageDecoder::new(Arc::clone(catalog));
    decoder.for_organization(&config.ingest.organization)
}

/// Reads a message and forgets what it says.
pub(crate) type ReadMessage = Box<dyn FnMut(&Message<'_>)>;

/// Returns how the messages of a pipeline are read, up to what is sent, without any server.
///
/// # Errors
/// There is no such pipeline, or its files cannot be read.
pub(crate) fn read_offline(config: &Config, name: &str) -> anyhow::Result<ReadMessage> {
    let pipelines = all(config, load(config.service.pipelines_dir.as_deref())?);
    let pipeline = named(&pipelines, name);
    let pipeline = pipeline.with_context(|| format!("there is no pipeline {name:?}"))?;
    Ok(match Writer::of(pipeline)? {
        Writer::Envelopes => {
            let limits = BatchLimits::from(&ClickHouseConfig::default());
            each_event(config, EnvelopeDecoder, move |row| {
                drop(std::hint::black_box(encode(&[row], limits)));
            })
        }
        Writer::Entities(dir) => {
            let decoder = message_decoder(config, &catalog(config, dir)?.into());
            each_event(config, decoder, forget)
        }
        Writer::Table(_) | Writer::PostgresTable => {
            each_event(config, RecordDecoder::new(pipeline)?, forget)
        }
    })
}

fn each_event<D: Decode>(
    config: &Config,
    decoder: D,
    read: impl Fn(D::Row) + 'static,
) -> ReadMessage {
    let events_max = config.nats.pack_events_max as usize;
    Box::new(move |message| {
        let Ok(events) = Unpacked::new(*message, decoder.pack_format(), events_max) else {
            return;
        };
        for (_, event) in events.events() {
            if let Ok(Decoded::Row { row, .. }) = decoder.decode(&event) {
                read(row);
            }
        }
    })
}

fn forget<R>(row: R) {
    drop(std::hint::black_box(row));
}
