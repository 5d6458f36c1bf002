//! Raw messages: from the request to the rows of their entities, with a status each.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ponix_stack::{Postgres, eventually};
use serde_json::Value;

use crate::support::{SOON, Service, ServiceBuilder, World, http};

const TEXT: &str = "Content-Type: text/plain\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const CUSTOMER: &str = "C|1|Customer#1|Street 1|7|17-123|711.56|BUILDING|regular";

/// A service with the message pipeline, and its database.
struct Pipeline {
    world: World,
    postgres: Postgres,
    client: tokio_postgres::Client,
}

impl Pipeline {
    async fn new(name: &str) -> Self {
        let world = World::with_own_nats(name).await;
        let postgres = Postgres::start().await.unwrap();
        let client = connect(&postgres).await.unwrap();
        Self {
            world,
            postgres,
            client,
        }
    }

    fn service(&self) -> ServiceBuilder {
        let entities = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch");
        self.world
            .service()
            .env("PONIX_POSTGRES_URL", self.postgres.url())
            .env("PONIX_ENTITIES_DIR", entities.display())
            .env("PONIX_MESSAGES_NAK_DELAY_SECS", 0.2)
    }

    async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let client = connect(&self.postgres).await?;
        Ok(client.query_one(sql, &[]).await?.try_get(0)?)
    }

    /// Waits until a query gives this number.
    async fn gives(&self, sql: &str, expected: i64) {
        eventually(sql, SOON, || async {
            let found = self.number(sql).await?;
            ensure!(found == expected, "{found}, expected {expected}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

async fn connect(postgres: &Postgres) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn post(service: &Service, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let addr = service.api_addr().unwrap();
    let (status, body) = http::post(addr, path, headers, body).await.unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

/// Sends a message and waits for what becomes of it.
async fn send(service: &Service, headers: &str, body: &str) -> Value {
    let (status, answer) = post(service, "/ingest/message", headers, body).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["status"], "accepted");
    let id = answer["message_id"].as_str().unwrap();
    final_status(service, id).await
}

async fn final_status(service: &Service, id: &str) -> Value {
    let addr = service.api_addr().unwrap();
    let path = format!("/ingest/status/{id}?wait=5s");
    eventually("a final status", SOON, || async {
        let (_, body) = http::get(addr, &path).await?;
        let status: Value = serde_json::from_str(&body)?;
        let name = status["status"].as_str().context("no status")?;
        ensure!(
            ["processed", "failed", "dead_letter"].contains(&name),
            "{body}"
        );
        anyhow::Ok(status)
    })
    .await
    .unwrap()
}

fn order(key: u32, items: u32) -> String {
    let items: Vec<String> = (1..=items)
        .map(|n| {
            format!(
                r#"{{"product_key":{n},"supplier_key":9,"line_number":{n},"quantity":17,"extended_price":24710.35,"discount":0.04,"tax":0.02,"return_flag":"N","line_status":"O","ship_date":"1996-03-13","ship_mode":"TRUCK"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"entity_type":"Order","order_key":{key},"customer_key":1,"order_status":"O","total_price":172799.49,"order_date":"1996-01-02","order_priority":"5-LOW","clerk":"Clerk#000000951","line_items":[{}]}}"#,
        items.join(",")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_with_line_items_becomes_rows_and_is_processed() {
    let pipeline = Pipeline::new("messages_order").await;
    let service = pipeline.service().start_ready().await;
    let status = send(&service, JSON, &order(1, 3)).await;
    assert_eq!(
        (&status["status"], &status["entity_type"], &status["error"]),
        (&"processed".into(), &"Order".into(), &Value::Null),
        "{status}"
    );
    let customer = send(&service, TEXT, CUSTOMER).await;
    assert_eq!(customer["entity_type"], "Customer");
    let row = pipeline
        .client
        .query_one(
            "SELECT o.total_price::text, string_agg(l.line_number::text, ',' ORDER BY l.line_number), \
             count(*) FROM orders o JOIN order_line_items l USING (order_key) GROUP BY 1",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "172799.49");
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("ponix_ingest_messages_accepted_total"), 2);
    let processed = "ponix_messages_settled_total{status=\"processed\"}";
    assert_eq!(metrics.get(processed), 2);
    assert_eq!(metrics.sum("ponix_messages_latency_seconds_count"), 2);
    assert_eq!(
        (row.get::<_, String>(1), row.get::<_, i64>(2)),
        ("1,2,3".to_owned(), 3)
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_message_fails_alone_and_is_a_dead_letter() {
    let pipeline = Pipeline::new("messages_wrong").await;
    let service = pipeline.service().start_ready().await;
    let body = [
        &order(1, 0),
        &order(2, 0).replace("\"O\"", "\"Q\""),
        &order(3, 0),
    ]
    .map(String::as_str)
    .join("\n");
    let headers = "Content-Type: application/x-ndjson\r\n";
    let (status, answer) = post(&service, "/ingest/batch", headers, &body).await;
    assert_eq!((status, &answer["accepted"]), (202, &3.into()), "{answer}");
    let id = |n: usize| answer["results"][n]["message_id"].as_str().unwrap();
    let failed = final_status(&service, id(1)).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("order_status") && error.contains("not one of O, F, P"),
        "{failed}"
    );
    for good in [0, 2] {
        assert_eq!(
            final_status(&service, id(good)).await["status"],
            "processed"
        );
    }
    pipeline.gives("SELECT count(*) FROM orders", 2).await;
    let context = pipeline.world.context().await;
    let dead = context.get_stream("MESSAGES_dlq").await.unwrap();
    let subject = format!("messages_dlq.{}", id(1));
    let letter = dead.direct_get_last_for_subject(subject).await.unwrap();
    assert_eq!(
        letter.headers.get("Ponix-Reason").unwrap().as_str(),
        "value"
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_one_row_however_often_it_is_sent() {
    let pipeline = Pipeline::new("messages_key").await;
    let service = pipeline.service().start_ready().await;
    let headers = format!("{TEXT}Idempotency-Key: customer 1\r\n");
    let first = send(&service, &headers, CUSTOMER).await;
    let second = send(&service, &headers, CUSTOMER).await;
    assert_eq!(first["message_id"], second["message_id"]);
    pipeline.gives("SELECT count(*) FROM customers", 1).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_finds_each_message_processed_or_dead() {
    let pipeline = Pipeline::new("message_reconcile").await;
    let service = pipeline.service().start_ready().await;
    for key in 1..=3 {
        let line = CUSTOMER.replace("C|1|", &format!("C|{key}|"));
        assert_eq!(send(&service, TEXT, &line).await["status"], "processed");
    }
    let status = send(&service, TEXT, "C|not a key|Customer#1").await;
    assert_eq!(status["status"], "failed");
    service.stop().await;
    let reconcile = || {
        let arguments = ["reconcile", "--pipeline", "messages"];
        let command = pipeline.service().args(&arguments);
        command.env("PONIX_LOG_LEVEL", "error")
    };
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 0, "{report}");
    for line in ["stored           3", "dead letters     1"] {
        assert!(report.lines().any(|l| l == line), "{line}: {report}");
    }

    let forget = "DELETE FROM message_status WHERE message_id = (SELECT max(message_id::text)::uuid \
                  FROM message_status WHERE status = 'processed')";
    pipeline.client.execute(forget, &[]).await.unwrap();
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("\nlost             1\n"), "{report}");
    assert!(report.contains("organization \"example-org\""), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_two_organizations_choose_is_the_firsts_and_the_other_a_dead_letter() {
    let pipeline = Pipeline::new("messages_two").await;
    let keys = tempfile::NamedTempFile::new().unwrap();
    let line =
        |name: &str| format!(r#"{{"key":"key-of-organization-{name}","organization":"{name}"}}"#);
    std::fs::write(keys.path(), [line("a"), line("b")].join("\n")).unwrap();
    let service = pipeline
        .service()
        .env("PONIX_INGEST_API_KEYS_FILE", keys.path().display())
        .start_ready()
        .await;
    let id = "0190f3a8-0000-7000-8000-000000000001";
    let with_id = |key| order(key, 0).replacen('{', &format!(r#"{{"message_id":"{id}","#), 1);
    for (name, key) in [("a", 1), ("b", 2)] {
        let headers = format!("{JSON}Authorization: Bearer key-of-organization-{name}\r\n");
        let (status, answer) = post(&service, "/ingest/message", &headers, &with_id(key)).await;
        assert_eq!(
            (status, &answer["message_id"]),
            (202, &id.into()),
            "{answer}"
        );
    }
    pipeline
        .gives(
            "SELECT count(*) FROM message_status WHERE status = 'processed'",
            1,
        )
        .await;
    let context = pipeline.world.context().await;
    let letter = eventually("a dead letter", SOON, || async {
        let dead = context.get_stream("MESSAGES_dlq").await?;
        let letter = dead.direct_get_first_for_subject("messages_dlq.>").await?;
        anyhow::Ok(letter)
    })
    .await
    .unwrap();
    let header = |name: &str| letter.headers.get(name).unwrap().as_str();
    let error = "message_id: the id belongs to another message";
    assert_eq!(header("Ponix-Error"), error);
    assert_eq!(header("Ponix-Original-Ponix-Message-Id"), id);
    pipeline.gives("SELECT count(*) FROM orders", 1).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_messages_wait_and_are_stored_when_it_is_back() {
    let pipeline = Pipeline::new("messages_down").await;
    let service = pipeline.service().start_ready().await;
    pipeline.postgres.kill().await.unwrap();
    let mut ids = Vec::new();
    for key in 1..=20 {
        let (status, answer) = post(&service, "/ingest/message", JSON, &order(key, 1)).await;
        assert_eq!(status, 202, "{answer}");
        ids.push(answer["message_id"].as_str().unwrap().to_owned());
    }
    service.not_ready("postgresql cannot be used").await;
    pipeline.postgres.restart().await.unwrap();
    for id in &ids {
        assert_eq!(final_status(&service, id).await["status"], "processed");
    }
    pipeline.gives("SELECT count(*) FROM orders", 20).await;
    service.ready().await;
    let context = pipeline.world.context().await;
    let dead = context.get_stream("MESSAGES_dlq").await.unwrap();
    assert_eq!(dead.cached_info().state.messages, 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_worker_and_servers_lose_and_double_nothing() {
    let pipeline = Pipeline::new("messages_kills").await;
    let mut service = pipeline.service().start_ready().await;
    let (batches, per_batch) = (50_u32, 1_000);
    for batch in 0..batches {
        let first = batch * per_batch;
        let good = (1..per_batch).map(|n| {
            let key = first + n;
            format!("O|{key}|1|O|1.5|1996-01-02|5-LOW|Clerk#000000951|0|")
        });
        let poison = std::iter::once("O|no number".to_owned());
        let body = good.chain(poison).collect::<Vec<_>>().join("\n");
        let headers = format!("{TEXT}Idempotency-Key: batch {batch}\r\n");
        // Sent until it is accepted, whatever is killed.
        eventually("a batch is accepted", SOON, || async {
            let addr = service.api_addr()?;
            let (status, answer) = http::post(addr, "/ingest/batch", &headers, &body).await?;
            let answer: Value = serde_json::from_str(&answer)?;
            ensure!(status == 202 && answer["failed"] == 0, "{status} {answer}");
            Ok(())
        })
        .await
        .unwrap();
        // The worker is busy with what has just been accepted.
        match batch % 10 {
            1 => {
                service.kill().await;
                service = pipeline.service().start_ready().await;
            }
            4 => {
                pipeline.postgres.kill().await.unwrap();
                pipeline.postgres.restart().await.unwrap();
            }
            7 => {
                pipeline.world.nats.kill().await.unwrap();
                pipeline.world.nats.restart().await.unwrap();
            }
            _ => {}
        }
    }
    let of = |status: &str| {
        format!("SELECT count(DISTINCT message_id) FROM message_status WHERE status = '{status}'")
    };
    let good = i64::from(batches * (per_batch - 1));
    pipeline.gives(&of("processed"), good).await;
    pipeline.gives(&of("failed"), i64::from(batches)).await;
    for (sql, expected) in [
        ("SELECT count(*) FROM orders", good),
        ("SELECT count(DISTINCT order_key) FROM orders", good),
        (
            "SELECT count(*) FROM message_status",
            i64::from(batches * per_batch),
        ),
    ] {
        assert_eq!(pipeline.number(sql).await.unwrap(), expected, "{sql}");
    }
    let context = pipeline.world.context().await;
    let dead = context.get_stream("MESSAGES_dlq").await.unwrap();
    assert_eq!(dead.cached_info().state.messages, u64::from(batches));
    service.stop().await;
    // What a killed worker has not acked is delivered again later, and lies above the ack floor.
    let reconcile = ["reconcile", "--pipeline", "messages"];
    let (code, report) = pipeline.service().args(&reconcile).run().await;
    assert_eq!(code, 0, "{report}");
    assert!(!report.contains("no settled message"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_message_is_stored_when_it_is_answered() {
    let pipeline = Pipeline::new("messages_sync").await;
    let service = pipeline
        .service()
        .env("PONIX_INGEST_NATS_ENABLED", "false")
        .start_ready()
        .await;
    let (status, answer) = post(&service, "/ingest/message", TEXT, CUSTOMER).await;
    assert_eq!(
        (status, &answer["status"]),
        (200, &"persisted".into()),
        "{answer}"
    );
    assert_eq!(
        pipeline
            .number("SELECT count(*) FROM customers")
            .await
            .unwrap(),
        1
    );
    let id = answer["message_id"].as_str().unwrap();
    assert_eq!(final_status(&service, id).await["status"], "processed");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_for_the_pipeline_is_told_at_the_start() {
    let world = World::new("messages_start").await;
    let url = "postgres://ann:geheim@127.0.0.1:1/x";
    let (code, log) = world.service().env("PONIX_POSTGRES_URL", url).run().await;
    assert_eq!(code, 64, "{log}");
    assert!(log.contains("PONIX_ENTITIES_DIR is not set"), "{log}");
    assert!(!log.contains("geheim"), "{log}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "kind: Entity\nunknown: 1\n").unwrap();
    let service = world.service().env("PONIX_POSTGRES_URL", url);
    let service = service.env("PONIX_ENTITIES_DIR", folder.path().display());
    let (code, log) = service.run().await;
    assert_eq!(code, 64, "{log}");
    assert!(log.contains("a.yaml:2:1"), "{log}");
}

/// Commands that people have in hand, as they stand.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_today_is_stored() {
    const ORDER: &str = "O|123|456|F|123.45|2024-01-01|urgent|clerk1|1|comment";
    let pipeline = Pipeline::new("messages_typed").await;
    let service = pipeline
        .service()
        .env("PONIX_MESSAGES_DEFAULT_ENTITY", "SimpleOrder")
        .start_ready()
        .await;
    let order = send(&service, TEXT, ORDER).await;
    assert_eq!(order["status"], "processed", "{order}");
    let simple = send(&service, JSON, r#"{"order_id":"123","total":100.50}"#).await;
    assert_eq!(simple["status"], "processed", "{simple}");
    assert_eq!(simple["entity_type"], "SimpleOrder");
    let (status, unknown) = post(&service, "/ingest/message", TEXT, "X|1").await;
    assert_eq!(status, 422, "{unknown}");
    assert!(
        unknown["message"].as_str().unwrap().contains("known are"),
        "{unknown}"
    );

    // Over NATS: wrapped, with an id that is no UUID and no headers at all.
    let body = ORDER.replace("|123|456|", "|999|456|");
    let wrapped = format!(
        r#"{{"message_id":"test-123","body":"{body}","received_at":"2026-03-01T12:00:00Z","retry_count":2}}"#
    );
    let context = pipeline.world.context().await;
    let publish = async |subject: String, payload: String| {
        let published = context.publish(subject, payload.into()).await.unwrap();
        published.await.unwrap();
    };
    publish("messages.ingest.test".to_owned(), wrapped).await;
    pipeline
        .gives("SELECT count(*) FROM orders WHERE order_key = 999", 1)
        .await;
    let status = "SELECT count(*) FROM message_status WHERE status = 'processed' \
                  AND organization = 'example-org' AND retry_count = 2 AND entity_type = 'Order'";
    pipeline.gives(status, 1).await;

    // An event in JSON is one, and needs no data.
    let event =
        r#"{"organization_id":"o","end_device_id":"d","occurred_at":"2026-03-01T12:00:00Z"}"#;
    publish(format!("{}.d", pipeline.world.name), event.to_owned()).await;
    pipeline.world.stored(1).await;
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'message_status' \
                   AND indexname IN ('message_status_received_at', 'message_status_status')";
    pipeline.gives(indexes, 2).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_listed_and_corrected_under_its_id() {
    let pipeline = Pipeline::new("messages_correct").await;
    let service = pipeline.service().start_ready().await;
    let id = "0190f3a8-0000-7000-8000-00000000000a";
    let with_id = |body: &str| body.replacen('{', &format!("{{\"message_id\":\"{id}\","), 1);
    let wrong = with_id(&order(7, 1))
        .replace("\"customer_key\":1", "\"customer_kee\":1")
        .replace("\"order_status\":\"O\"", "\"order_status\":\"Q\"");
    let failed = send(&service, JSON, &wrong).await;
    assert_eq!(failed["status"], "failed");
    let error = failed["error"].as_str().unwrap();
    for part in [
        "customer_kee: is no field of the entity, did you mean customer_key?",
        "customer_key: is missing",
        "order_status: \"Q\" is not one of O, F, P",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    // Told in full before anything is taken, where all or nothing is asked for.
    let lines = "Content-Type: application/x-ndjson\r\n";
    let batch = format!("{}\n{}", order(8, 1), order(9, 1).replace("17,", "-17,"));
    let (status, told) = post(&service, "/ingest/batch?atomic=true", lines, &batch).await;
    assert_eq!((status, &told["code"]), (400, &"invalid_message".into()));
    assert_eq!(
        told["results"][0]["error"]["field"], "line_items.0.quantity",
        "{told}"
    );
    let addr = service.api_addr().unwrap();
    let (_, listed) = http::get(addr, "/ingest/status?status=failed")
        .await
        .unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["counts"], serde_json::json!({"failed": 1}));
    assert_eq!(listed["messages"][0]["message_id"], id);

    let stored = send(&service, JSON, &with_id(&order(7, 1))).await;
    assert_eq!(
        (&stored["status"], &stored["error"]),
        (&"processed".into(), &Value::Null)
    );
    pipeline.gives("SELECT count(*) FROM orders", 1).await;
    let question = format!("{{\"message_ids\":[\"{id}\"]}}");
    let (_, told) = post(&service, "/ingest/status", JSON, &question).await;
    assert_eq!(told["counts"], serde_json::json!({"processed": 1}));
    service.stop().await;
}
