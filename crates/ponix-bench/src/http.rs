//! `http` and `messages`: the HTTP API under load, against a bare handler in the same run.

mod api;
mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_stack::{Nats, Postgres, Server, free_addr};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::api::{Api, KEY};
use self::client::{Load, Request, drive};
use crate::cli::{HttpArgs, LinesArgs, MessagesArgs, WorkerArgs};
use crate::events::Events;
use crate::progress::say;
use crate::report;
use crate::servers::{Counts, ENVELOPES, Servers};
use crate::usage::{Part, Usage, UsageMeter};
use crate::worker;

/// Between two looks at how many messages are settled.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Without a newly settled message for this long, a measurement is given up.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Connections that only stand there while memory is read.
const MANY_CONNECTIONS: usize = 1_000;

#[derive(Debug, Serialize)]
struct HttpResult {
    connections: u64,
    seconds: u64,
    /// The API's server syncs each message to the disk, the bare handler's does not.
    sync_always: bool,
    /// What the API was told besides.
    env: Vec<(String, String)>,
    /// A handler that only publishes its body and waits for the PubAck.
    bare: Load,
    envelopes: Load,
    message: Load,
    /// The API's requests per second as a part of the bare handler's.
    envelopes_ratio: f64,
    message_ratio: f64,
    /// Bodies of 1,000 lines each.
    batch_events_per_second: f64,
    /// Of the API's process, with so many connections open besides.
    memory_peak_bytes: Option<u64>,
}

/// Measures requests per second and their times, prints and writes the result.
///
/// # Errors
/// A server does not start, or an answer is not 202.
pub(crate) async fn run(args: &HttpArgs) -> Result<()> {
    let of_api = if args.sync_always {
        Nats::builder().sync_interval("always")
    } else {
        Nats::builder()
    };
    let (bare_nats, nats, postgres) =
        tokio::try_join!(Nats::start(), of_api.start(), Postgres::start())?;
    let duration = Duration::from_secs(args.seconds);
    let connections = usize::try_from(args.connections)?;
    let bare = Api::bare(&bare_nats).await?;
    let env = args.env.iter();
    let env: Vec<(&str, &str)> = env.map(|(name, value)| (&**name, &**value)).collect();
    let api = Api::ingest(&nats, &postgres, &env).await?;
    let mut loads = Vec::new();
    for (name, api, nats, request) in [
        (
            "bare handler",
            &bare,
            &bare_nats,
            Request::envelope("/", KEY),
        ),
        (
            "envelopes",
            &api,
            &nats,
            Request::envelope("/v1/envelopes", KEY),
        ),
        (
            "message",
            &api,
            &nats,
            Request::message("/ingest/message", KEY),
        ),
    ] {
        say(&format!("{name}: {} s", args.seconds));
        let meter = UsageMeter::start(parts(api, nats, &postgres));
        let mut load = drive(api.addr(), &request, connections, duration).await?;
        load.note_cpu(&meter.read());
        load.print(name);
        loads.push(load);
    }
    say("batches of 1,000 lines");
    let lines = Request::lines("/v1/envelopes", KEY, 1_000);
    let batches = drive(api.addr(), &lines, 8, duration).await?;
    let batch_events_per_second = batches.requests_per_second * 1_000.0;
    report::line(
        "events/s in batches",
        format_args!("{batch_events_per_second:.0}"),
    );

    let open = client::open(api.addr(), MANY_CONNECTIONS).await?;
    let request = Request::envelope("/v1/envelopes", KEY);
    drive(api.addr(), &request, connections, Duration::from_secs(2)).await?;
    let memory_peak_bytes = api.process().memory_peak_bytes();
    drop(open);
    let megabytes = memory_peak_bytes.unwrap_or(0) as f64 / 1e6;
    report::line(
        "memory, 1,000 connections",
        format_args!("{megabytes:.1} MB at most"),
    );
    let [bare, envelopes, message] =
        <[Load; 3]>::try_from(loads).map_err(|_| anyhow::anyhow!("three loads were driven"))?;
    let ratio =
        |load: &Load| (load.requests_per_second / bare.requests_per_second * 100.0).round() / 100.0;
    let result = HttpResult {
        connections: args.connections,
        seconds: args.seconds,
        sync_always: args.sync_always,
        env: args.env.clone(),
        envelopes_ratio: ratio(&envelopes),
        message_ratio: ratio(&message),
        bare,
        envelopes,
        message,
        batch_events_per_second,
        memory_peak_bytes,
    };
    report::line("envelopes / bare", result.envelopes_ratio);
    report::line("message / bare", result.message_ratio);
    report::write("http", args.json.as_deref(), &result)
}

fn parts<'a>(
    api: &'a Api,
    nats: &'a Server,
    postgres: &'a Server,
) -> [(&'static str, Part<'a>); 4] {
    [
        ("client", Part::Bench),
        ("nats-server", Part::Server(nats)),
        ("postgresql", Part::Server(postgres)),
        ("service", Part::Process(api.process())),
    ]
}

#[derive(Debug, Serialize)]
struct MessagesResult {
    messages: u64,
    /// From the first request to the last commit.
    seconds: f64,
    messages_per_second: f64,
    accepted_per_second: f64,
    worker_memory_peak_bytes: Option<u64>,
}

/// Measures messages per second from HTTP to PostgreSQL, prints and writes the result.
///
/// # Errors
/// A server does not start, a message is refused, or nothing moves for a minute.
pub(crate) async fn run_messages(args: &MessagesArgs) -> Result<()> {
    let (nats, postgres) = tokio::try_join!(Nats::start(), Postgres::start())?;
    let service = Api::all(&nats, &postgres).await?;
    let orders = client::orders(KEY, args.messages);
    let meter = UsageMeter::start(parts(&service, &nats, &postgres));
    let start = Instant::now();
    client::send_bodies(service.addr(), orders).await?;
    let accepted = start.elapsed().as_secs_f64();
    let mut last = (0, Instant::now());
    loop {
        let settled = service.settled().await?;
        if settled >= args.messages {
            break;
        }
        if settled > last.0 {
            last = (settled, Instant::now());
        }
        ensure!(
            last.1.elapsed() < STALL_TIMEOUT,
            "{settled} of {} messages are settled, and no more for {STALL_TIMEOUT:?}\n{}",
            args.messages,
            service.process().log_tail()
        );
        sleep(POLL_PAUSE).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let processes = meter.read();
    let result = MessagesResult {
        messages: args.messages,
        seconds,
        messages_per_second: report::rate(args.messages, seconds),
        accepted_per_second: report::rate(args.messages, accepted),
        worker_memory_peak_bytes: service.process().memory_peak_bytes(),
    };
    report::line("messages/s end to end", result.messages_per_second);
    report::line("messages/s accepted", result.accepted_per_second);
    report::usage(&processes);
    report::write("messages", args.json.as_deref(), &result).context("write the result")
}

#[derive(Debug, Serialize)]
struct LinesResult {
    events: u64,
    /// Events in a body.
    lines: u64,
    env: Vec<(String, String)>,
    /// From the first request to the last readable row.
    seconds: f64,
    events_per_second: f64,
    accepted_per_second: f64,
    counts: Counts,
    processes: BTreeMap<&'static str, Usage>,
}

/// Measures events per second from bodies of many lines over HTTP to readable rows, all through one
/// process that takes and stores them; prints and writes the result.
///
/// # Errors
/// A server does not start, a line is refused, nothing moves for a minute, or the counts are wrong.
pub(crate) async fn run_lines(args: &LinesArgs) -> Result<()> {
    let servers = Servers::start().await?;
    let addr = free_addr()?;
    let open = [
        ("PONIX_INGEST_ENABLED", "true"),
        ("PONIX_INGEST_ADDR", &addr.to_string()),
        ("PONIX_INGEST_ADDRESS_RATE", "0"),
        ("PONIX_INGEST_ORGANIZATION_LINES_RATE", "0"),
        ("PONIX_INGEST_ORGANIZATION_BYTES_RATE", "0"),
    ];
    let open = open.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let service = WorkerArgs {
        worker: args.worker.worker.clone(),
        env: open.into_iter().chain(args.worker.env.clone()).collect(),
    };
    let service = worker::start(&servers, &service).await?;
    let mut events = Events::new(ENVELOPES, args.measure.devices);
    let bodies = client::bodies(KEY, &mut events, args.events, args.lines);
    let meter = UsageMeter::start([
        ("client", Part::Bench),
        ("nats-server", Part::Server(&servers.nats)),
        ("clickhouse", Part::Server(&servers.clickhouse)),
        ("service", Part::Process(service.process())),
    ]);
    let start = Instant::now();
    let sending = async {
        client::send_bodies(addr, bodies).await?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    };
    let readable = servers.wait_for_rows(ENVELOPES, args.events, &service, |_| ());
    let (accepted, end) = tokio::try_join!(sending, readable)?;
    let seconds = (end - start).as_secs_f64();
    let processes = meter.read();
    let counts = servers.counts().await?;
    service.stop().await?;
    let result = LinesResult {
        events: args.events,
        lines: args.lines,
        env: args.worker.env.clone(),
        seconds,
        events_per_second: report::rate(args.events, seconds),
        accepted_per_second: report::rate(args.events, accepted),
        counts,
        processes,
    };
    report::line("events/s end to end", result.events_per_second);
    report::line("events/s accepted", result.accepted_per_second);
    report::usage(&result.processes);
    report::write("lines", args.measure.json.as_deref(), &result)?;
    ensure!(
        counts.events == args.events && counts.distinct_events == args.events,
        "sent {}, {counts:?}",
        args.events
    );
    Ok(())
}
