//! `latency`: the time from publish to readable row at a low rate, and the idle worker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_testkit::Worker;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cli::LatencyArgs;
use crate::events::Events;
use crate::publish::Pipeline;
use crate::report;
use crate::servers::Servers;
use crate::usage::Part;
use crate::worker;

const STREAM: &str = "processed_envelopes";
/// Between two looks at what is readable: the resolution of the latencies.
const POLL_PAUSE: Duration = Duration::from_millis(10);
/// An event that is not readable after this long is lost.
const READABLE_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Serialize)]
struct LatencyResult {
    events: u64,
    events_per_second: u64,
    worker_env: Vec<(String, String)>,
    /// From publish to readable, in milliseconds.
    latency_ms: Percentiles,
    seconds: f64,
    inserts: u64,
    seconds_per_insert: f64,
    /// Of one core, while nothing is published.
    idle_cpu_percent: f64,
    /// Of one core, while events are published.
    busy_cpu_percent: f64,
    memory_peak_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// Runs the measurement, prints and writes its result.
///
/// # Errors
/// A server or the worker fails, or an event is not readable within a minute.
pub(crate) async fn run(args: &LatencyArgs) -> Result<()> {
    let servers = Servers::start().await?;
    let worker = worker::start(&servers, &args.worker).await?;
    let idle_cpu_percent = idle_cpu_percent(&worker, Duration::from_secs(args.idle_seconds)).await;

    let inserts_before = worker::inserts(&worker).await?.inserts;
    let cpu_before = Part::Process(worker.process()).cpu_time();
    let start = Instant::now();
    let latencies = measure(&servers, args).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = Part::Process(worker.process())
        .cpu_time()
        .saturating_sub(cpu_before);
    let inserts = worker::inserts(&worker).await?.inserts - inserts_before;

    let result = LatencyResult {
        events: latencies.len() as u64,
        events_per_second: args.rate,
        worker_env: args.worker.env.clone(),
        latency_ms: percentiles(latencies).context("no event was published")?,
        seconds,
        inserts,
        seconds_per_insert: seconds / inserts as f64,
        idle_cpu_percent,
        busy_cpu_percent: cpu.as_secs_f64() / seconds * 100.0,
        memory_peak_bytes: worker.process().memory_peak_bytes(),
    };
    worker.stop().await?;
    print(&result);
    report::write("latency", args.measure.json.as_deref(), &result)
}

async fn idle_cpu_percent(worker: &Worker, time: Duration) -> f64 {
    let part = Part::Process(worker.process());
    let before = part.cpu_time();
    sleep(time).await;
    part.cpu_time().saturating_sub(before).as_secs_f64() / time.as_secs_f64() * 100.0
}

/// The latencies of all events, in the order they were published.
async fn measure(servers: &Servers, args: &LatencyArgs) -> Result<Vec<Duration>> {
    let pipeline = Pipeline::connect(&servers.nats.url(), args.measure.in_flight as usize).await?;
    let events = Events::new(STREAM, args.measure.devices);
    let count = args.seconds * args.rate;
    let (sent, published) = watch::channel(Vec::new());
    let pause = Duration::from_secs(1) / u32::try_from(args.rate)?;
    let publishing = publish(pipeline, events, count, pause, sent);
    let reading = readable_times(servers, count, &published);
    let ((), readable) = tokio::try_join!(publishing, reading)?;
    let published = published.borrow();
    Ok(readable
        .iter()
        .zip(&*published)
        .map(|(end, start)| *end - *start)
        .collect())
}

async fn publish(
    mut pipeline: Pipeline,
    mut events: Events,
    count: u64,
    pause: Duration,
    sent: watch::Sender<Vec<Instant>>,
) -> Result<()> {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..count {
        ticks.tick().await;
        let event = events.next();
        sent.send_modify(|sent| sent.push(Instant::now()));
        pipeline.send(event).await?;
        pipeline.finish().await?;
    }
    Ok(())
}

/// When each event became readable. Events become readable in the order of the stream, so a count
/// of n says that the first n are.
async fn readable_times(
    servers: &Servers,
    count: u64,
    published: &watch::Receiver<Vec<Instant>>,
) -> Result<Vec<Instant>> {
    let mut readable = Vec::new();
    while readable.len() < count as usize {
        let events = servers.readable_events().await? as usize;
        let now = Instant::now();
        readable.resize(events.max(readable.len()), now);
        let waiting_since = published.borrow().get(readable.len()).copied();
        ensure!(
            waiting_since.is_none_or(|since| now - since < READABLE_TIMEOUT),
            "event {} is not readable after {READABLE_TIMEOUT:?}",
            readable.len() + 1
        );
        sleep(POLL_PAUSE).await;
    }
    Ok(readable)
}

fn percentiles(mut latencies: Vec<Duration>) -> Option<Percentiles> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    let at = |share: f64| {
        let index = (last as f64 * share).round() as usize;
        (latencies[index].as_secs_f64() * 10_000.0).round() / 10.0
    };
    Some(Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    })
}

fn print(result: &LatencyResult) {
    let Percentiles { p50, p90, p99, max } = result.latency_ms;
    report::line("events", result.events);
    report::line(
        "p50 / p90 / p99 / max ms",
        format_args!("{p50} / {p90} / {p99} / {max}"),
    );
    report::line("INSERTs", result.inserts);
    report::line(
        "seconds per INSERT",
        format_args!("{:.2}", result.seconds_per_insert),
    );
    report::line(
        "worker CPU idle",
        format_args!("{:.2} %", result.idle_cpu_percent),
    );
    report::line(
        "worker CPU busy",
        format_args!("{:.2} %", result.busy_cpu_percent),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Percentiles, percentiles};

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let latencies = (0..=100).rev().map(Duration::from_millis).collect();
        let expected = Percentiles {
            p50: 50.0,
            p90: 90.0,
            p99: 99.0,
            max: 100.0,
        };
        assert_eq!(percentiles(latencies), Some(expected));
        assert_eq!(percentiles(Vec::new()), None);
    }
}
