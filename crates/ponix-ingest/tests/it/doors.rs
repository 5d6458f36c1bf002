//! Documents of declared pipelines.

use ponix_ingest::DoorConfig;

use crate::client::{Answer, send};
use crate::support::{Api, JSON, NDJSON, two_keys};

const METERS: &str = "METERS";

async fn api() -> Api {
    let door = |stream: &str| DoorConfig {
        pipeline: "meter-readings".to_owned(),
        stream: stream.to_owned(),
        subject_prefix: "meters".to_owned(),
    };
    Api::with_doors(
        Some(two_keys()),
        &[
            ("/v1/meter-readings", door(METERS)),
            ("/v1/elsewhere", door("OTHER")),
        ],
        (METERS, "meters.>"),
    )
    .await
}

async fn documents(api: &Api, headers: &[(&str, &str)], body: &str) -> Answer {
    let a = ("authorization", "Bearer key-of-organization-a");
    let headers = [&[a], headers].concat();
    let route = "POST /v1/meter-readings";
    send(api.addr, route, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_document_is_in_the_stream_as_it_was_sent() {
    let api = api().await;
    let body = "{ \"meter\": 7,\n \"value\": 9007199254740993, \"n\": {\"a\":\"\\u0000\"} }";
    let answer = documents(
        &api,
        &[JSON, ("nats-rollup", "all")],
        &format!("\n{body}\n"),
    )
    .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let accepted = answer.json();
    assert_eq!(accepted["status"], "accepted");
    let stored = api.raw_message_in(METERS, 1).await;
    assert_eq!(stored.subject.as_str(), "meters.a");
    assert_eq!(&stored.payload[..], body.as_bytes());
    let header = |name: &str| stored.headers.get(name).map(ToString::to_string);
    let id = accepted["message_id"].as_str().map(str::to_owned);
    assert_eq!(header("Nats-Msg-Id"), id);
    assert_eq!(header("Ponix-Organization").as_deref(), Some("a"));
    assert_eq!(header("Nats-Rollup"), None);
    let metrics = send(api.addr, "GET /metrics", &[], b"").await.body;
    let line = "ponix_ingest_documents_accepted_total{pipeline=\"meter-readings\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    let twice = documents(&api, &[JSON], r#"{"a":1,"a":2,"n":{"b":1,"b":2}}"#)
        .await
        .json();
    assert_eq!(
        (&twice["errors"][0]["field"], &twice["errors"][1]["field"]),
        (&"a".into(), &"n.b".into())
    );
    let openapi = send(api.addr, "GET /openapi.json", &[], b"").await.json();
    let post = &openapi["paths"]["/v1/meter-readings"]["post"];
    assert_eq!(post["operationId"], "post_v1_meter_readings");
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_one_document_for_each_line() {
    let api = api().await;
    let key = ("idempotency-key", "k");
    for _ in 0..2 {
        let answer = documents(&api, &[NDJSON, key], "{\"n\":1}\n[1]\n{\"n\":2}\n").await;
        let answer = (answer.status, answer.json());
        assert_eq!((answer.0, &answer.1["accepted"]), (207, &2.into()));
        assert_eq!(answer.1["results"][1]["error"]["code"], "invalid_json");
        assert!(answer.1["results"][2]["message_id"].is_string());
        assert_eq!(api.stored_in(METERS).await, 2);
    }
    assert_eq!(documents(&api, &[JSON, key], "{}").await.status, 202);
    let other = documents(&api, &[JSON, key], "{\"n\":1}").await;
    assert_eq!(other.status, 409, "{other:?}");
}

#[tokio::test]
async fn what_is_no_document_is_refused() {
    let api = api().await;
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    for (headers, body, code) in [
        (&[JSON][..], "[]", "invalid_json"),
        (&[JSON], "{\"a\":1", "invalid_json"),
        (&[JSON], "{} {}", "invalid_json"),
        (&[JSON], "{\"a\":{\"b\":1,\"b\":2}}", "invalid_value"),
        (&[JSON], &deep(33), "invalid_json"),
        (&[JSON], " \n", "empty_body"),
        (&[], "{}", "unsupported_media_type"),
    ] {
        let answer = documents(&api, headers, body).await;
        assert_eq!(answer.error().1, code, "{body}: {answer:?}");
    }
    assert_eq!(documents(&api, &[JSON], &deep(32)).await.status, 202);
    let unknown = send(api.addr, "POST /v1/meter-readings", &[JSON], b"{}").await;
    assert_eq!(unknown.status, 401);
    assert_eq!(api.stored_in(METERS).await, 1);
}

/// The subjects of two pipelines may overlap by mistake; the stream is then another one's.
#[tokio::test]
async fn nothing_goes_into_another_stream() {
    let api = api().await;
    let a = ("authorization", "Bearer key-of-organization-a");
    let answer = send(api.addr, "POST /v1/elsewhere", &[JSON, a], b"{}").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(api.stored_in(METERS).await, 0);
}
