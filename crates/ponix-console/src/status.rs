//! What the servers say of every pipeline: is it flowing, is it late, what is stuck.

use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::{Info as StreamInfo, RetentionPolicy, Stream};
use ponix_nats::message_from;
use ponix_wire::{covers, overlap};
use serde::Serialize;

use crate::streams::{PipelineStreams, Streams};

/// From this share of its limit on a stream is nearly full.
const NEARLY_FULL: f64 = 0.9;
/// A consumer with something to do that has acked nothing for so long does not move.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Time until what seems to be nowhere is looked for again.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(200);

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
    /// Messages, about, of a work queue or an interest stream that no consumer will get any more; 0
    /// where settled messages stay in the stream.
    pub nowhere: u64,
}

/// What the server says of a durable consumer.
#[derive(Debug, Serialize)]
pub struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// Messages that are not delivered yet; `None` when the server cannot tell.
    pub pending: Option<u64>,
    /// Why the server cannot tell.
    pub blind: Option<String>,
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
    let durables = durables(stream).await?;
    // After the consumers, so that none seems to be beyond its end.
    let seen = stream.get_info().await?;
    let mut consumers = Vec::new();
    for info in &durables {
        consumers.push(consumer(stream, &seen, info).await?);
    }
    let mut nowhere = nowhere(stream, &durables).await?;
    if nowhere > 0 {
        // What is settled leaves the stream a moment later.
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        let durables = self::durables(stream).await?;
        nowhere = self::nowhere(stream, &durables).await?;
    }
    let state = &seen.state;
    let dead = streams.stream(&pipeline.dead_letters).await?;
    let holds = state.messages > 0;
    Ok(Report {
        pipeline: pipeline.name.clone(),
        stream: pipeline.stream.clone(),
        messages: state.messages,
        bytes: state.bytes,
        bytes_max: u64::try_from(seen.config.max_bytes).unwrap_or_default(),
        oldest: holds.then(|| time(state.first_timestamp.unix_timestamp_nanos())),
        newest: holds.then(|| time(state.last_timestamp.unix_timestamp_nanos())),
        consumers,
        dead_letter_stream: pipeline.dead_letters.clone(),
        dead_letters: dead.map_or(0, |stream| stream.cached_info().state.messages),
        nowhere,
    })
}

/// Returns the durable consumers by name; the server has them in no order.
async fn durables(stream: &Stream) -> anyhow::Result<Vec<Info>> {
    let name = &stream.cached_info().config.name;
    let mut durables: Vec<Info> = stream
        .consumers()
        .try_filter(|info| futures::future::ready(info.config.durable_name.is_some()))
        .try_collect()
        .await
        .with_context(|| format!("the consumers of stream {name} cannot be seen"))?;
    durables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(durables)
}

/// Returns how many messages of a work queue lie behind everybody who could read them: the server has
/// given them up after `max_deliver` deliveries, or nobody reads their subject.
async fn nowhere(stream: &Stream, consumers: &[Info]) -> anyhow::Result<u64> {
    if stream.cached_info().config.retention == RetentionPolicy::Limits {
        return Ok(0);
    }
    // After the consumers: what they have settled by then has left.
    let state = stream.get_info().await?.state;
    let oldest = stream.get_raw_message(state.first_sequence).await;
    let (true, Ok(oldest)) = (state.messages > 0, oldest) else {
        return Ok(0);
    };
    // What is given up does not move the floor until something behind it is acked.
    let is_past = |info: &Info| {
        let nothing_open = info.num_ack_pending == 0;
        info.ack_floor.stream_sequence >= oldest.sequence
            || (nothing_open && info.delivered.stream_sequence >= oldest.sequence)
    };
    let mut readers = consumers.iter().filter(|info| reads(info, &oldest.subject));
    if !readers.all(is_past) {
        return Ok(0);
    }
    let open = |info: &Info| info.num_pending + info.num_ack_pending as u64;
    let open: u64 = consumers.iter().map(open).sum();
    Ok(state.messages.saturating_sub(open).max(1))
}

fn filters(info: &Info) -> impl Iterator<Item = &str> {
    let config = &info.config;
    let one = std::iter::once(config.filter_subject.as_str());
    let all = one.chain(config.filter_subjects.iter().map(String::as_str));
    all.filter(|filter| !filter.is_empty())
}

fn reads(info: &Info, subject: &str) -> bool {
    let mut filters = filters(info).peekable();
    filters.peek().is_none() || filters.any(|filter| covers(filter, subject))
}

/// Why nothing pending does not mean that all is read.
fn blind(seen: &StreamInfo, info: &Info) -> Option<String> {
    let subjects = &seen.config.subjects;
    let filters: Vec<_> = filters(info).collect();
    let is_met = |filter: &&str| subjects.iter().any(|subject| overlap(filter, subject));
    // A mirror and what only has sources have no subjects of their own.
    if !subjects.is_empty() && !filters.is_empty() && !filters.iter().any(is_met) {
        return Some(format!(
            "reads {}, and the stream takes {}: nothing ever comes",
            filters.join(", "),
            subjects.join(", ")
        ));
    }
    let position = info.delivered.stream_sequence;
    let (position, last) = (
        position.max(info.ack_floor.stream_sequence),
        seen.state.last_sequence,
    );
    (position > last).then(|| {
        format!(
            "has read up to {position}, and the stream ends at {last}: the server has lost its tail"
        )
    })
}

async fn consumer(
    stream: &Stream,
    seen: &StreamInfo,
    info: &Info,
) -> anyhow::Result<ConsumerReport> {
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
    let blind = blind(seen, info);
    Ok(ConsumerReport {
        name: info.name.clone(),
        pending: blind.is_none().then_some(info.num_pending),
        blind,
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
    for consumer in &report.consumers {
        if let Some(blind) = &consumer.blind {
            let name = &consumer.name;
            findings.push(format!("consumer {name} sees nothing of stream {stream}: it {blind} (ponix doctor says what to do)"));
        }
    }
    if report.nowhere > 0 {
        findings.push(format!(
            "stream {stream} holds about {} messages that nobody gets any more: the server has given them up (max_deliver of the consumer), or no consumer reads their subject; nats stream view {stream} shows them",
            report.nowhere
        ));
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
