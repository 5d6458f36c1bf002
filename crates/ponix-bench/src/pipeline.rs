//! `pipeline`: events per second from publish to readable row.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use ponix_testkit::Worker;
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::PipelineArgs;
use crate::events::Events;
use crate::publish::Pipeline;
use crate::report;
use crate::servers::{Counts, ENVELOPES, Servers};
use crate::usage::{Part, Usage, UsageMeter};
use crate::worker;

const STREAM: &str = "processed_envelopes";

#[derive(Debug, Serialize)]
struct PipelineResult {
    events: u64,
    /// The worker was started when everything was published.
    backlog: bool,
    /// Events in one message.
    pack: u32,
    worker_env: Vec<(String, String)>,
    /// From the first publish (in a backlog: from the worker's start) to the last readable row.
    seconds: f64,
    events_per_second: f64,
    /// From the first publish to the last PubAck.
    publish_seconds: f64,
    publish_events_per_second: f64,
    /// Rows that were not readable yet at the last PubAck, and how fast they became so.
    drained_rows: u64,
    drain_events_per_second: f64,
    inserts: u64,
    rows_per_insert: f64,
    counts: Counts,
    processes: BTreeMap<&'static str, Usage>,
}

/// When what happened.
#[derive(Debug)]
struct Times {
    published: f64,
    readable: f64,
    /// Rows readable when the last PubAck came.
    readable_at_published: u64,
}

/// Runs the measurement, prints and writes its result.
///
/// # Errors
/// A server or the worker fails, nothing moves for a minute, or the counts are wrong at the end.
pub(crate) async fn run(args: &PipelineArgs) -> Result<()> {
    let servers = Servers::start().await?;
    let mut worker = worker::start(&servers, &args.worker).await?;
    if args.backlog {
        worker
            .stop()
            .await
            .context("stop the worker that made the stream")?;
    }
    let mut meter = UsageMeter::start([
        ("publisher", Part::Bench),
        ("nats-server", Part::Server(&servers.nats)),
        ("clickhouse", Part::Server(&servers.clickhouse)),
    ]);
    let times = if args.backlog {
        let published = publish(&servers, args).await?;
        let start = Instant::now();
        worker = worker::start(&servers, &args.worker).await?;
        let end = servers
            .wait_for_rows(ENVELOPES, args.events, &worker, |_| ())
            .await?;
        let readable = (end - start).as_secs_f64();
        Times {
            published,
            readable,
            readable_at_published: 0,
        }
    } else {
        both(&servers, &worker, args).await?
    };
    meter.add("worker", Part::Process(worker.process()));
    let processes = meter.read();
    let inserts = worker::inserts(&worker).await?;
    let counts = servers.counts().await?;
    worker.stop().await?;

    let drained_rows = args.events - times.readable_at_published.min(args.events);
    let drain_seconds = if args.backlog {
        times.readable
    } else {
        times.readable - times.published
    };
    let result = PipelineResult {
        events: args.events,
        backlog: args.backlog,
        pack: args.pack,
        worker_env: args.worker.env.clone(),
        seconds: times.readable,
        events_per_second: report::rate(args.events, times.readable),
        publish_seconds: times.published,
        publish_events_per_second: report::rate(args.events, times.published),
        drained_rows,
        drain_events_per_second: report::rate(drained_rows, drain_seconds),
        inserts: inserts.inserts,
        rows_per_insert: report::rate(inserts.rows, inserts.inserts as f64),
        counts,
        processes,
    };
    print(&result);
    report::write("pipeline", args.measure.json.as_deref(), &result)?;
    ensure!(
        counts.events == args.events && counts.distinct_events == args.events,
        "published {}, readable {}, distinct {}",
        args.events,
        counts.events,
        counts.distinct_events
    );
    Ok(())
}

/// Publishes and drains at the same time.
async fn both(servers: &Servers, worker: &Worker, args: &PipelineArgs) -> Result<Times> {
    let start = Instant::now();
    let published = AtomicBool::new(false);
    let mut readable_at_published = 0;
    let publishing = async {
        let seconds = publish(servers, args).await?;
        published.store(true, Ordering::Relaxed);
        anyhow::Ok(seconds)
    };
    let draining = servers.wait_for_rows(ENVELOPES, args.events, worker, |rows| {
        if !published.load(Ordering::Relaxed) {
            readable_at_published = rows;
        }
    });
    let (published, end) = tokio::try_join!(publishing, draining)?;
    let readable = (end - start).as_secs_f64();
    Ok(Times {
        published,
        readable,
        readable_at_published,
    })
}

/// Publishes everything from a task of its own; returns the seconds from the first publish to the
/// last PubAck.
async fn publish(servers: &Servers, args: &PipelineArgs) -> Result<f64> {
    let mut pipeline =
        Pipeline::connect(&servers.nats.url(), args.measure.in_flight as usize).await?;
    let mut events = Events::new(STREAM, args.measure.devices)
        .with_waveform(usize::try_from(args.waveform_bytes)?);
    let (count, pack) = (args.events, args.pack as usize);
    let publishing = tokio::spawn(async move {
        let start = Instant::now();
        if pack == 1 {
            for _ in 0..count {
                pipeline.send(events.next()).await?;
            }
        } else {
            pipeline
                .send_packed(&mut events, count, pack, STREAM)
                .await?;
        }
        pipeline.finish().await?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    });
    publishing.await.context("publish")?
}

fn print(result: &PipelineResult) {
    report::line("events", result.events);
    report::line("events/s end to end", result.events_per_second);
    report::line("events/s published", result.publish_events_per_second);
    report::line("events/s drained", result.drain_events_per_second);
    report::line("rows per INSERT", result.rows_per_insert);
    report::line("INSERTs", result.inserts);
    let Counts {
        stored_rows,
        events,
        distinct_events,
    } = result.counts;
    report::line(
        "readable / distinct / stored",
        format_args!("{events} / {distinct_events} / {stored_rows}"),
    );
    report::usage(&result.processes);
}
