//! Start, end, and what the process says about either.

use std::time::Duration;

use hyper::StatusCode;
use ponix_stack::{Process, Signal, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::server_or_skip;

const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn sigterm_finishes_the_inserts_under_way() {
    let mut server = server_or_skip!();
    server
        .sql("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        .await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head =
        "POST /?query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"1\n2\n").await.unwrap();
    // Its head must have been read before the signal, or the connection counts as idle.
    assert_eq!(server.sql("SELECT 1").await, "1");

    server.process.send_signal(Signal::SIGTERM).unwrap();
    eventually("nobody is let in any more", TIMEOUT, async || {
        TcpStream::connect(server.address()).await.is_err()
    })
    .await
    .unwrap();
    assert!(server.process.is_running());
    stream.write_all(b"3\n4\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(
        server.process.wait().await.unwrap().code(),
        Some(0),
        "{}",
        server.process.log_tail()
    );

    server.process.start().unwrap();
    assert!(server.wait_until_ready().await);
    assert_eq!(server.sql("SELECT count(), sum(n) FROM t").await, "4\t10");
}

#[tokio::test]
async fn a_statement_that_outlasts_the_time_to_finish_is_cancelled() {
    let server = server_or_skip!("--shutdown-timeout-secs", "1");
    let slow = async {
        let reply = server
            .post(
                &[],
                "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(rand())",
            )
            .await;
        (reply.status, reply.text())
    };
    let end = async {
        eventually("it runs", TIMEOUT, async || {
            server
                .sql("SELECT count() FROM system.processes WHERE query LIKE '%ignore(rand())%'")
                .await
                != "1"
        })
        .await
        .unwrap();
        server.process.send_signal(Signal::SIGTERM).unwrap();
        server.process.wait().await.unwrap().code()
    };
    let ((status, text), code) = tokio::join!(slow, end);
    assert!(
        status == StatusCode::INTERNAL_SERVER_ERROR && text.contains("Code: 394."),
        "{text}"
    );
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn a_folder_in_use_is_named() {
    let server = server_or_skip!();
    let second = Process::builder("second", env!("CARGO_BIN_EXE_chdb-server"))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(server.data_folder())
        .env(
            "PONIX_LIBCHDB",
            std::env::var_os("PONIX_LIBCHDB").unwrap_or_default(),
        )
        .start()
        .unwrap();
    assert_eq!(
        second.wait().await.unwrap().code(),
        Some(1),
        "{}",
        second.log_tail()
    );
    let log = second.log().unwrap();
    assert!(
        log.contains("in use by another process") && log.contains("data"),
        "{log}"
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = server_or_skip!();
    let data = tempfile::tempdir().unwrap();
    let second = Process::builder("second", env!("CARGO_BIN_EXE_chdb-server"))
        .args(["--listen", server.address(), "--data"])
        .arg(data.path())
        .env(
            "PONIX_LIBCHDB",
            std::env::var_os("PONIX_LIBCHDB").unwrap_or_default(),
        )
        .start()
        .unwrap();
    assert_eq!(
        second.wait().await.unwrap().code(),
        Some(1),
        "{}",
        second.log_tail()
    );
    let log = second.log().unwrap();
    assert!(
        log.contains("cannot listen on") && log.contains(server.address()),
        "{log}"
    );
}

#[tokio::test]
async fn a_missing_library_is_said_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::builder("chdb-server", env!("CARGO_BIN_EXE_chdb-server"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--library",
            "/nonexistent/libchdb.so",
            "--data",
        ])
        .arg(data.path())
        .start()
        .unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(1));
    let log = process.log().unwrap();
    assert!(
        log.contains("libchdb was not found") && log.contains("/nonexistent/libchdb.so"),
        "{log}"
    );
}

#[tokio::test]
async fn off_loopback_needs_a_user() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::builder("chdb-server", env!("CARGO_BIN_EXE_chdb-server"))
        .args(["--listen", "0.0.0.0:0", "--data"])
        .arg(data.path())
        .start()
        .unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(64));
    assert!(
        process
            .log()
            .unwrap()
            .contains("--user and --password are required")
    );
}

#[tokio::test]
async fn the_engine_takes_its_options() {
    let server = server_or_skip!(
        "--memory-bytes-max",
        "1000000000",
        "--engine",
        "max_block_size=7",
        "--engine",
        "mark_cache_size=1000000"
    );
    assert_eq!(server.sql("SELECT getSetting('max_block_size')").await, "7");
    let option = async |name: &str| {
        server
            .sql(&format!(
                "SELECT value FROM system.server_settings WHERE name = '{name}'"
            ))
            .await
    };
    assert_eq!(option("max_server_memory_usage").await, "1000000000");
    assert_eq!(option("mark_cache_size").await, "1000000");
    assert_eq!(option("primary_index_cache_size").await, "134217728");
    let greedy = "SELECT length(range(400000000))";
    server.post(&[], greedy).await.assert_code(241);
    assert_eq!(server.sql("SELECT 1").await, "1");
}
