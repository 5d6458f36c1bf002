//! What was answered 200 is there after a kill -9.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use ponix_stack::eventually;
use tokio::net::TcpStream;

use crate::server::server_or_skip;

const BATCH: u64 = 500;
const KILLS: u64 = 3;

/// Inserts one batch; `true` only if the answer was a whole 200.
async fn insert(address: &str, batch: u64) -> Option<()> {
    let rows: String = (0..BATCH)
        .map(|n| format!("{}\n", batch * BATCH + n))
        .collect();
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    tokio::spawn(connection);
    let request = Request::post("/?query=INSERT+INTO+t+FORMAT+TSV").header("host", address);
    let response = sender
        .send_request(request.body(Full::new(Bytes::from(rows))).ok()?)
        .await
        .ok()?;
    let status = response.status();
    response.into_body().collect().await.ok()?;
    status.is_success().then_some(())
}

#[tokio::test]
async fn nothing_answered_is_lost_by_kill_9() {
    let mut server = server_or_skip!();
    server
        .sql("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        .await;
    let next = Arc::new(AtomicU64::new(0));
    let mut answered = Vec::new();
    for kill in 1..=KILLS {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (address, next) = (server.address().to_owned(), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    loop {
                        let batch = next.fetch_add(1, Ordering::Relaxed);
                        if insert(&address, batch).await.is_none() {
                            return answered;
                        }
                        answered.push(batch);
                    }
                })
            })
            .collect();
        eventually("batches are in", Duration::from_mins(1), async || {
            next.load(Ordering::Relaxed) > kill * 30
        })
        .await
        .unwrap();
        server.process.kill().await.unwrap();
        for writer in writers {
            answered.extend(writer.await.unwrap());
        }
        server.process.start().unwrap();
        assert!(server.wait_until_ready().await);
        let batches = format!(
            "SELECT intDiv(n, {BATCH}) AS batch, count(), uniqExact(n) FROM t GROUP BY batch"
        );
        let stored = server.sql(&batches).await;
        let whole = format!("\t{BATCH}\t{BATCH}");
        let stored: Vec<u64> = stored
            .lines()
            .map(|line| {
                line.strip_suffix(&whole)
                    .unwrap_or_else(|| panic!("a torn batch: {line}"))
                    .parse()
                    .unwrap()
            })
            .collect();
        let lost: Vec<_> = answered
            .iter()
            .filter(|batch| !stored.contains(batch))
            .collect();
        assert!(lost.is_empty(), "answered and lost: {lost:?}");
    }
    assert!(
        answered.len() as u64 > KILLS * 10,
        "{} batches were answered",
        answered.len()
    );
}

#[tokio::test]
async fn tables_views_and_databases_are_there_after_a_kill() {
    let mut server = server_or_skip!("--database", "x");
    server
        .sql("CREATE TABLE x.t (n UInt64) ENGINE = MergeTree ORDER BY n")
        .await;
    server
        .sql("CREATE VIEW x.v AS SELECT n + 1 AS m FROM x.t")
        .await;
    server
        .sql("CREATE TABLE in_default (n UInt64) ENGINE = MergeTree ORDER BY n")
        .await;
    server.sql("INSERT INTO x.t VALUES (1)").await;
    server.sql("INSERT INTO in_default VALUES (1)").await;
    server.process.kill().await.unwrap();
    server.process.start().unwrap();
    assert!(server.wait_until_ready().await);
    assert_eq!(server.sql("SELECT m FROM x.v").await, "2");
    assert_eq!(server.sql("SELECT n FROM in_default").await, "1");
}
