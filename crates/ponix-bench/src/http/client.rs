//! Clients that keep their connections and send the same again and again.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::events::Events;
use crate::report;
use crate::usage::Usage;

/// Lines in a request of `messages`.
const ORDERS_PER_REQUEST: u64 = 1_000;
/// Bodies of many lines that are sent at the same time.
const BODY_CLIENTS: usize = 8;

/// What is sent, whole.
#[derive(Debug, Clone)]
pub(super) struct Request(Vec<u8>);

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    /// Processor time per request, in microseconds, by process.
    cpu_us: BTreeMap<&'static str, f64>,
}

const ENVELOPE: &str = r#"{"end_device_id":"sensor-000007","occurred_at":"2026-03-01T12:00:00Z","data":{"battery_mv":3000,"door_open":false,"firmware":"2.4.1-rc3+build.77","humidity_percent":41.25,"pressure_hpa":1001.31,"rssi_dbm":-71,"temperature":21.512,"uptime_seconds":1234567}}"#;

impl Request {
    pub(super) fn envelope(path: &str, key: &str) -> Self {
        Self::new(path, key, "application/json", ENVELOPE)
    }

    pub(super) fn lines(path: &str, key: &str, lines: usize) -> Self {
        Self::of_lines(path, key, &vec![ENVELOPE; lines])
    }

    fn of_lines(path: &str, key: &str, lines: &[impl Borrow<str>]) -> Self {
        Self::new(path, key, "application/x-ndjson", &lines.join("\n"))
    }

    pub(super) fn message(path: &str, key: &str) -> Self {
        Self::new(path, key, "text/plain", &order(1))
    }

    fn new(path: &str, key: &str, content_type: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        Self([head.as_bytes(), body.as_bytes()].concat())
    }
}

impl Load {
    fn new(mut times: Vec<Duration>, elapsed: Duration) -> Self {
        times.sort_unstable();
        let at = |part: f64| {
            let index = (times.len() as f64 * part) as usize;
            let time = times.get(index.min(times.len().saturating_sub(1)));
            (time.copied().unwrap_or_default().as_secs_f64() * 100_000.0).round() / 100.0
        };
        Self {
            requests: times.len() as u64,
            requests_per_second: report::rate(times.len() as u64, elapsed.as_secs_f64()),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            cpu_us: BTreeMap::new(),
        }
    }

    /// Adds what the processes used.
    pub(super) fn note_cpu(&mut self, processes: &BTreeMap<&'static str, Usage>) {
        let requests = self.requests.max(1) as f64;
        let per_request = |usage: &Usage| (usage.cpu_seconds * 1e7 / requests).round() / 10.0;
        let all = processes.iter();
        self.cpu_us = all
            .map(|(name, usage)| (*name, per_request(usage)))
            .collect();
    }

    pub(super) fn print(&self, name: &str) {
        let Self {
            requests_per_second,
            p50_ms,
            p95_ms,
            p99_ms,
            cpu_us,
            ..
        } = self;
        report::line(
            name,
            format_args!(
                "{requests_per_second} requests/s, p50 {p50_ms} ms, p95 {p95_ms} ms, p99 {p99_ms} ms"
            ),
        );
        for (process, us) in cpu_us {
            report::line("", format_args!("{us} µs CPU per request: {process}"));
        }
    }
}

/// Sends the request on so many connections for this time.
pub(super) async fn drive(
    addr: SocketAddr,
    request: &Request,
    connections: usize,
    duration: Duration,
) -> Result<Load> {
    let start = Instant::now();
    let end = start + duration;
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(addr, request.clone(), end)))
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    Ok(Load::new(times, start.elapsed()))
}

async fn client(addr: SocketAddr, request: Request, end: Instant) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(addr).await?;
    let mut times = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        connection.send(&request).await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// Opens connections and sends nothing on them.
pub(super) async fn open(addr: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"POST /v1/envelopes HTTP/1.1\r\n").await?;
        open.push(stream);
    }
    Ok(open)
}

/// Makes so many different events, in bodies of so many lines.
pub(super) fn bodies(key: &str, events: &mut Events, count: u64, lines: u64) -> Vec<Request> {
    let firsts = (0..count).step_by(lines as usize);
    firsts
        .map(|first| {
            let lines: Vec<String> = (first..count.min(first + lines))
                .map(|_| events.next_line())
                .collect();
            Request::of_lines("/v1/envelopes", key, &lines)
        })
        .collect()
}

/// Makes so many different orders, in bodies of many lines.
pub(super) fn orders(key: &str, count: u64) -> Vec<Request> {
    let firsts = (0..count).step_by(ORDERS_PER_REQUEST as usize);
    firsts
        .map(|first| {
            let last = count.min(first + ORDERS_PER_REQUEST);
            let lines: Vec<String> = (first..last).map(|key| order(key + 1)).collect();
            Request::new("/ingest/batch", key, "text/plain", &lines.join("\n"))
        })
        .collect()
}

/// Sends each body once, none of whose lines may be refused.
pub(super) async fn send_bodies(addr: SocketAddr, bodies: Vec<Request>) -> Result<()> {
    let bodies = Arc::new(Mutex::new(bodies));
    let client = |bodies: Arc<Mutex<Vec<Request>>>| async move {
        let mut connection = Connection::open(addr).await?;
        loop {
            let next = bodies.lock().await.pop();
            let Some(body) = next else {
                return anyhow::Ok(());
            };
            let answer = connection.send(&body).await?;
            let refused = !answer.contains("\"failed\":0");
            ensure!(!refused, "{}", &answer[..answer.len().min(400)]);
        }
    };
    let clients: Vec<_> = (0..BODY_CLIENTS)
        .map(|_| tokio::spawn(client(Arc::clone(&bodies))))
        .collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

fn order(key: u64) -> String {
    format!(
        "O|{key}|370|O|172799.49|1996-01-02|5-LOW|Clerk#000000951|0|nstructions sleep furiously"
    )
}

/// A connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Sends a request and returns the body of its answer, which must be a 202.
    async fn send(&mut self, request: &Request) -> Result<String> {
        self.stream.get_mut().write_all(&request.0).await?;
        let mut length = 0;
        let mut status = String::new();
        loop {
            self.line.clear();
            let read = self.stream.read_line(&mut self.line).await?;
            ensure!(read > 0, "the server closed the connection");
            let line = self.line.trim_end();
            if status.is_empty() {
                line.clone_into(&mut status);
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("content-length")?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await?;
        let body = String::from_utf8_lossy(&self.body).into_owned();
        ensure!(status.contains(" 202 "), "{status}: {body}");
        Ok(body)
    }
}
