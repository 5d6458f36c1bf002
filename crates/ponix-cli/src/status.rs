//! `ponix status`: is it flowing, is it late, what is stuck.

use anyhow::Context as _;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use ponix_all_in_one::{PipelineStreams, readiness};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::message_from;
use serde::Serialize;
use serde_json::{Value, json};

use crate::servers::Servers;
use crate::{End, print};

/// From this share of its limit on a stream is nearly full.
const NEARLY_FULL: f64 = 0.9;
/// A consumer with something to do that has acked nothing for so long does not move.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// What the server says of one pipeline.
#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    stream: String,
    messages: u64,
    bytes: u64,
    /// Without a limit 0.
    bytes_max: u64,
    oldest: Option<String>,
    newest: Option<String>,
    consumers: Vec<Consumer>,
    dead_letter_stream: String,
    dead_letters: u64,
}

/// What the server says of a durable consumer.
#[derive(Debug, Serialize)]
struct Consumer {
    name: String,
    pending: u64,
    ack_pending: u64,
    redelivered: u64,
    lag_seconds: f64,
    last_ack: Option<String>,
    /// Whether it has something to do and does nothing.
    stuck: bool,
}

/// Prints it; the end is in part when something should be looked at.
pub(crate) async fn run(servers: &Servers, json: bool) -> anyhow::Result<End> {
    let mut reports = Vec::new();
    let mut findings = Vec::new();
    for pipeline in &servers.pipelines {
        match servers.stream(&pipeline.stream).await? {
            Some(stream) => {
                let report = report(pipeline, &stream, servers).await?;
                findings.extend(look_at(&report, &pipeline.consumer));
                reports.push(report);
            }
            None if !json => print::note(&format!(
                "pipeline {}: there is no stream {}, it never ran here",
                pipeline.name, pipeline.stream
            )),
            None => {}
        }
    }
    let service = readiness(servers.admin_addr).await;
    if let Ok((_, body)) = &service {
        findings.extend(said(body));
    }
    if json {
        for report in &reports {
            print::json(&serde_json::to_value(report)?);
        }
        let service = service.map_or_else(
            |err| json!({ "unseen": err }),
            |(_, body)| serde_json::from_str(&body).unwrap_or_default(),
        );
        print::json(&json!({ "service": service, "findings": findings }));
    } else {
        show(servers, &reports);
        match service {
            Ok((true, _)) => print::line(&format!("service at {}: ready", servers.admin_addr)),
            Ok((false, _)) => print::line(&format!("service at {}: NOT ready", servers.admin_addr)),
            Err(err) => print::line(&format!("{err} (PONIX_ADMIN_ADDR)")),
        }
        for finding in &findings {
            print::line(&format!("! {finding}"));
        }
    }
    Ok(if findings.is_empty() {
        End::Done
    } else {
        End::InPart
    })
}

async fn report(
    pipeline: &PipelineStreams,
    stream: &Stream,
    servers: &Servers,
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
    let dead = servers.stream(&pipeline.dead_letters).await?;
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

async fn consumer(stream: &Stream, info: &Info) -> anyhow::Result<Consumer> {
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
    Ok(Consumer {
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
    let share = share(report);
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

/// What the service says of itself.
fn said(body: &str) -> Vec<String> {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let texts = ["reasons", "warnings"]
        .into_iter()
        .filter_map(|key| said[key].as_array());
    let texts = texts.flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn show(servers: &Servers, reports: &[Report]) {
    let server = servers.context.client().server_info();
    print::line(&format!("NATS {} at {}", server.version, servers.url));
    let mut rows = Vec::new();
    for report in reports {
        let mut consumers: Vec<_> = report.consumers.iter().map(Some).collect();
        if consumers.is_empty() {
            consumers.push(None);
        }
        for (index, consumer) in consumers.into_iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let of = |text: fn(&Consumer) -> String| consumer.map_or_else(|| "-".to_owned(), text);
            rows.push([
                first(report.pipeline.clone()),
                first(report.messages.to_string()),
                first(format!(
                    "{:.1} MiB, {:.0} %",
                    report.bytes as f64 / f64::from(1 << 20),
                    share(report) * 100.0
                )),
                of(|one| one.name.clone()),
                of(|one| one.pending.to_string()),
                of(|one| one.ack_pending.to_string()),
                of(|one| one.redelivered.to_string()),
                of(|one| format!("{:.1} s", one.lag_seconds)),
                of(|one| one.last_ack.clone().unwrap_or_else(|| "never".to_owned())),
                first(report.dead_letters.to_string()),
            ]);
        }
    }
    let head = [
        "PIPELINE",
        "MESSAGES",
        "BYTES",
        "CONSUMER",
        "PENDING",
        "IN WORK",
        "REDELIVERED",
        "LAG",
        "LAST ACK",
        "DEAD LETTERS",
    ];
    print::table(head, &rows);
}

fn share(report: &Report) -> f64 {
    if report.bytes_max == 0 {
        0.0
    } else {
        report.bytes as f64 / report.bytes_max as f64
    }
}

fn time(nanoseconds: i128) -> String {
    Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| String::new(), |time| format!("{time:.0}"))
}
