//! What is taken, and what the stream has then.

use ponix_wire::Message as _;
use uuid::Uuid;

use crate::client::send;
use crate::support::{Api, JSON, NDJSON, PROTOBUF, envelope, json, two_keys};

#[tokio::test]
async fn an_envelope_in_json_is_in_the_stream_once_it_is_accepted() {
    let api = Api::start().await;
    let body = json("sensor-1", r#"{"t":21.5,"on":[true,null,{"a.b":"x"}]}"#, "");
    let answer = api
        .post(&[JSON, ("nats-rollup", "all"), ("nats-ttl", "1s")], &body)
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let accepted = answer.json();
    assert_eq!(
        (&accepted["status"], &accepted["duplicate"]),
        (&"accepted".into(), &false.into())
    );
    let (message, stored) = api.message(1).await;
    assert_eq!(message.subject.as_str(), "processed_envelopes.sensor-1");
    let id = accepted["event_id"].as_str().unwrap();
    assert_eq!(stored.event_id, Some(id.parse().unwrap()));
    assert_eq!(stored.organization_id, "example-org");
    assert_eq!(
        stored.data_json,
        r#"{"on":[true,null,{"a.b":"x"}],"t":21.5}"#
    );
    assert_eq!(stored.occurred_at_ns, 1_772_366_400_000_000_000);
    // The id, and nothing that the client sent for NATS.
    let headers: Vec<String> = message
        .headers
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(headers, ["Nats-Msg-Id"]);
    api.stop().await;
}

#[tokio::test]
async fn the_same_under_api_and_in_protobuf() {
    let api = Api::start().await;
    let id = Uuid::now_v7();
    let sent = ponix_wire::envelope::v1::ProcessedEnvelope {
        event_id: id.to_string(),
        ..envelope("sensor-1")
    };
    let path = "POST /api/v1/envelopes";
    let answer = send(api.addr, path, &[PROTOBUF], &sent.encode_to_vec()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()["event_id"], id.to_string());
    assert_eq!(api.message(1).await.1.event_id, Some(id));
}

#[tokio::test]
async fn lines_are_taken_one_by_one() {
    let api = Api::start().await;
    let body = [
        json("a", "{}", ""),
        b"\n{\"end_device_id\":\n\r\n".to_vec(),
        json("c", "{}", ""),
        b"\r\n".to_vec(),
        json("a.b", "{}", ""),
    ]
    .concat();
    let answer = api.post(&[NDJSON, ("idempotency-key", "k")], &body).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    let answer = answer.json();
    assert_eq!(
        (&answer["accepted"], &answer["failed"]),
        (&2.into(), &2.into())
    );
    let lines: Vec<(u64, Option<&str>, bool)> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            (
                result["line"].as_u64().unwrap(),
                result["error"]["code"].as_str(),
                result["event_id"].is_string(),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            (1, None, true),
            (2, Some("invalid_json"), false),
            (4, None, true),
            (5, Some("invalid_value"), false)
        ]
    );
    assert_eq!(api.events().await, 2);
    // Once more: the same lines are the same events.
    let again = api.post(&[NDJSON, ("idempotency-key", "k")], &body).await;
    assert_eq!(again.json()["accepted"], 2);
    assert_eq!(
        again.json()["results"][0]["event_id"],
        answer["results"][0]["event_id"]
    );
    assert_eq!(api.events().await, 2);
}

#[tokio::test]
async fn lines_that_are_all_wrong_are_no_success() {
    let api = Api::start().await;
    let wrong = [json("a.b", "{}", ""), b"\n{".to_vec()].concat();
    let answer = api.post(&[NDJSON], &wrong).await;
    let (status, code, message) = answer.error();
    assert_eq!((status, code.as_str()), (400, "invalid_lines"));
    assert_eq!(message, "no line can be taken: see results");
    let answer = answer.json();
    assert_eq!(answer["failed"], 2);
    assert_eq!(answer["results"][1]["error"]["code"], "invalid_json");
    // Where all are refused for the same reason, the status says it.
    let key = ("idempotency-key", "k");
    api.post(&[NDJSON, key], &json("a", "{}", "")).await;
    let conflict = api.post(&[NDJSON, key], &json("b", "{}", "")).await;
    assert_eq!(conflict.status, 409, "{conflict:?}");
    let all = [json("a", "{}", ""), b"\n".to_vec(), json("b", "{}", "")].concat();
    assert_eq!(api.post(&[NDJSON], &all).await.status, 202);
    assert_eq!(api.events().await, 3);
}

#[tokio::test]
async fn the_same_key_is_one_event_and_the_first_content_counts() {
    let api = Api::start().await;
    let key = ("idempotency-key", "order 17");
    let first = api.post(&[JSON, key], &json("a", r#"{"n":1}"#, "")).await;
    let second = api.post(&[JSON, key], &json("a", r#"{"n":1}"#, "")).await;
    assert_eq!(
        (first.status, second.status),
        (202, 202),
        "{first:?} {second:?}"
    );
    assert_eq!(first.json()["event_id"], second.json()["event_id"]);
    assert_eq!(second.json()["duplicate"], true);
    let other = api.post(&[JSON, key], &json("a", r#"{"n":2}"#, "")).await;
    let (status, code, _) = other.error();
    assert_eq!((status, code.as_str()), (409, "idempotency_conflict"));
    assert_eq!(api.stored().await, 1);
    assert_eq!(api.message(1).await.1.data_json, r#"{"n":1.0}"#);
}

#[tokio::test]
async fn the_organization_comes_from_the_key() {
    let api = Api::with(ponix_ingest::IngestConfig::default(), Some(two_keys())).await;
    let a = ("authorization", "Bearer key-of-organization-a");
    let b = ("authorization", "bearer key-of-organization-b");
    let key = ("idempotency-key", "same");
    for (credential, organization) in [(a, "a"), (b, "b")] {
        let more = format!(r#","organization_id":"{organization}""#);
        let answer = api
            .post(&[JSON, credential, key], &json("d", "{}", &more))
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    // The key of one organization says nothing about another's.
    assert_eq!(api.stored().await, 2);
    assert_eq!(api.message(1).await.1.organization_id, "a");
    assert_eq!(api.message(2).await.1.organization_id, "b");
    // Nor does an id that both choose; of one organization it is one event.
    let more = r#","event_id":"0190f3a8-0000-7000-8000-000000000001""#;
    for (credential, count, duplicate) in [(a, 3, false), (b, 4, false), (a, 4, true)] {
        let answer = api.post(&[JSON, credential], &json("d", "{}", more)).await;
        assert_eq!(answer.json()["duplicate"], duplicate, "{answer:?}");
        assert_eq!(api.stored().await, count);
    }
    let foreign = api
        .post(&[JSON, a], &json("d", "{}", r#","organization_id":"b""#))
        .await;
    assert_eq!(foreign.error().1, "wrong_organization");
    assert_eq!(foreign.status, 403);
    assert_eq!(api.stored().await, 4);
    let openapi = send(api.addr, "GET /openapi.json", &[], b"").await.json();
    let route = &openapi["paths"]["/v1/envelopes"]["post"];
    assert_eq!(route["security"], serde_json::json!([{"api_key": []}]));
    assert!(route["responses"]["401"].is_object());
    assert!(openapi["components"]["securitySchemes"]["api_key"].is_object());
}

#[tokio::test]
async fn null_is_as_good_as_nothing() {
    let api = Api::start().await;
    let more = r#","organization_id":null,"processed_at":null,"event_id":null"#;
    let answer = api.post(&[JSON], &json("d", "{}", more)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(api.message(1).await.1.organization_id, "example-org");
    let more = r#","event_id":null,"event_id":null"#;
    let twice = api.post(&[JSON], &json("d", "{}", more)).await;
    assert!(
        twice.error().2.starts_with("event_id is there twice"),
        "{twice:?}"
    );
}

#[tokio::test]
async fn packed_bodies_are_unpacked() {
    use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
    use tokio::io::AsyncReadExt as _;
    let api = Api::start().await;
    let body = json("sensor-1", r#"{"t":1}"#, "");
    let (mut gzip, mut zstd) = (Vec::new(), Vec::new());
    GzipEncoder::new(&body[..])
        .read_to_end(&mut gzip)
        .await
        .unwrap();
    ZstdEncoder::new(&body[..])
        .read_to_end(&mut zstd)
        .await
        .unwrap();
    for (name, packed) in [("gzip", gzip), ("zstd", zstd)] {
        let answer = api.post(&[JSON, ("content-encoding", name)], &packed).await;
        assert_eq!(answer.status, 202, "{name}: {answer:?}");
    }
    assert_eq!(api.message(2).await.1.data_json, r#"{"t":1.0}"#);
}

#[tokio::test]
async fn the_rest_of_the_routes_answers() {
    let api = Api::start().await;
    api.post(&[JSON], &json("a", "{}", "")).await;
    api.post(&[JSON], b"{").await;
    let get = async |path: &str| send(api.addr, &format!("GET {path}"), &[], b"").await;
    assert_eq!(get("/health").await.json()["status"], "ok");
    assert_eq!(get("/ready").await.json()["ready"], true);
    let stats = get("/stats").await.json();
    assert_eq!(stats["envelopes"]["accepted"], 1);
    assert_eq!(stats["envelopes"]["refused"], 1);
    let metrics = get("/metrics").await.body;
    for line in [
        "ponix_ingest_envelopes_accepted_total 1",
        "ponix_ingest_envelopes_refused_total 1",
        r#"ponix_ingest_requests_total{route="/v1/envelopes",status="202"} 1"#,
        r#"ponix_ingest_requests_total{route="/v1/envelopes",status="400"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let start = get("/").await;
    assert_eq!(
        (start.status, start.header("location")),
        (307, Some("/docs/"))
    );
    let openapi = get("/openapi.json").await.json();
    // Nobody needs a key here, so the description asks for none.
    let route = &openapi["paths"]["/v1/envelopes"]["post"];
    assert!(route["responses"]["202"].is_object());
    assert!(route["security"].is_null() && route["responses"]["401"].is_null());
    let docs = get("/docs/").await;
    assert_eq!(docs.status, 200, "{docs:?}");
    assert!(docs.body.contains("swagger"), "{docs:?}");
}

/// They tell how the service does: the admin address has them.
#[tokio::test]
async fn metrics_are_public_only_by_choice() {
    let api = Api::with(ponix_ingest::IngestConfig::default(), None).await;
    for path in ["/metrics", "/stats"] {
        let answer = send(api.addr, &format!("GET {path}"), &[], b"").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn without_keys_an_event_may_name_any_organization() {
    let api = Api::start().await;
    let id = r#""event_id":"0190f3a8-0000-7000-8000-000000000001""#;
    for (position, name) in ["acme", "other"].iter().enumerate() {
        let more = format!(r#","organization_id":"{name}",{id}"#);
        let answer = api.post(&[JSON], &json("d", "{}", &more)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        // The same id is another event of another organization.
        assert_eq!(answer.json()["duplicate"], false);
        let stored = api.message(position as u64 + 1).await.1;
        assert_eq!(stored.organization_id, *name);
    }
    let none = br#"{"end_device_id":"d","occurred_at":"2026-03-01T12:00:00Z"}"#;
    assert_eq!(api.post(&[JSON], none).await.status, 202);
    let stored = api.message(3).await.1;
    assert_eq!(stored.organization_id, "example-org");
    assert_eq!(stored.data_json, "{}");
    api.stop().await;
}

/// Its stream knows the events of a packed message, each under its id.
async fn packed_ids(api: &Api, sequence: u64) -> Vec<Uuid> {
    let message = api.raw_message_in("processed_envelopes", sequence).await;
    let said = message.headers.get(ponix_wire::header::PACKED);
    let said = said.map(ponix_nats::async_nats::HeaderValue::as_str);
    let format = ponix_wire::PackFormat::Envelopes;
    let events = ponix_wire::unpack(format, said, &message.payload, Uuid::nil(), 100).unwrap();
    assert!(events.is_packed(), "{message:?}");
    let id = |event: ponix_wire::Event<'_>| {
        let envelope = ponix_wire::decode_envelope(event.bytes, i64::MAX).unwrap();
        envelope.event_id.unwrap()
    };
    events.iter().map(id).collect()
}

/// The ids of the events of all messages of the stream.
async fn stored_ids(api: &Api) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for sequence in 1..=api.stored().await {
        let message = api.raw_message_in("processed_envelopes", sequence).await;
        let said = message.headers.get(ponix_wire::header::PACKED);
        let said = said.map(ponix_nats::async_nats::HeaderValue::as_str);
        let format = ponix_wire::PackFormat::Envelopes;
        let events = ponix_wire::unpack(format, said, &message.payload, Uuid::nil(), 100).unwrap();
        for event in events.iter() {
            let envelope = ponix_wire::decode_envelope(event.bytes, i64::MAX).unwrap();
            ids.push(envelope.event_id.unwrap());
        }
    }
    ids
}

#[tokio::test]
async fn single_events_that_come_together_share_messages_and_keep_their_answers() {
    let config = ponix_ingest::IngestConfig {
        pack_events_max: 10,
        ..ponix_ingest::IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    let disputed = Uuid::now_v7();
    let mut bodies: Vec<_> = (0..60)
        .map(|n| {
            let id = Uuid::now_v7();
            let id = format!(r#","event_id":"{id}""#);
            json(&format!("d{n}"), r#"{"t":1}"#, &id)
        })
        .collect();
    for t in 1..=2 {
        let id = format!(r#","event_id":"{disputed}""#);
        bodies.push(json("d", &format!(r#"{{"t":{t}}}"#), &id));
    }
    bodies.push(b"no json".to_vec());
    let answers = bodies.iter().map(|body| api.post(&[JSON], body));
    let answers = futures::future::join_all(answers).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses[..60].iter().all(|status| *status == 202));
    let mut dispute = [statuses[60], statuses[61]];
    dispute.sort_unstable();
    assert_eq!(dispute, [202, 409]);
    assert_eq!(statuses[62], 400);

    let mut told: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| {
            answer.json()["event_id"]
                .as_str()
                .unwrap()
                .parse::<Uuid>()
                .unwrap()
        })
        .collect();
    let mut stored = stored_ids(&api).await;
    told.sort_unstable();
    stored.sort_unstable();
    assert_eq!(stored, told, "each event is in the stream, once");
}

#[tokio::test]
async fn lines_are_packed_where_that_is_configured_and_each_keeps_its_answer() {
    let config = ponix_ingest::IngestConfig {
        pack_events_max: 3,
        ..ponix_ingest::IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    let id = Uuid::now_v7().to_string();
    let line = |device: &str, temperature: u32, id: &str| {
        let more = if id.is_empty() {
            String::new()
        } else {
            format!(r#","event_id":"{id}""#)
        };
        json(device, &format!(r#"{{"t":{temperature}}}"#), &more)
    };
    let lines = [
        line("a", 1, ""),
        b"no json".to_vec(),
        line("b", 2, &id),
        line("b", 2, &id),
        line("b", 3, &id),
        line("c", 4, ""),
        line("c", 5, ""),
    ];
    let body = lines.join(&b'\n');
    let answer = api.post(&[NDJSON, ("idempotency-key", "k")], &body).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    let results = answer.json()["results"].clone();
    let taken: Vec<_> = (0..7).map(|n| results[n]["event_id"].is_string()).collect();
    assert_eq!(taken, [true, false, true, true, false, true, true]);
    assert_eq!(
        results[4]["error"]["code"], "idempotency_conflict",
        "{results}"
    );
    assert_eq!(api.stored().await, 2);
    let told = |n: usize| {
        results[n]["event_id"]
            .as_str()
            .unwrap()
            .parse::<Uuid>()
            .unwrap()
    };
    assert_eq!(packed_ids(&api, 1).await, [told(0), told(2), told(3)]);
    assert_eq!(packed_ids(&api, 2).await, [told(5), told(6)]);
    let first = api.raw_message_in("processed_envelopes", 1).await;
    assert_eq!(first.subject.as_str(), "processed_envelopes.%packed");
    let second = api.raw_message_in("processed_envelopes", 2).await;
    assert_eq!(second.subject.as_str(), "processed_envelopes.c");

    // The same again is the same for the stream.
    let again = api.post(&[NDJSON, ("idempotency-key", "k")], &body).await;
    assert_eq!(again.json()["results"][5], results[5], "{again:?}");
    assert_eq!(api.stored().await, 2);

    // One event is a message as ever.
    let one = api.post(&[JSON], &line("d", 6, "")).await;
    assert_eq!(one.status, 202);
    let message = api.raw_message_in("processed_envelopes", 3).await;
    assert!(message.headers.get(ponix_wire::header::PACKED).is_none());
    api.stop().await;
}
