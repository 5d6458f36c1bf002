//! What one client may take from the others.

use std::time::Duration;

use ponix_ingest::{IngestConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{parse, raw, send};
use crate::support::{Api, JSON, NDJSON, json, two_keys};

#[tokio::test]
async fn headers_and_bodies_that_do_not_come_are_not_waited_for() {
    let config = IngestConfig {
        server: ServerConfig {
            header_timeout: Duration::from_millis(300),
            ..ServerConfig::default()
        },
        body_timeout: Duration::from_millis(300),
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    // Nobody sends more: the server ends it.
    let dribbled = raw(api.addr, b"POST /v1/envelopes HTTP/1.1\r\nhost: p\r\nx-a").await;
    assert!(
        dribbled.is_empty() || dribbled.contains(" 408 "),
        "{dribbled}"
    );
    let head = b"POST /v1/envelopes HTTP/1.1\r\nhost: p\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = parse(&raw(api.addr, head).await);
    assert_eq!(
        (answer.status, answer.error().1.as_str()),
        (408, "body_timeout")
    );
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn headers_are_limited_in_number_and_bytes() {
    let api = Api::start().await;
    let with = async |headers: String| {
        let request =
            format!("GET /health HTTP/1.1\r\nhost: p\r\nconnection: close\r\n{headers}\r\n");
        parse(&raw(api.addr, request.as_bytes()).await).status
    };
    assert_eq!(with("x-a: b\r\n".repeat(60)).await, 200);
    assert_eq!(with("x-a: b\r\n".repeat(63)).await, 431);
    assert_eq!(
        with(format!("x-a: {}\r\n", "b".repeat(20 << 10))).await,
        431
    );
}

#[tokio::test]
async fn a_key_sends_at_its_own_rate_and_others_at_theirs() {
    let api = Api::with(IngestConfig::default(), Some(two_keys())).await;
    let (a, b) = (
        ("authorization", "Bearer key-of-organization-a"),
        ("authorization", "Bearer key-of-organization-b"),
    );
    // Two per second: of twenty at once some are too many, however slow the machine is.
    let mut limited = None;
    for _ in 0..2_000 {
        let answer = api.post(&[JSON, b], b"{").await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("the rate is no limit");
    assert_eq!(limited.error().1, "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(api.post(&[JSON, a], &json("d", "{}", "")).await.status, 202);
}

#[tokio::test]
async fn an_address_behind_a_trusted_proxy_has_a_rate_of_its_own() {
    let config = IngestConfig {
        address_rate: 1,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    let from = |address| ("x-forwarded-for", address);
    let mut limited = false;
    for _ in 0..2_000 {
        limited |= api.post(&[JSON, from("203.0.113.1")], b"{").await.status == 429;
        if limited {
            break;
        }
    }
    assert!(limited, "the rate is no limit");
    let other = api.post(&[JSON, from("203.0.113.2")], b"{").await;
    assert_eq!(other.status, 400, "{other:?}");
}

#[tokio::test]
async fn more_requests_than_may_be_in_work_are_shed() {
    let config = IngestConfig {
        requests_max: 2,
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    let head = b"POST /v1/envelopes HTTP/1.1\r\nhost: p\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(api.addr).await.unwrap();
        stream.write_all(head).await.unwrap();
        slow.push(stream);
    }
    let shed = ponix_stack::eventually("requests are shed", crate::support::SOON, async || {
        let answer = api.post(&[JSON], &json("a", "{}", "")).await;
        anyhow::ensure!(answer.status == 503, "{answer:?}");
        Ok(answer)
    })
    .await
    .unwrap();
    assert_eq!(shed.error().1, "overloaded");
    assert_eq!(shed.header("retry-after"), Some("1"));
    // The probes are not among them.
    let health = raw(
        api.addr,
        b"GET /health HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(parse(&health).status, 200);
    drop(slow);
}

#[tokio::test]
async fn a_thousand_slow_connections_do_not_keep_others_out() {
    let api = Api::start().await;
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(api.addr).await.unwrap();
        stream.write_all(b"POST /v1/env").await.unwrap();
        slow.push(stream);
    }
    for _ in 0..20 {
        let answer = api.post(&[JSON], &json("a", "{}", "")).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(slow.len(), 1_000);
    assert_eq!(api.stored().await, 20);
}

fn server(server: ServerConfig) -> IngestConfig {
    IngestConfig {
        server,
        public_metrics: true,
        ..IngestConfig::default()
    }
}

async fn metric(api: &Api, line: &str) {
    ponix_stack::eventually("the metric is there", crate::support::SOON, async || {
        let metrics = send(api.addr, "GET /metrics", &[], b"").await.body;
        anyhow::ensure!(metrics.lines().any(|found| found == line), "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left() {
    let config = server(ServerConfig {
        stall_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    });
    let api = Api::with(config, None).await;
    let mut stream = TcpStream::connect(api.addr).await.unwrap();
    // Together more than the system keeps for both ends.
    let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: p\r\n\r\n".repeat(20);
    stream.write_all(&request).await.unwrap();
    metric(&api, "ponix_ingest_connections_stalled_total 1").await;
    drop(stream);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_have_theirs() {
    let config = server(ServerConfig {
        address_connections_max: 2,
        header_timeout: Duration::from_mins(1),
        ..ServerConfig::default()
    });
    let api = Api::with(config.clone(), None).await;
    let begun = async || {
        let mut stream = TcpStream::connect(api.addr).await.unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: p\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.map(|_| stream)
    };
    let held = [begun().await.unwrap(), begun().await.unwrap()];
    assert!(begun().await.is_err(), "a third connection is taken");
    drop(held);
    metric(&api, "ponix_ingest_connections_refused_total 1").await;
    // Behind a proxy all clients have one address.
    let proxies = vec!["127.0.0.1".parse().unwrap()];
    let server = ServerConfig {
        proxies,
        ..config.server
    };
    let api = Api::with(
        IngestConfig {
            server,
            ..IngestConfig::default()
        },
        None,
    )
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(api.addr).await.unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: p\r\n\r\n")
            .await
            .unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        held.push(stream);
    }
}

#[tokio::test]
async fn places_are_kept_for_those_with_a_key() {
    let config = server(ServerConfig {
        connections_max: 4,
        connections_kept: 2,
        header_timeout: Duration::from_mins(1),
        ..ServerConfig::default()
    });
    let api = Api::with(config, Some(two_keys())).await;
    let ask = async |stream: &mut TcpStream, key: &str| {
        let request = format!(
            "POST /v1/envelopes HTTP/1.1\r\nhost: p\r\n{key}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        parse(&String::from_utf8_lossy(&answer[..read]))
    };
    let connect = async || TcpStream::connect(api.addr).await.unwrap();
    let mut unknown = [connect().await, connect().await];
    for stream in &mut unknown {
        let answer = ask(stream, "").await;
        assert_eq!((answer.status, answer.header("connection")), (401, None));
    }
    let mut late = connect().await;
    let answer = ask(&mut late, "").await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
    let key = "authorization: Bearer key-of-organization-a\r\n";
    let mut known = connect().await;
    for _ in 0..2 {
        let answer = ask(&mut known, key).await;
        assert_eq!((answer.status, answer.header("connection")), (400, None));
    }
    // One that shows its key later gives its place to others without one.
    ask(&mut unknown[0], key).await;
    let answer = ask(&mut connect().await, "").await;
    assert_eq!((answer.status, answer.header("connection")), (401, None));
}

/// One tenant's junk would fill the dead letters, and then nobody's events go on.
#[tokio::test]
async fn an_organization_sends_so_many_lines_and_bytes_and_others_theirs() {
    let a = ("authorization", "Bearer key-of-organization-a");
    let b = ("authorization", "Bearer key-of-organization-b");
    for (lines, bytes, unit) in [(1, 0, "lines"), (0, 1, "bytes")] {
        let config = IngestConfig {
            organization_lines_rate: lines,
            organization_bytes_rate: bytes,
            batch_lines_max: 1_000,
            body_bytes_max: 100_000,
            ..IngestConfig::default()
        };
        let api = Api::with(config, Some(two_keys())).await;
        let body = [&json("d", "{}", "")[..], b"\n"].concat().repeat(900);
        // A whole body may come at once, and the next one must wait for long.
        let first = api.post(&[NDJSON, a], &body).await;
        assert_eq!(first.status, 202, "{first:?}");
        let limited = api.post(&[NDJSON, a], &body).await;
        assert_eq!(limited.status, 429);
        let (_, code, message) = limited.error();
        let told = format!("the organization sends too many {unit} per second: send again later");
        assert_eq!((code.as_str(), message), ("rate_limited", told));
        assert!(limited.header("retry-after").is_some());
        assert_eq!(api.post(&[NDJSON, b], &body).await.status, 202);
        assert_eq!(api.events().await, 1_800);
    }
}
