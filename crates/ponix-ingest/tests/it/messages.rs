//! Raw messages and their status.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ponix_ingest::{IngestConfig, MessagesConfig};
use ponix_stack::eventually;
use ponix_wire::message::Status;
use uuid::Uuid;

use crate::client::{Answer, send};
use crate::support::{Api, JSON, MESSAGES, NDJSON, SOON, two_keys};

const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
const ID: &str = "0190f3a8-0000-7000-8000-000000000001";

async fn message(api: &Api, headers: &[(&str, &str)], body: &str) -> Answer {
    send(api.addr, "POST /ingest/message", headers, body.as_bytes()).await
}

async fn batch(api: &Api, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let route = format!("POST /api/ingest/batch{query}");
    send(api.addr, &route, headers, body.as_bytes()).await
}

async fn status(api: &Api, headers: &[(&str, &str)], id_and_query: &str) -> Answer {
    let route = format!("GET /ingest/status/{id_and_query}");
    send(api.addr, &route, headers, b"").await
}

async fn synchronous() -> Api {
    let messages = MessagesConfig {
        nats_enabled: false,
        ..MessagesConfig::default()
    };
    Api::with_messages(IngestConfig::default(), None, 64 << 20, messages).await
}

#[tokio::test]
async fn a_line_is_in_the_stream_with_all_that_travels_with_it() {
    let api = Api::start().await;
    let headers = [
        TEXT,
        ("nats-rollup", "all"),
        ("nats-ttl", "1s"),
        ("ponix-source", "evil"),
    ];
    let answer = message(&api, &headers, "L|1|2|\r\n").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let accepted = answer.json();
    assert_eq!(accepted["status"], "accepted");
    let stored = api.raw_message(1).await;
    assert_eq!(stored.subject.as_str(), "messages.ingest.order_line_item");
    assert_eq!(&stored.payload[..], b"L|1|2|");
    let mut found: Vec<(String, String)> = stored
        .headers
        .iter()
        .map(|(name, values)| (name.to_string(), values[0].to_string()))
        .collect();
    found.sort();
    let expected = [
        ("Nats-Msg-Id", accepted["message_id"].as_str().unwrap()),
        ("Ponix-Content-Type", "text/plain"),
        ("Ponix-Organization", "example-org"),
        ("Ponix-Received-At", accepted["timestamp"].as_str().unwrap()),
        ("Ponix-Retry-Count", "0"),
        ("Ponix-Source", "127.0.0.1"),
    ];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    api.stop().await;
}

#[tokio::test]
async fn an_unknown_entity_is_told_at_once_with_those_that_are_known() {
    let api = Api::start().await;
    let send_to = async |query: &str, content_type, body: &str| {
        let route = format!("POST /ingest/message{query}");
        send(api.addr, &route, &[content_type], body.as_bytes()).await
    };
    for (query, content_type, body, field) in [
        ("", TEXT, "?|1", None),
        ("", JSON, r#"{"entity_type":"Ordr"}"#, Some("entity_type")),
        ("?entity=Ordr", JSON, "{}", Some("entity")),
    ] {
        let answer = send_to(query, content_type, body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        let told = answer.json();
        assert_eq!(told["code"], "unknown_entity");
        assert_eq!(told["field"].as_str(), field);
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("known are Order, OrderLineItem"), "{told}");
    }
    // Names count in any case, and travel as they are declared.
    let answer = send_to("?entity=orderlineitem", JSON, "{}").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let stored = api.raw_message(1).await;
    assert_eq!(stored.subject.as_str(), "messages.ingest.order_line_item");
    assert_eq!(
        stored.headers.get("Ponix-Entity").unwrap().as_str(),
        "OrderLineItem"
    );
    api.stop().await;
}

#[tokio::test]
async fn an_id_is_one_message_and_the_first_content_counts() {
    let api = Api::start().await;
    let body = format!(r#"{{"message_id":"{ID}","entity_type":"Order","n":1}}"#);
    for _ in 0..2 {
        let answer = message(&api, &[JSON], &body).await;
        assert_eq!(
            (answer.status, answer.json()["message_id"].as_str()),
            (202, Some(ID))
        );
    }
    let stored = api.raw_message(1).await;
    assert_eq!(stored.subject.as_str(), "messages.ingest.order");
    let other = message(&api, &[JSON], &body.replace("1}", "2}")).await;
    assert_eq!(
        other.error(),
        (
            409,
            "idempotency_conflict".to_owned(),
            format!("{ID} was accepted with another content: the first one counts")
        )
    );
    // The same key for an envelope is another thing.
    let key = ("idempotency-key", "k");
    assert_eq!(message(&api, &[TEXT, key], "O|1").await.status, 202);
    assert_eq!(message(&api, &[TEXT, key], "O|2").await.status, 409);
    let envelope = api
        .post(&[JSON, key], &crate::support::json("a", "{}", ""))
        .await;
    assert_eq!(envelope.status, 202, "{envelope:?}");
    assert_eq!(api.stored_in(MESSAGES).await, 2);
}

#[tokio::test]
async fn a_batch_takes_what_is_good_or_nothing() {
    let api = Api::start().await;
    let body = "{\"n\":1}\n[1]\n\n{\"n\":2}\n";
    let key = ("idempotency-key", "k");
    let answer = batch(&api, "?atomic=true", &[NDJSON, key], body).await;
    assert_eq!(
        answer.error(),
        (
            400,
            "invalid_json".to_owned(),
            "line 2: invalid type: sequence, expected an object at line 1 column 0".to_owned()
        )
    );
    assert_eq!(api.stored_in(MESSAGES).await, 0);
    for _ in 0..2 {
        let answer = batch(&api, "?entity=Order", &[NDJSON, key], body).await;
        let answer = (answer.status, answer.json());
        assert_eq!(answer.0, 207);
        assert_eq!(
            (&answer.1["accepted"], &answer.1["failed"]),
            (&2.into(), &1.into())
        );
        assert_eq!(answer.1["results"][1]["line"], 2);
        assert_eq!(answer.1["results"][1]["error"]["code"], "invalid_json");
        assert_eq!(api.stored_in(MESSAGES).await, 2);
    }
    let stored = api.raw_message(2).await;
    assert_eq!(
        stored.headers.get("Ponix-Entity").unwrap().as_str(),
        "Order"
    );
    let answer = batch(&api, "?atomic=true", &[TEXT], &"O|1\n".repeat(3_000)).await;
    assert_eq!(answer.json()["accepted"], 3_000);
    assert_eq!(api.stored_in(MESSAGES).await, 3_002);
}

#[tokio::test]
async fn nothing_of_an_atomic_batch_is_taken_and_every_wrong_line_is_told() {
    let api = Api::start().await;
    let answer = batch(&api, "?atomic=true", &[TEXT], "O|1\nW|2\nO|3\n?|4").await;
    let (status, body) = (answer.status, answer.json());
    assert_eq!((status, &body["code"]), (400, &"invalid_message".into()));
    assert_eq!(body["message"], "line 2: a: is wrong");
    assert_eq!((&body["accepted"], &body["failed"]), (&0.into(), &2.into()));
    let fields = &body["results"][0]["error"]["errors"];
    assert_eq!(
        (&fields[0]["field"], &fields[1]["field"]),
        (&"a".into(), &"b".into())
    );
    assert_eq!(body["results"][1]["line"], 4);
    assert_eq!(body["results"][1]["error"]["code"], "unknown_entity");
    assert_eq!(api.stored_in(MESSAGES).await, 0);
    let checked = async |query: &str| {
        let route = format!("POST /ingest/message{query}");
        send(api.addr, &route, &[TEXT], b"W|2").await
    };
    let answer = checked("?check=true").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.json()["errors"].as_array().map(Vec::len), Some(2));
    assert_eq!(checked("?check=perhaps").await.status, 400);
    assert_eq!(api.stored_in(MESSAGES).await, 0);
    // Otherwise it is for the worker to say.
    assert_eq!(checked("").await.status, 202);
    let answer = batch(&api, "", &[TEXT], "O|1\nW|2").await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn all_that_no_entity_could_have_is_told_at_once() {
    let api = Api::start().await;
    let body = r#"{"message_id":7,"a":"\u0000","b":1,"b":2}"#;
    let answer = message(&api, &[JSON], body).await;
    assert_eq!(answer.error().0, 400, "{answer:?}");
    let body = answer.json();
    let errors = body["errors"].as_array().into_iter().flatten();
    let fields: Vec<_> = errors
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["a", "b", "message_id"], "{body}");
    assert_eq!(
        (&body["field"], &body["code"]),
        (&"a".into(), &"invalid_value".into())
    );
    assert_eq!(api.stored_in(MESSAGES).await, 0);
}

#[tokio::test]
async fn a_message_that_failed_is_corrected_under_its_id() {
    let api = Api::start().await;
    let id: Uuid = ID.parse().unwrap();
    let body = |n| format!(r#"{{"message_id":"{ID}","entity_type":"Order","n":{n}}}"#);
    assert_eq!(message(&api, &[JSON], &body(1)).await.status, 202);
    eventually("the status is written", SOON, async || {
        anyhow::ensure!(api.store.len() == 1);
        Ok(())
    })
    .await
    .unwrap();
    for end in [Status::Processing, Status::Processed] {
        api.store.end(id, end);
        assert_eq!(
            message(&api, &[JSON], &body(2)).await.status,
            409,
            "{end:?}"
        );
    }
    api.store.end(id, Status::Failed);
    for _ in 0..2 {
        assert_eq!(message(&api, &[JSON], &body(2)).await.status, 202);
        assert_eq!(api.stored_in(MESSAGES).await, 2);
    }
    let stored = api.raw_message(2).await;
    assert_eq!(
        stored.headers.get("Ponix-Message-Id").unwrap().as_str(),
        ID,
        "the worker knows it by its id"
    );
    let answer = batch(&api, "", &[NDJSON], &format!("{}\n", body(3))).await;
    assert_eq!(answer.json()["accepted"], 1, "{answer:?}");
    assert_eq!(api.stored_in(MESSAGES).await, 3);
    // All or nothing as well, beside others; not what is done.
    let with_another = |n| format!("{}\n{{\"entity_type\":\"Order\",\"n\":{n}}}\n", body(n));
    let answer = batch(&api, "?atomic=true", &[NDJSON], &with_another(4)).await;
    assert_eq!(answer.json()["accepted"], 2, "{answer:?}");
    assert_eq!(api.stored_in(MESSAGES).await, 5);
    api.store.end(id, Status::Processed);
    let answer = batch(&api, "?atomic=true", &[NDJSON], &with_another(5)).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(api.stored_in(MESSAGES).await, 5);
}

#[tokio::test]
async fn the_statuses_of_a_batch_and_of_what_failed_are_told() {
    let api = Api::start().await;
    let answer = batch(&api, "", &[TEXT], "O|1\nO|2\nO|3").await.json();
    let ids: Vec<Uuid> = (0..3)
        .map(|line| answer["results"][line]["message_id"].as_str().unwrap())
        .map(|id| id.parse().unwrap())
        .collect();
    eventually("the statuses are written", SOON, async || {
        anyhow::ensure!(api.store.len() == 3);
        Ok(())
    })
    .await
    .unwrap();
    api.store.end(ids[0], Status::Failed);
    api.store.end(ids[2], Status::Failed);
    let question = serde_json::json!({"message_ids": [ids[0], ids[1], Uuid::nil()]}).to_string();
    let route = "POST /ingest/status";
    let told = send(api.addr, route, &[JSON], question.as_bytes())
        .await
        .json();
    assert_eq!(
        told["counts"],
        serde_json::json!({"accepted": 1, "failed": 1, "unknown": 1})
    );
    assert_eq!(told["messages"][0]["message_id"], ids[0].to_string());
    for (wrong, status) in [("{}", 400), ("{\"message_ids\":[]}", 400), ("[1]", 400)] {
        let answer = send(api.addr, route, &[JSON], wrong.as_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let list = async |query: &str| {
        let route = format!("GET /ingest/status?{query}");
        send(api.addr, &route, &[], b"").await
    };
    let mut failed = Vec::new();
    let mut query = "status=failed&limit=1".to_owned();
    loop {
        let page = list(&query).await.json();
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() <= 1, "{page}");
        failed.extend(messages.iter().map(|it| it["message_id"].clone()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("status=failed&limit=1&before={next}");
    }
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert_eq!(list("").await.json()["counts"]["accepted"], 1);
    for wrong in [
        "status=lost",
        "limit=0",
        "limit=1001",
        "before=7",
        "since=1",
    ] {
        assert_eq!(list(wrong).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_status_is_told_to_its_organization_alone() {
    let api = Api::with(IngestConfig::default(), Some(two_keys())).await;
    let a = ("authorization", "Bearer key-of-organization-a");
    let b = ("authorization", "Bearer key-of-organization-b");
    let answer = message(&api, &[TEXT, a], "L|1").await;
    let id: Uuid = answer.json()["message_id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let path = id.to_string();
    let found = eventually("the status is written", SOON, async || {
        anyhow::ensure!(api.store.len() == 1);
        Ok(status(&api, &[a], &path).await.json())
    })
    .await
    .unwrap();
    assert_eq!(found["status"], "accepted");
    assert_eq!(found["entity_type"], "OrderLineItem");
    assert_eq!(found["received_at"], answer.json()["timestamp"]);
    assert_eq!(found["processed_at"], serde_json::Value::Null);
    let foreign = status(&api, &[b], &path).await;
    assert_eq!(foreign.status, 404);
    let unknown = serde_json::json!({"message_id": id, "status": "unknown"});
    assert_eq!(foreign.json(), unknown);
    let waiting = format!("{path}?wait=30s");
    let headers = &[a];
    let finish = async { api.store.finish(id) };
    let (answer, ()) = tokio::join!(status(&api, headers, &waiting), finish);
    assert_eq!(answer.json()["status"], "processed");
    let wrong = status(&api, &[a], "7").await.error();
    assert_eq!(
        wrong,
        (
            400,
            "invalid_value".to_owned(),
            "message_id is not a UUID".to_owned()
        )
    );
    api.store.down.store(true, Ordering::Relaxed);
    let down = status(&api, &[a], &path).await;
    assert_eq!(down.error().0, 503);
    assert!(!down.body.contains("secret"), "{down:?}");
}

#[tokio::test]
async fn statuses_wait_for_the_store_and_answers_do_not() {
    let api = Api::start().await;
    api.store.down.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(message(&api, &[TEXT], "O|1").await.status, 202);
    }
    assert_eq!(api.store.len(), 0);
    api.store.down.store(false, Ordering::Relaxed);
    let store = api.store.clone();
    api.stop().await;
    assert_eq!(store.len(), 10);
}

#[tokio::test]
async fn without_nats_messages_are_stored_at_once() {
    let api = synchronous().await;
    let answer = message(&api, &[TEXT], "O|1").await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &"persisted".into())
    );
    let refused = message(&api, &[TEXT], "X|1").await;
    assert_eq!(
        refused.error(),
        (
            400,
            "invalid_message".to_owned(),
            "prefix X is not known".to_owned()
        )
    );
    assert_eq!(refused.json()["field"], "prefix");
    let answer = batch(&api, "", &[TEXT], "O|1\nX|1\nO|2").await.json();
    assert_eq!(
        (&answer["accepted"], &answer["failed"]),
        (&2.into(), &1.into())
    );
    let none = batch(&api, "?atomic=true", &[TEXT], "O|3\nX|1").await;
    assert_eq!(none.error().2, "line 2: prefix X is not known");
    assert_eq!(api.store.len(), 3);
    let key = ("idempotency-key", "k");
    for _ in 0..2 {
        assert_eq!(message(&api, &[TEXT, key], "O|4").await.status, 200);
    }
    assert_eq!(message(&api, &[TEXT, key], "O|5").await.status, 409);
    assert_eq!(api.store.len(), 4);
    assert_eq!(api.stored_in(MESSAGES).await, 0);
    api.store.down.store(true, Ordering::Relaxed);
    let down = message(&api, &[TEXT], "O|1").await;
    let unknown = "outcome unknown: send again with the same Idempotency-Key";
    assert_eq!(
        down.error(),
        (503, "unavailable".to_owned(), unknown.to_owned())
    );
}

#[tokio::test]
async fn messages_that_are_none() {
    let api = Api::start().await;
    let type_message = "send Content-Type text/plain or application/json";
    for (headers, query, body, expected) in [
        (
            &[TEXT][..],
            "",
            "",
            (400, "empty_body", "the body is empty"),
        ),
        (
            &[],
            "",
            "O|1",
            (415, "unsupported_media_type", type_message),
        ),
        (
            &[NDJSON],
            "",
            "{}",
            (415, "unsupported_media_type", type_message),
        ),
        (
            &[TEXT],
            "",
            "O|1\nO|2",
            (
                400,
                "several_lines",
                "the body has more than one line: send it to /ingest/batch",
            ),
        ),
        (
            &[TEXT],
            "?entity=*",
            "O|1",
            (
                400,
                "invalid_value",
                "entity must be a letter and then at most 63 letters, digits or '_'",
            ),
        ),
        (
            &[TEXT],
            "?Entity=Order",
            "O|1",
            (
                400,
                "unknown_parameter",
                "the parameters of this route are: entity, check",
            ),
        ),
    ] {
        let route = format!("POST /ingest/message{query}");
        let answer = send(api.addr, &route, headers, body.as_bytes()).await;
        let (status, code, message) = answer.error();
        assert_eq!(
            (status, code.as_str(), message.as_str()),
            expected,
            "{body}"
        );
    }
    assert_eq!(api.stored_in(MESSAGES).await, 0);
}

#[tokio::test]
async fn a_nats_that_hangs_is_an_outcome_unknown_for_each_line() {
    let config = IngestConfig {
        publish_timeout: Duration::from_millis(500),
        ..IngestConfig::default()
    };
    let api = Api::with(config, None).await;
    api.nats.pause().await.unwrap();
    let key = ("idempotency-key", "k");
    let unknown = "outcome unknown: send again with the same Idempotency-Key";
    let lines = batch(&api, "", &[TEXT, key], "O|1\nO|2").await;
    let all = batch(&api, "?atomic=true", &[TEXT, key], "O|1\nO|2").await;
    api.nats.resume().await.unwrap();
    assert_eq!(
        (lines.status, lines.header("retry-after")),
        (503, Some("1"))
    );
    let (_, code, message) = lines.error();
    assert_eq!(code, "unavailable");
    assert!(
        message.starts_with("2 of 2 lines are not taken"),
        "{message}"
    );
    let lines = lines.json();
    assert_eq!(lines["failed"], 2);
    assert_eq!(lines["results"][0]["error"]["message"], unknown);
    assert_eq!(
        all.error(),
        (503, "unavailable".to_owned(), unknown.to_owned())
    );
    eventually("the retry is accepted", SOON, async || {
        let answer = batch(&api, "?atomic=true", &[TEXT, key], "O|1\nO|2").await;
        anyhow::ensure!(answer.status == 202, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(api.stored_in(MESSAGES).await, 2);
}

/// Who asks for ids that nobody has must not hold places and connections for as long as he likes.
#[tokio::test]
async fn an_unknown_id_is_not_waited_for_and_an_accepted_one_is_known_at_once() {
    let messages = MessagesConfig {
        status_wait_max: Duration::from_hours(2),
        ..MessagesConfig::default()
    };
    let api = Api::with_messages(IngestConfig::default(), None, 64 << 20, messages).await;
    let unknown = status(&api, &[], &format!("{ID}?wait=9999s")).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    api.store.closed.store(true, Ordering::Relaxed);
    let answer = message(&api, &[TEXT], "L|1").await.json();
    let id = answer["message_id"].as_str().unwrap();
    let known = status(&api, &[], id).await;
    assert_eq!(
        (known.status, &known.json()["status"]),
        (200, &"accepted".into())
    );
    assert_eq!(known.json()["entity_type"], "OrderLineItem");
    api.store.closed.store(false, Ordering::Relaxed);
    eventually("the status is in the store", SOON, async || {
        anyhow::ensure!(api.store.len() == 1);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(status(&api, &[], id).await.status, 200);
}

#[tokio::test]
async fn those_that_wait_are_few_and_every_organization_has_its_own() {
    let config = IngestConfig {
        requests_max: 32,
        ..IngestConfig::default()
    };
    let api = Api::with(config, Some(two_keys())).await;
    let (a, b) = (
        ("authorization", "Bearer key-of-organization-a"),
        ("authorization", "Bearer key-of-organization-b"),
    );
    let mut ids = Vec::new();
    for key in [a, b] {
        let answer = message(&api, &[TEXT, key], "O|1").await.json();
        ids.push(answer["message_id"].as_str().unwrap().to_owned());
    }
    eventually("the statuses are in the store", SOON, async || {
        anyhow::ensure!(api.store.len() == 2);
        Ok(())
    })
    .await
    .unwrap();
    let waiting: Vec<String> = ids.iter().map(|id| format!("{id}?wait=30s")).collect();
    let of_a = [a];
    let wait = || status(&api, &of_a, &waiting[0]);
    let others = async {
        let refused = eventually("the places are taken", SOON, async || {
            let answer = status(&api, &of_a, &format!("{}?wait=1ms", ids[0])).await;
            anyhow::ensure!(answer.status == 429, "{answer:?}");
            Ok(answer)
        })
        .await
        .unwrap();
        assert_eq!(refused.error().1, "too_many_waits");
        assert_eq!(refused.header("retry-after"), Some("1"));
        let other = status(&api, &[b], &format!("{}?wait=1ms", ids[1])).await;
        assert_eq!(other.status, 200);
        assert_eq!(message(&api, &[TEXT, a], "O|2").await.status, 202);
        let id = ids[0].parse().unwrap();
        api.store.finish(id);
    };
    let (first, second, ()) = tokio::join!(wait(), wait(), others);
    for answer in [first, second] {
        assert_eq!(answer.json()["status"], "processed", "{answer:?}");
    }
}
