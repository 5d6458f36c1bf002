//! `pipeline --spec`: declared pipelines beside that of envelopes, each on a backlog, in one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ponix_nats::OutgoingMessage;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cli::{PipelineArgs, WorkerArgs};
use crate::events::Events;
use crate::publish::Pipeline;
use crate::report;
use crate::servers::{ENVELOPES, Servers};
use crate::usage::{Part, UsageMeter};
use crate::worker;

/// What is read of a document; the worker checks it.
#[derive(Debug, Deserialize)]
struct Document {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Spec {
    source: Source,
    sink: Sink,
}

#[derive(Debug, Deserialize)]
struct Source {
    subjects: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Sink {
    clickhouse: Table,
}

#[derive(Debug, Deserialize)]
struct Table {
    table: String,
}

/// One pipeline to be measured.
#[derive(Debug)]
struct Job {
    name: String,
    table: String,
    /// That its events are published on; `None` for envelopes.
    subject: Option<String>,
    /// The document.
    spec: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct DeclaredResult {
    events: u64,
    worker_env: Vec<(String, String)>,
    /// By the pipeline's name.
    pipelines: BTreeMap<String, Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    /// From the worker's start, everything being published, to the last readable row.
    seconds: f64,
    events_per_second: f64,
    /// Of those of envelopes.
    of_envelopes: f64,
    /// Processor time per event, by process.
    microseconds_per_event: BTreeMap<&'static str, f64>,
    rows_per_insert: f64,
    /// Rows with `FINAL`.
    distinct_events: u64,
}

/// Runs the measurement, prints and writes its result.
///
/// # Errors
/// A document cannot be read, a server or the worker fails, nothing moves for a minute, or the
/// counts are wrong at the end.
pub(crate) async fn run(args: &PipelineArgs) -> Result<()> {
    let mut jobs = vec![Job {
        name: "envelopes".to_owned(),
        table: ENVELOPES.to_owned(),
        subject: None,
        spec: None,
    }];
    for spec in &args.spec {
        let job = read(spec).with_context(|| spec.display().to_string())?;
        jobs.push(job);
    }
    let mut pipelines = BTreeMap::new();
    let mut envelopes = None;
    for job in jobs {
        let mut measured = measure(&job, args)
            .await
            .with_context(|| format!("pipeline {}", job.name))?;
        let of = *envelopes.get_or_insert(measured.events_per_second);
        measured.of_envelopes = measured.events_per_second / of;
        print(&job.name, &measured);
        pipelines.insert(job.name, measured);
    }
    let result = DeclaredResult {
        events: args.events,
        worker_env: args.worker.env.clone(),
        pipelines,
    };
    report::write("pipeline-spec", args.measure.json.as_deref(), &result)
}

fn read(spec: &Path) -> Result<Job> {
    let text = fs::read_to_string(spec).context("read the document")?;
    let document: Document = serde_saphyr::from_str(&text)
        .context("a pipeline with a table of ClickHouse is expected here")?;
    let subjects = document.spec.source.subjects;
    Ok(Job {
        name: document.metadata.name,
        table: format!("`{}`", document.spec.sink.clickhouse.table),
        subject: Some(subjects.into_iter().next().context("it has no subjects")?),
        spec: Some(spec.to_owned()),
    })
}

/// Measures a pipeline on servers of its own, so that none merges what another one stored.
async fn measure(job: &Job, args: &PipelineArgs) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let mut worker_args = WorkerArgs {
        worker: args.worker.worker.clone(),
        env: args.worker.env.clone(),
    };
    if let Some(spec) = &job.spec {
        fs::copy(spec, folder.path().join("pipeline.yaml"))?;
        let dir = folder.path().display().to_string();
        worker_args
            .env
            .push(("PONIX_PIPELINES_DIR".to_owned(), dir));
    }
    let servers = Servers::start().await?;
    let worker = worker::start(&servers, &worker_args).await?;
    let stopped = worker.stop().await;
    stopped.context("stop the worker that made the stream")?;
    publish(&servers, job, args).await?;

    let mut meter = UsageMeter::start([
        ("nats-server", Part::Server(&servers.nats)),
        ("clickhouse", Part::Server(&servers.clickhouse)),
    ]);
    let start = Instant::now();
    let worker = worker::start(&servers, &worker_args).await?;
    let table = &job.table;
    let end = servers.wait_for_rows(table, args.events, &worker, |_| ());
    let seconds = (end.await? - start).as_secs_f64();
    meter.add("worker", Part::Process(worker.process()));
    let processes = meter.read();
    let inserts = worker::inserts(&worker).await?;
    worker.stop().await?;

    let distinct_events = servers.count(&format!("{table} FINAL")).await?;
    ensure!(
        distinct_events == args.events,
        "published {}, distinct {distinct_events}",
        args.events
    );
    let per_event = |seconds: f64| seconds * 1e6 / args.events as f64;
    Ok(Measured {
        seconds,
        events_per_second: report::rate(args.events, seconds),
        of_envelopes: 1.0,
        microseconds_per_event: processes
            .into_iter()
            .map(|(name, usage)| (name, per_event(usage.cpu_seconds)))
            .collect(),
        rows_per_insert: report::rate(inserts.rows, inserts.inserts as f64),
        distinct_events,
    })
}

async fn publish(servers: &Servers, job: &Job, args: &PipelineArgs) -> Result<()> {
    let in_flight = args.measure.in_flight as usize;
    let mut pipeline = Pipeline::connect(&servers.nats.url(), in_flight).await?;
    let mut events = Events::new(ENVELOPES, args.measure.devices);
    let mut next = || -> OutgoingMessage {
        match &job.subject {
            None => events.next(),
            Some(subject) => events.next_json(subject),
        }
    };
    for _ in 0..args.events {
        pipeline.send(next()).await?;
    }
    pipeline.finish().await
}

fn print(name: &str, measured: &Measured) {
    report::line("pipeline", name);
    report::line("  events/s", measured.events_per_second);
    report::line(
        "  of envelopes",
        format_args!("{:.2}", measured.of_envelopes),
    );
    report::line("  rows per INSERT", measured.rows_per_insert);
    for (process, us) in &measured.microseconds_per_event {
        report::line(&format!("  {process}"), format_args!("{us:.2} µs an event"));
    }
}
