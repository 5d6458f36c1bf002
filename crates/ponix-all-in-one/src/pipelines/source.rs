//! Where the messages of a pipeline come from, and how they are taken.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{AdoptedStream, BatchSettings, ConsumerSettings, DeadLetters, StreamSettings};
use ponix_pipeline::{Pipeline, PostgresSink, Sink};

use crate::config::Config;
use crate::nats::Nats;

/// First and longest pause while PostgreSQL takes nothing.
const POSTGRES_BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The streams of a pipeline, and how it takes messages from them.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) stream: Stream,
    /// Whether settled messages are ours to purge.
    pub(crate) purges: bool,
    pub(crate) settings: StreamSettings,
    pub(crate) dead_letter_stream: Stream,
    pub(crate) dead_letter_settings: StreamSettings,
    pub(crate) consumer: ConsumerSettings,
    pub(crate) batches: BatchSettings,
    /// Time for which settled messages stay in the stream.
    pub(crate) replay_window: Duration,
    pub(crate) janitor_interval: Duration,
}

impl Source {
    /// Sets up the streams of a pipeline.
    ///
    /// # Errors
    /// NATS refuses one, or it is not what the pipeline can read.
    pub(crate) async fn open(
        config: &Config,
        pipeline: &Pipeline,
        nats: &Nats,
    ) -> anyhow::Result<Self> {
        let AdoptedStream {
            stream,
            settings,
            drops_nothing,
        } = open_stream(config, pipeline, nats).await?;
        let dead_letter_settings = dead_letter_settings(config, pipeline);
        let limits = &pipeline.limits;
        let window = pipeline.source.replay_window;
        Ok(Self {
            stream,
            purges: drops_nothing,
            dead_letter_stream: nats.stream(&dead_letter_settings).await?,
            dead_letter_settings,
            consumer: ConsumerSettings {
                name: pipeline.source.consumer.clone(),
                filter_subject: filter(pipeline, &settings)?,
                ack_wait: limits.ack_wait,
                ack_pending_max: i64::try_from(limits.ack_pending_max).unwrap_or(i64::MAX),
                target: target(config, pipeline),
            },
            settings,
            batches: BatchSettings {
                messages_max: limits.batch_messages,
                bytes_max: limits.batch_bytes,
                linger: limits.linger,
                in_flight_max: limits.in_flight,
                room: Some(Arc::clone(&nats.room)),
                ack_wait: limits.ack_wait,
                nak_delay: limits.nak_delay.unwrap_or(config.nats.nak_delay_secs),
                hold_backoff: hold_backoff(config, pipeline),
                stall_timeout: config.nats.stall_timeout_secs,
                deliveries_max: limits.deliveries_max,
                pack_events_max: config.nats.pack_events_max as usize,
                ..BatchSettings::default()
            },
            replay_window: window.unwrap_or(config.nats.replay_window_secs),
            janitor_interval: config.nats.janitor_interval_secs,
        })
    }

    /// Returns what keeps this pipeline's dead letters.
    pub(crate) fn dead_letters(&self, nats: &Nats) -> DeadLetters {
        DeadLetters::new(nats.publisher.clone(), &self.dead_letter_settings)
    }
}

/// Sets up the stream that a pipeline reads; also for a service that only publishes. That of a
/// built-in pipeline is brought to its settings, that of a declared one is used as it is.
///
/// # Errors
/// NATS refuses it.
pub(crate) async fn open_stream(
    config: &Config,
    pipeline: &Pipeline,
    nats: &Nats,
) -> anyhow::Result<AdoptedStream> {
    let settings = stream_settings(config, pipeline);
    if !pipeline.is_built_in() {
        return nats.adopt(&settings).await;
    }
    Ok(AdoptedStream {
        stream: nats.stream(&settings).await?,
        settings,
        drops_nothing: true,
    })
}

/// Returns the stream of a pipeline, should it have to be made.
fn stream_settings(config: &Config, pipeline: &Pipeline) -> StreamSettings {
    let source = &pipeline.source;
    StreamSettings {
        bytes_max: source.bytes_max,
        replicas: config.nats.replicas as usize,
        duplicate_window: config.nats.duplicate_window_secs,
        ..StreamSettings::new(source.stream.clone(), source.subjects.clone())
    }
}

/// Returns the stream of a pipeline's dead letters.
fn dead_letter_settings(config: &Config, pipeline: &Pipeline) -> StreamSettings {
    let dead = &pipeline.dead_letters;
    StreamSettings {
        name: dead.stream.clone(),
        subjects: vec![format!("{}.>", dead.subject_prefix)],
        bytes_max: dead.bytes_max,
        one_per_subject: true,
        age_max: config.nats.dead_letter_keep_secs,
        ..stream_settings(config, pipeline)
    }
}

/// Returns what the consumer reads; empty for the whole stream.
fn filter(pipeline: &Pipeline, stream: &StreamSettings) -> anyhow::Result<String> {
    if let Some(filter) = &pipeline.source.filter {
        return Ok(filter.clone());
    }
    match &pipeline.source.subjects[..] {
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

/// Returns where the pipeline stores, as its consumer's metadata has it.
fn target(config: &Config, pipeline: &Pipeline) -> Option<String> {
    match &pipeline.sink {
        Sink::Clickhouse(sink) => {
            let database = sink.database.as_ref();
            let database = database.unwrap_or(&config.clickhouse.database);
            Some(format!("clickhouse {database}.{}", sink.table))
        }
        Sink::Postgres(sink) => {
            let database = config.postgres.target()?;
            match sink {
                PostgresSink::Table { table, .. } => Some(format!("{database}.{table}")),
                _ => Some(database),
            }
        }
        _ => None,
    }
}

/// First and longest pause between attempts at a store that takes nothing.
fn hold_backoff(config: &Config, pipeline: &Pipeline) -> (Duration, Duration) {
    let clickhouse = &config.clickhouse;
    match &pipeline.sink {
        Sink::Postgres(_) => POSTGRES_BACKOFF,
        _ => (
            clickhouse.retry_backoff_min_secs,
            clickhouse.retry_backoff_max_secs,
        ),
    }
}
