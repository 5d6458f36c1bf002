//! Many clients at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hyper::StatusCode;
use ponix_stack::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::server::{Server, server_or_skip};

#[tokio::test]
async fn inserts_and_queries_run_side_by_side() {
    let server = Arc::new(server_or_skip!("--statements-max", "4"));
    server
        .sql("CREATE TABLE t (client UInt64, n UInt64) ENGINE = MergeTree ORDER BY (client, n)")
        .await;
    let clients = (0..12_u64).map(|client| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for batch in 0..5_u64 {
                let rows: String = (0..1000).map(|n| format!("{client}\t{}\n", batch * 1000 + n)).collect();
                let setting = 1000 + client;
                let parameters = [("query", "INSERT INTO t FORMAT TSV"), ("max_block_size", &*setting.to_string())];
                assert_eq!(server.post(&parameters, rows).await.status, StatusCode::OK);
                let parameters = [("max_block_size", &*setting.to_string())];
                let seen = "SELECT getSetting('max_block_size'), (SELECT count() FROM t WHERE client = {c:UInt64})";
                let seen = server.post(&parameters, seen.replace("{c:UInt64}", &client.to_string())).await;
                assert_eq!(seen.text(), format!("{setting}\t{}\n", (batch + 1) * 1000));
            }
        })
    });
    for client in join_all(clients).await {
        client.unwrap();
    }
    assert_eq!(
        server
            .sql("SELECT count(), uniqExact(client, n) FROM t")
            .await,
        "60000\t60000"
    );
}

#[tokio::test]
async fn a_statement_that_finds_no_place_in_time_is_refused() {
    let server = server_or_skip!("--statements-max", "1", "--queue-timeout-secs", "1");
    let slow = server.post(&[], "SELECT sleep(3)");
    let second = async {
        eventually(
            "the only place is taken",
            Duration::from_secs(20),
            async || {
                server
                    .post(&[], "SELECT 1")
                    .await
                    .header("x-clickhouse-exception-code")
                    == "202"
            },
        )
        .await
    };
    let (slow, second) = tokio::join!(slow, second);
    second.unwrap();
    assert_eq!(slow.text(), "0\n");
    assert_eq!(server.sql("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let server = server_or_skip!("--statements-max", "1");
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let endless = "GET /?query=SELECT+number+FROM+system.numbers HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(endless.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
    }
    assert_eq!(server.sql("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_place() {
    let server = server_or_skip!("--statements-max", "1", "--send-timeout-secs", "1");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let endless = "GET /?query=SELECT+number+FROM+system.numbers HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(endless.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    assert_served(&server).await;
    drop(stream);
}

#[tokio::test]
async fn slow_heads_are_cut_off_and_do_not_keep_others_out() {
    let server = server_or_skip!("--header-timeout-secs", "1", "--connections-max", "4");
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET /ping HTT").await.unwrap();
        slow.push(stream);
    }
    // All four places are taken; this one is served when they are given up.
    assert_served(&server).await;
}

/// The server answers, and long before the defaults of its timeouts would have helped.
async fn assert_served(server: &Server) {
    let answer = tokio::time::timeout(Duration::from_secs(25), server.sql("SELECT 1")).await;
    assert_eq!(answer.expect("an answer"), "1");
}
