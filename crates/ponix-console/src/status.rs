//! What the servers say of every pipeline: is it flowing, is it late, what is stuck.

use anyhow::Context as _;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::message_from;
use serde::Serialize;

use crate::streams::{PipelineStreams, Streams};

/// From this share of its limit on a stream is nearly full.
const NEARLY_FULL: f64 = 0.9;
/// A consumer with something to do that has acked nothing for so long does not move.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// What the server says of one pipeline.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub pipeline: String,
    /// The stream that it reads.
    pub stream: String,
    /// Messages the stream holds, settled ones too.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes it may hold; 0 without a limit.
    pub bytes_max: u64,
    /// When the oldest message was published.
    pub oldest: Option<String>,
    /// When the newest message was published.
    pub newest: Option<String>,
    /// The durable consumers of the stream.
    pub consumers: Vec<ConsumerReport>,
    /// The stream of dead letters.
    pub dead_letter_stream: String,
    /// How many it holds.
    pub dead_letters: u64,
}

/// What the server says of a durable consumer.
#[derive(Debug, Serialize)]
pub struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// Messages that are not delivered yet.
    pub pending: u64,
    /// Messages that are delivered and not settled.
    pub ack_pending: u64,
    /// Of these, how many were delivered more than once.
    pub redelivered: u64,
    /// Age of the oldest message that is not settled; 0 when all are.
    pub lag_seconds: f64,
    /// When it acked last.
    pub last_ack: Option<String>,
    /// Whether it has something to do and does nothing.
    pub stuck: bool,
}

/// What the servers say of all pipelines.
#[derive(Debug, Default, Serialize)]
pub struct Overview {
    /// Pipelines that ran here, in the order in which they are configured.
    pub reports: Vec<Report>,
    /// Pipelines without a stream: they never ran here.
    pub without_stream: Vec<PipelineStreams>,
    /// What should be looked at, and what to do about it.
    pub findings: Vec<String>,
}

impl Overview {
    /// Asks the server.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    ///
    /// # Cancel safety
    /// Cancel safe: it only looks.
    pub async fn look(streams: &Streams) -> anyhow::Result<Self> {
        let mut overview = Self::default();
        for pipeline in &streams.pipelines {
            match streams.stream(&pipeline.stream).await? {
                Some(stream) => {
                    let report = report(pipeline, &stream, streams).await?;
                    overview
                        .findings
                        .extend(look_at(&report, &pipeline.consumer));
                    overview.reports.push(report);
                }
                None => overview.without_stream.push(pipeline.clone()),
            }
        }
        Ok(overview)
    }
}

impl Report {
    /// Returns how full the stream is, 0 to 1; 0 without a limit.
    pub fn share(&self) -> f64 {
        if self.bytes_max == 0 {
            0.0
        } else {
            self.bytes as f64 / self.bytes_max as f64
        }
    }
}

async fn report(
    pipeline: &PipelineStreams,
    stream: &Stream,
    streams: &Streams,
) -> anyhow::Result<Report> {
    let info = stream.cached_info();
    let state = &info.state;
    let durables: Vec<Info> = stream
        .consumers()
        .try_filter(|info| futures::future::ready(info.config.durable_name.is_some()))
        .try_collect()
        .await
        .with_context(|| format!("the consumers of stream {} cannot be seen", pipeline.stream))?;
    let mut consumers = Vec::new();
    for info in &durables {
        consumers.push(consumer(stream, info).await?);
    }
    let dead = streams.stream(&pipeline.dead_letters).await?;
    let holds = state.messages > 0;
    Ok(Report {
        pipeline: pipeline.name.clone(),
        stream: pipeline.stream.clone(),
        messages: state.messages,
        bytes: state.bytes,
        bytes_max: u64::try_from(info.config.max_bytes).unwrap_or_default(),
        oldest: holds.then(|| time(state.first_timestamp.unix_timestamp_nanos())),
        newest: holds.then(|| time(state.last_timestamp.unix_timestamp_nanos())),
        consumers,
        dead_letter_stream: pipeline.dead_letters.clone(),
        dead_letters: dead.map_or(0, |stream| stream.cached_info().state.messages),
    })
}

async fn consumer(stream: &Stream, info: &Info) -> anyhow::Result<ConsumerReport> {
    let open = info.num_pending > 0 || info.num_ack_pending > 0;
    let mut lag = SignedDuration::ZERO;
    if open
        && let Some((_, published_ns)) =
            message_from(stream, info.ack_floor.stream_sequence + 1).await?
    {
        let published = Timestamp::from_nanosecond(published_ns.into())?;
        lag = Timestamp::now()
            .duration_since(published)
            .max(SignedDuration::ZERO);
    }
    let last_ack = info.ack_floor.last_active;
    let last_ack = last_ack.map(|time| Timestamp::from_nanosecond(time.unix_timestamp_nanos()));
    let last_ack = last_ack.transpose()?;
    let rests = last_ack.is_none_or(|time| Timestamp::now().duration_since(time) > STUCK_AFTER);
    Ok(ConsumerReport {
        name: info.name.clone(),
        pending: info.num_pending,
        ack_pending: info.num_ack_pending as u64,
        redelivered: info.num_redelivered as u64,
        lag_seconds: lag.as_secs_f64(),
        last_ack: last_ack.map(|time| format!("{time:.0}")),
        stuck: open && rests && lag > STUCK_AFTER,
    })
}

/// What in a report should be looked at, and what to do about it.
fn look_at(report: &Report, own: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let (stream, pipeline) = (&report.stream, &report.pipeline);
    let share = report.share();
    if share >= NEARLY_FULL {
        findings.push(format!(
            "stream {stream} is {:.0} % full; it refuses what is published once it is full",
            share * 100.0
        ));
    }
    if !report.consumers.iter().any(|consumer| consumer.name == own) {
        findings.push(format!(
            "pipeline {pipeline}: there is no consumer {own}, nothing reads stream {stream}"
        ));
    }
    for consumer in report.consumers.iter().filter(|consumer| consumer.stuck) {
        let name = &consumer.name;
        findings.push(if name == own {
            format!("pipeline {pipeline} settles nothing: look at /readyz and the log of its workers")
        } else {
            format!("consumer {name} does not move and keeps everything behind it: nats consumer rm {stream} {name}")
        });
    }
    if report.dead_letters > 0 {
        findings.push(format!(
            "{} dead letters: ponix dlq ls --pipeline {pipeline}",
            report.dead_letters
        ));
    }
    findings
}

fn time(nanoseconds: i128) -> String {
    Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| String::new(), |time| format!("{time:.0}"))
}
