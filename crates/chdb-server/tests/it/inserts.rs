//! INSERTs: where the data may be, and that one whose body breaks off stores nothing.

use std::time::Duration;

use hyper::{Method, StatusCode};
use ponix_stack::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Server, server_or_skip};

const TIMEOUT: Duration = Duration::from_secs(30);

async fn create(server: &Server) {
    server
        .sql("CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
        .await;
}

#[tokio::test]
async fn data_may_be_in_the_statement_or_behind_it_or_in_the_body() {
    let server = server_or_skip!();
    create(&server).await;
    let insert = async |query: &str, body: &'static [u8]| {
        let parameters = if query.is_empty() {
            vec![]
        } else {
            vec![("query", query)]
        };
        let reply = server.post(&parameters, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    };
    insert("", b"INSERT INTO t VALUES (1, 'one'), (2, 'two')").await;
    insert("INSERT INTO t (s, a) VALUES", b"('three', 3)").await;
    insert("INSERT INTO t FORMAT CSV", b"4,four\n5,five\n").await;
    insert(
        "INSERT INTO t",
        b"FORMAT JSONEachRow {\"a\":6,\"s\":\"six\"}",
    )
    .await;
    insert(
        "",
        b"INSERT INTO t FORMAT RowBinary\n\x07\0\0\0\0\0\0\0\x06a\n\0;'\xff",
    )
    .await;
    insert(
        "INSERT INTO t SETTINGS input_format_allow_errors_num = 1 FORMAT CSV",
        b"8,eight\nx,y\n",
    )
    .await;
    insert("INSERT INTO t SELECT 9, 'nine'", b"").await;
    assert_eq!(
        server
            .sql("SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)")
            .await,
        "[1,2,3,4,5,6,7,8,9]"
    );
    assert_eq!(
        server.sql("SELECT hex(s) FROM t WHERE a = 7").await,
        "610A003B27FF"
    );
}

#[tokio::test]
async fn wrong_data_is_the_engines_own_exception_and_stores_nothing() {
    let server = server_or_skip!();
    create(&server).await;
    let reply = server
        .post(&[("query", "INSERT INTO t FORMAT CSV")], "1,a\nx,b\n")
        .await;
    reply.assert_code(27);
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    server
        .post(
            &[("query", "INSERT INTO t FORMAT RowBinary")],
            b"\x01\0\0\0\0\0\0\0\x05ab".as_slice(),
        )
        .await
        .assert_code(33);
    server
        .post(&[], "INSERT INTO nosuch VALUES (1)")
        .await
        .assert_code(60);
    server
        .post(&[], "INSERT INTO t FORMAT Nosuch\n1")
        .await
        .assert_code(73);
    server.post(&[], "INSERT INTO t").await.assert_code(62);
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
}

/// The first bytes of a request whose body is never complete.
async fn send_part(server: &Server, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let query = "/?query=INSERT+INTO+t+FORMAT+TSV";
    stream
        .write_all(format!("POST {query} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let server = server_or_skip!("--body-memory-bytes-max", "65536");
    create(&server).await;
    // More rows than the engine writes at a time, so that streaming them would have stored some.
    let rows: String = (0..1_200_000).map(|n| format!("{n}\tx\n")).collect();
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let body = if head.starts_with('C') {
            rows.clone()
        } else {
            format!("{:x}\r\n{rows}\r\n", rows.len())
        };
        let stream = send_part(&server, head, body.as_bytes()).await;
        drop(stream);
    }
    // Half-closed: the client can still read the answer.
    let mut stream = send_part(&server, "Content-Length: 100", b"1\tx\n").await;
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");

    eventually("the requests are over", TIMEOUT, async || {
        open_connections(&server).await == 0
    })
    .await
    .unwrap();
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
    assert_eq!(
        server
            .sql("SELECT count() FROM system.parts WHERE table = 't'")
            .await,
        "0"
    );
}

/// Connections the server has open, by the kernel's table.
async fn open_connections(server: &Server) -> usize {
    let port = server
        .address()
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    let table = tokio::fs::read_to_string("/proc/net/tcp")
        .await
        .unwrap_or_default();
    let local = format!(":{port:04X}");
    let established = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let is_local = fields
            .next()
            .is_some_and(|address| address.ends_with(&local));
        is_local && fields.nth(1) == Some("01")
    };
    table.lines().filter(established).count()
}

#[tokio::test]
async fn a_body_on_disk_arrives_whole() {
    let server = server_or_skip!("--body-memory-bytes-max", "100000");
    create(&server).await;
    let rows: String = (0..300_000).map(|n| format!("{n}\trow {n}\n")).collect();
    let reply = server
        .post(&[("query", "INSERT INTO t FORMAT TSV")], rows)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(
        server
            .sql("SELECT count(), sum(a), countIf(s = 'row ' || toString(a)) FROM t")
            .await,
        "300000\t44999850000\t300000"
    );
    let mut left = std::fs::read_dir(server.data_folder()).unwrap();
    assert!(left.all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".tmp")
    }));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = server_or_skip!("--body-bytes-max", "1000");
    create(&server).await;
    let reply = server
        .post(
            &[("query", "INSERT INTO t FORMAT TSV")],
            "1\tx\n".repeat(300),
        )
        .await;
    reply.assert_code(229);
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let server = server_or_skip!("--body-timeout-secs", "1");
    create(&server).await;
    let mut stream = send_part(&server, "Content-Length: 100", b"1\tx\n").await;
    let mut answer = String::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_string(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("Code: 209."),
        "{answer}"
    );
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
}

#[tokio::test]
async fn an_insert_by_get_is_refused() {
    let server = server_or_skip!();
    create(&server).await;
    let reply = server
        .request(
            Method::GET,
            &[("query", "INSERT INTO t VALUES (1, 'x')")],
            &[],
            "",
        )
        .await;
    reply.assert_code(164);
    assert_eq!(server.sql("SELECT count() FROM t").await, "0");
}
