//! Streams and consumers of the pipelines, against what the pipelines need.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use ponix_console::PipelineStreams;
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::context::ConsumerInfoErrorKind;
use ponix_nats::async_nats::jetstream::stream::{DiscardPolicy, Stream};
use ponix_nats::message_from;
use ponix_pipeline::Limits;
use ponix_wire::covers;
use ponix_wire::quantity::shown_duration;

use super::Findings;
use crate::servers::Servers;

/// From this share of its limit on a stream is nearly full.
const NEARLY_FULL: f64 = 0.8;
/// Servers from this version on put a position right that lies beyond the end of a stream.
const VERSION_WANTED: (u64, u64) = (2, 14);

/// Looks at the streams of every pipeline; returns those that have a single copy.
pub(super) async fn look(servers: &Servers, findings: &mut Findings) -> Vec<String> {
    let mut single_copies = Vec::new();
    for pipeline in &servers.streams.pipelines {
        let looked = look_at_pipeline(pipeline, servers, &mut single_copies, findings).await;
        if let Err(err) = looked {
            let (stream, consumer) = (&pipeline.stream, &pipeline.consumer);
            findings.wrong(
                format!("pipeline {}", pipeline.name),
                format!("cannot be looked at: {err:#}"),
                format!("may the user use $JS.API.STREAM.INFO.{stream}, $JS.API.STREAM.MSG.GET.{stream} and $JS.API.CONSUMER.INFO.{stream}.{consumer}?"),
            );
        }
    }
    let version = servers.streams.context.client().server_info().version;
    if !single_copies.is_empty() && version_of(&version) < VERSION_WANTED {
        findings.note(
            format!("NATS {version}"),
            "a consumer stays where it was when the server has lost the tail of a stream, and skips what gets those places",
            "workers put it right when they see it; servers from 2.14 on do by themselves",
        );
    }
    single_copies
}

async fn look_at_pipeline(
    pipeline: &PipelineStreams,
    servers: &Servers,
    single_copies: &mut Vec<String>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let about = format!("pipeline {}", pipeline.name);
    let Some(stream) = servers.stream(&pipeline.stream).await? else {
        findings.note(
            about,
            format!("there is no stream {}", pipeline.stream),
            "it never ran here; its first start makes the stream",
        );
        return Ok(());
    };
    if stream.cached_info().config.num_replicas == 1 {
        single_copies.push(pipeline.stream.clone());
    }
    look_at_stream(&stream, findings);
    match stream.consumer_info(&pipeline.consumer).await {
        Ok(info) => {
            let limits = servers.limits(&pipeline.name);
            let lag = lag(&stream, &info).await?;
            look_at_consumer(pipeline, &stream, &info, limits, lag, findings);
        }
        Err(err) if err.kind() == ConsumerInfoErrorKind::NotFound => findings.wrong(
            about,
            format!(
                "there is no consumer {}: nothing reads stream {}",
                pipeline.consumer, pipeline.stream
            ),
            "start a worker, which makes it; with other settings, name them as the pipeline does",
        ),
        Err(err) => return Err(err).context("consumer"),
    }
    Ok(())
}

fn look_at_stream(stream: &Stream, findings: &mut Findings) {
    let info = stream.cached_info();
    let (config, state) = (&info.config, &info.state);
    let about = format!("stream {}", config.name);
    let share = state.bytes as f64 / config.max_bytes as f64;
    if config.max_bytes > 0 && share >= NEARLY_FULL {
        let percent = share * 100.0;
        let (what, advice) = if config.discard == DiscardPolicy::Old {
            (
                "drops its oldest events, read or not, once it is full",
                "raise max_bytes, or set discard: new",
            )
        } else {
            (
                "refuses what is published once it is full",
                "see to what is not settled (ponix status), or raise max_bytes",
            )
        };
        findings.wrong(about, format!("is {percent:.0} % full; it {what}"), advice);
    }
}

fn look_at_consumer(
    pipeline: &PipelineStreams,
    stream: &Stream,
    consumer: &Info,
    limits: Option<&Limits>,
    lag: Duration,
    findings: &mut Findings,
) {
    let info = stream.cached_info();
    let config = &consumer.config;
    let about = format!("consumer {}/{}", pipeline.stream, pipeline.consumer);
    let subjects = &info.config.subjects;
    let filters = [
        std::slice::from_ref(&config.filter_subject),
        &config.filter_subjects[..],
    ]
    .concat();
    for filter in filters.iter().filter(|filter| !filter.is_empty()) {
        if !subjects.iter().any(|subject| covers(subject, filter)) && info.config.mirror.is_none() {
            findings.wrong(
                &about,
                format!(
                    "filter {filter} is outside the stream's subjects, {}: nothing ever comes",
                    subjects.join(", ")
                ),
                "give the stream these subjects, or the pipeline another filter",
            );
        }
    }
    let last = info.state.last_sequence;
    let position = consumer
        .delivered
        .stream_sequence
        .max(consumer.ack_floor.stream_sequence);
    if position > last {
        findings.wrong(
            &about,
            format!("has read up to {position}, but the stream ends at {last}: the server has lost its tail"),
            "restart the workers: they set the consumer back. What was lost has to be published again; see Lost tail in docs/operations.md",
        );
    }
    let age = info.config.max_age;
    if !age.is_zero() && lag > age / 2 {
        findings.wrong(
            &about,
            format!("is {} behind, and the stream drops events after {}", in_seconds(lag), shown_duration(age)),
            "what is not stored by then is lost: raise max_age now, then see why rows do not come (ponix status)",
        );
    }
    let Some(limits) = limits else { return };
    let needed = 2 * limits.batch_messages as i64 * limits.in_flight as i64;
    if config.max_ack_pending > 0 && config.max_ack_pending < needed {
        findings.wrong(
            &about,
            format!(
                "lets {} events be unsettled, and one worker takes {} batches of {}: it waits for full batches in vain",
                config.max_ack_pending, limits.in_flight, limits.batch_messages
            ),
            format!("raise max_ack_pending to {needed} for each worker, or lower limits.batch_messages"),
        );
    }
    if config.ack_wait < limits.ack_wait {
        findings.wrong(
            &about,
            format!(
                "delivers again after {}, and workers report progress by an ack_wait of {}",
                shown_duration(config.ack_wait),
                shown_duration(limits.ack_wait)
            ),
            "make both alike: limits.ack_wait of the pipeline and ack_wait of the consumer",
        );
    }
    if config.max_deliver > 0 {
        let (given_up, ours) = (config.max_deliver, i64::from(limits.deliveries_max));
        if given_up < ours {
            findings.wrong(
                &about,
                format!("gives an event up after {given_up} deliveries and says nothing, the pipeline dead-letters it after {ours}"),
                format!("set limits.max_deliveries to {given_up} or less, or take max_deliver from the consumer"),
            );
        } else {
            findings.note(
                &about,
                format!("gives an event up after {given_up} deliveries: workers that are killed so often with it leave it unread"),
                "take max_deliver from the consumer: the pipeline's own limit ends in the dead letters",
            );
        }
    }
}

/// Age of the oldest event that is not settled.
async fn lag(stream: &Stream, consumer: &Info) -> anyhow::Result<Duration> {
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(Duration::ZERO);
    }
    let first = message_from(stream, consumer.ack_floor.stream_sequence + 1).await?;
    let Some((_, published_ns)) = first else {
        return Ok(Duration::ZERO);
    };
    let published = Timestamp::from_nanosecond(published_ns.into())?;
    let lag = Timestamp::now().duration_since(published);
    Ok(Duration::try_from(lag).unwrap_or_default())
}

fn in_seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn version_of(text: &str) -> (u64, u64) {
    let mut numbers = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn versions_are_numbers() {
        assert!(version_of("2.9.10") < version_of("2.14.0-RC.1"));
        assert_eq!(version_of("2.15.2"), (2, 15));
    }
}
