//! Events over HTTP: from the request to the row, and what a start refuses.

use std::net::TcpListener;

use ponix_nats::async_nats::HeaderMap;
use ponix_stack::Signal;
use ponix_wire::header;
use serde_json::Value;

use crate::support::{Service, World, http};

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

async fn post(service: &Service, headers: &str, body: &str) -> (u16, Value) {
    let addr = service.api_addr().unwrap();
    let (status, body) = http::post(addr, "/v1/envelopes", headers, body)
        .await
        .unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

fn lines(count: usize) -> String {
    let line = |n| {
        format!(
            r#"{{"end_device_id":"d{n}","occurred_at":"2026-03-01T12:00:00.5Z","data":{{"n":{n}}}}}"#
        )
    };
    let lines: Vec<String> = (0..count).map(line).collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_a_row_each_also_when_it_is_sent_again() {
    let world = World::new("http_rows").await;
    let service = world.service().start_ready().await;
    let headers = format!("{NDJSON}Idempotency-Key: first\r\n");
    for _ in 0..2 {
        let (status, answer) = post(&service, &headers, &lines(1_000)).await;
        assert_eq!(
            (status, &answer["accepted"]),
            (202, &1_000.into()),
            "{answer}"
        );
    }
    world.stored(1_000).await;
    let row = "SELECT toString((organization_id, occurred_at, data.n::Float64)) \
               FROM envelopes WHERE end_device_id = 'd7'";
    assert_eq!(
        world.text(row).await,
        "('example-org','2026-03-01 12:00:00.500000000',7)"
    );
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("ponix_ingest_envelopes_accepted_total"), 2_000);
    assert_eq!(metrics.sum("ponix_ingest_envelopes_duplicate_total"), 1_000);
    service.stop().await;
    world.assert_events(1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_work_is_answered_before_the_service_ends() {
    let world = World::new("http_drain").await;
    let service = world.service().start_ready().await;
    let addr = service.api_addr().unwrap();
    let body = lines(5_000);
    let sending =
        tokio::spawn(async move { http::post(addr, "/v1/envelopes", NDJSON, &body).await });
    service
        .metrics_when("a request in work", |m| {
            m.get("ponix_ingest_requests_in_flight") >= 1
                || m.sum("ponix_ingest_envelopes_accepted_total") > 0
        })
        .await;
    assert_eq!(service.stop_by(Signal::SIGTERM).await, 0);
    let (status, answer) = sending.await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["accepted"]), (202, &5_000.into()));
    // What the first run took in, it or the next one stores.
    let next = world.service().start_ready().await;
    world.stored(5_000).await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_asked_for_where_there_is_a_file_of_them() {
    let world = World::new("http_keys").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = "a-key-of-one-test-only";
    let line = format!("{{\"key\":\"{key}\",\"organization\":\"org-of-the-key\"}}\n");
    std::fs::write(file.path(), line).unwrap();
    let service = world
        .service()
        .env("PONIX_INGEST_API_KEYS_FILE", file.path().display())
        .start_ready()
        .await;
    let (status, answer) = post(&service, NDJSON, &lines(1)).await;
    assert_eq!((status, &answer["code"]), (401, &"unauthorized".into()));
    let headers = format!("{NDJSON}Authorization: Bearer {key}\r\n");
    assert_eq!(post(&service, &headers, &lines(1)).await.0, 202);
    world.stored(1).await;
    let organization = "SELECT organization_id FROM envelopes";
    assert_eq!(world.text(organization).await, "org-of-the-key");
    assert!(!service.log().contains(key), "{}", service.log());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_for_all_needs_keys_and_a_taken_one_is_told() {
    let world = World::new("http_start").await;
    let open = world.service().env("PONIX_INGEST_ADDR", "0.0.0.0:0");
    let (code, log) = open.run().await;
    assert_eq!(code, 64, "{log}");
    assert!(
        log.contains("PONIX_INGEST_API_KEYS_FILE is not set"),
        "{log}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (code, log) = world.service().env("PONIX_INGEST_ADDR", addr).run().await;
    assert_eq!(code, 1, "{log}");
    let told = format!("cannot listen on {addr} (PONIX_INGEST_ADDR)");
    assert!(log.contains(&told), "{log}");

    let off = world.service().env("PONIX_INGEST_ENABLED", "false");
    let service = off.env("PONIX_INGEST_ADDR", addr).start_ready().await;
    assert!(service.api_addr().is_err());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_takes_events_while_clickhouse_is_down_and_says_so() {
    let world = World::with_own_clickhouse("http_ready").await;
    let service = world.service().start_ready().await;
    world.clickhouse.kill().await.unwrap();
    service.not_ready("clickhouse cannot be used").await;
    let addr = service.api_addr().unwrap();
    let (status, body) = http::get(addr, "/ready").await.unwrap();
    // JetStream takes events all the same: that is what it is for.
    assert_eq!(status, 200, "{body}");
    assert_eq!(http::get(addr, "/metrics").await.unwrap().0, 404);
    let (status, body) = http::get(addr, "/ingest/status/7").await.unwrap();
    assert_eq!(status, 404);
    assert!(
        body.contains("the pipeline of raw messages is off"),
        "{body}"
    );
    assert_eq!(post(&service, NDJSON, &lines(10)).await.0, 202);
    world.clickhouse.restart().await.unwrap();
    world.stored(10).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_alone_needs_no_clickhouse_and_leaves_the_work_to_others() {
    let world = World::new("http_alone").await;
    let alone = world
        .service()
        .binary(env!("CARGO_BIN_EXE_ponix-ingest"))
        .env("PONIX_CLICKHOUSE_URL", "http://127.0.0.1:1");
    let api = alone.start_ready().await;
    assert_eq!(post(&api, NDJSON, &lines(10)).await.0, 202);
    // Another one does the work.
    let worker = world.service().env("PONIX_INGEST_ENABLED", "false");
    let worker = worker.start_ready().await;
    world.stored(10).await;
    api.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_carried_from_the_request_to_the_row_and_the_dead_letter() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = World::new("http_trace").await;
    let service = world
        .service()
        .env(
            "PONIX_LOG_LEVEL",
            "info,ponix_nats=trace,ponix_ingest=trace",
        )
        .start_ready()
        .await;
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    let (status, answer) = post(&service, &format!("{NDJSON}{parent}"), &lines(2)).await;
    assert_eq!(status, 202, "{answer}");
    world.stored(2).await;
    let stream = world.context().await.get_stream(&world.name).await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    for (name, value) in [(header::TRACE_PARENT, TRACE), (header::TRACE_STATE, "a=1")] {
        let carried = message.headers.get(name).map(ToString::to_string);
        assert!(carried.is_some_and(|it| it.contains(value)), "{message:?}");
    }
    for event in ["message published", "message settled"] {
        service.logged(event).await;
        let lines = service.log_lines(event);
        assert!(lines.iter().all(|line| line.contains(TRACE)), "{lines:?}");
    }
    // Somebody who publishes himself may name a trace as well; it stays with what cannot be stored.
    let mut headers = HeaderMap::new();
    headers.insert(
        header::TRACE_PARENT,
        format!("00-{TRACE}-00f067aa0ba902b7-01").as_str(),
    );
    let (context, subject) = (world.context().await, format!("{}.device", world.name));
    let sent = context.publish_with_headers(subject, headers, "no envelope".into());
    sent.await.unwrap().await.unwrap();
    service.logged("messages moved to the dead letters").await;
    let warned = service.log_lines("messages moved to the dead letters");
    assert!(warned[0].contains(TRACE), "{warned:?}");
    let kept = world.dead_letters().await.remove(0);
    let original = format!("{}{}", header::ORIGINAL_PREFIX, header::TRACE_PARENT);
    assert!(kept.headers.get(original.as_str()).is_some(), "{kept:?}");
    service.stop().await;
}
