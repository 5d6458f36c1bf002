//! Declared pipelines: any stream into any table, under the promises of the others.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use ponix_stack::eventually;
use tempfile::TempDir;

use crate::support::{SOON, Service, ServiceBuilder, World, http};

/// A folder with one document; `spec` stands behind its source.
fn folder(name: &str, spec: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), name, spec);
    folder
}

fn write(folder: &Path, name: &str, spec: &str) {
    let document = format!(
        "apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {{name: {name}}}
spec:
  source: {{stream: {name}, subjects: ['{name}.>'], consumer: workers, max_bytes: 16MiB}}
  dead_letters: {{stream: {name}_dlq, subject_prefix: {name}_dlq, max_bytes: 16MiB}}
  limits: {{linger: 200ms, ack_wait: 2s}}
{spec}"
    );
    std::fs::write(folder.join(format!("{name}.yaml")), document).unwrap();
}

const READINGS: &str = "
  http: {path: /v1/readings}
  decode: {format: json}
  sink:
    clickhouse:
      table: readings
      columns: {meter: String, read_at: \"DateTime64(3, 'UTC')\", value: Float64, data: JSON}
      identity: [meter, read_at]
      unknown_fields: json_column
      schema: create
";

fn service(world: &World, folder: &TempDir) -> ServiceBuilder {
    world
        .service()
        .env("PONIX_PIPELINES_DIR", folder.path().display())
}

fn reading(n: usize) -> String {
    format!(r#"{{"meter":"m{n}","read_at":"2026-03-01T12:00:00Z","value":{n}.5,"site":"north"}}"#)
}

async fn post(service: &Service, body: &str) -> (u16, String) {
    let headers = "Content-Type: application/x-ndjson\r\n";
    let addr = service.api_addr().unwrap();
    http::post(addr, "/v1/readings", headers, body)
        .await
        .unwrap()
}

async fn readings(world: &World, expected: u64) {
    eventually(format!("{expected} readings"), SOON, || async {
        let found = world.number("SELECT count() FROM readings FINAL").await?;
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn dead_letters(world: &World, stream: &str, expected: u64) {
    eventually(format!("{expected} dead letters"), SOON, || async {
        let stream = world.context().await.get_stream(stream).await?;
        let found = stream.get_info().await?.state.messages;
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_over_http_is_a_row_each_or_a_dead_letter() {
    let world = World::new("declared_http").await;
    let folder = folder("declared-http-m", READINGS);
    let service = service(&world, &folder).start_ready().await;
    let mut lines: Vec<String> = (0..100).map(reading).collect();
    lines.push(r#"{"meter":"bad","read_at":"2026-03-01T12:00:00Z","value":"much"}"#.into());
    // The same reading once more: one row.
    lines.push(reading(7));
    let (status, answer) = post(&service, &lines.join("\n")).await;
    assert_eq!(status, 202, "{answer}");
    readings(&world, 100).await;
    dead_letters(&world, "declared-http-m_dlq", 1).await;
    let row = "SELECT toString((meter, read_at, value, data.site)) FROM readings \
               WHERE meter = 'm7' LIMIT 1";
    assert_eq!(
        world.text(row).await,
        "('m7','2026-03-01 12:00:00.000',7.5,'north')"
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_every_pipeline_are_kept_as_long_as_is_said() {
    let world = World::new("declared_keep").await;
    let folder = folder("declared-keep-m", READINGS);
    let service = service(&world, &folder)
        .env("PONIX_NATS_DEAD_LETTER_KEEP_SECS", 600)
        .start_ready()
        .await;
    let context = world.context().await;
    for stream in [
        format!("{}_dlq", world.name),
        "declared-keep-m_dlq".to_owned(),
    ] {
        let stream = context.get_stream(&stream).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.max_age, Duration::from_mins(10), "{}", config.name);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_on_one_stream_are_counted_apart() {
    let world = World::new("declared_two").await;
    let folder = folder("declared-two-m", READINGS);
    // The same stream and dead letters of its own, by another consumer, into another table.
    let other = std::fs::read_to_string(folder.path().join("declared-two-m.yaml")).unwrap();
    let other = other
        .replace("name: declared-two-m}", "name: others}")
        .replace("consumer: workers", "consumer: others")
        .replace("declared-two-m_dlq", "others_dlq")
        .replace("http: {path: /v1/readings}", "")
        .replace("table: readings", "table: others")
        .replace("{meter: String", "{meter: FixedString(2)");
    std::fs::write(folder.path().join("others.yaml"), other).unwrap();
    let service = service(&world, &folder).start_ready().await;
    // Meters of three letters are dead letters of the second pipeline alone.
    let lines: Vec<String> = (8..12).map(reading).collect();
    let (status, answer) = post(&service, &lines.join("\n")).await;
    assert_eq!(status, 202, "{answer}");
    readings(&world, 4).await;
    dead_letters(&world, "others_dlq", 2).await;
    let of = |name: &str, pipeline: &str| {
        format!(r#"ponix_nats_{name}_total{{pipeline="{pipeline}",stream="declared-two-m"}}"#)
    };
    let metrics = service
        .metrics_when("both have settled all", |m| {
            m.get(&of("acked_messages", "declared-two-m")) == 4
                && m.get(&of("acked_messages", "others")) == 2
        })
        .await;
    assert_eq!(metrics.get(&of("received_messages", "others")), 4);
    for (pipeline, rows) in [("declared-two-m", 4), ("others", 2)] {
        let stored = format!(r#"ponix_clickhouse_rows_total{{pipeline="{pipeline}"}}"#);
        assert_eq!(metrics.get(&stored), rows, "{pipeline}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_each_reading_once() {
    let world = World::new("declared_kill").await;
    let folder = folder("declared-kill-m", READINGS);
    let first = service(&world, &folder)
        .env("FAILPOINTS", "after_insert=return")
        .start_ready()
        .await;
    let lines: Vec<String> = (0..500).map(reading).collect();
    // The answer may come or not: the worker ends between the INSERT and the acks.
    let headers = "Content-Type: application/x-ndjson\r\n";
    let addr = first.api_addr().unwrap();
    let _ = http::post(addr, "/v1/readings", headers, &lines.join("\n")).await;
    first.aborted().await;
    let second = service(&world, &folder).start_ready().await;
    let (status, answer) = post(&second, &lines.join("\n")).await;
    assert_eq!(status, 202, "{answer}");
    readings(&world, 500).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_at_fault_is_held_red_and_goes_on_after_the_mend() {
    let world = World::new("declared_fault").await;
    let folder = folder("declared-fault-m", READINGS);
    let service = service(&world, &folder).start_ready().await;
    post(&service, &reading(0)).await;
    readings(&world, 1).await;
    world
        .execute("ALTER TABLE readings ADD CONSTRAINT planted CHECK value < 0")
        .await;
    for n in 1..6 {
        post(&service, &reading(n)).await;
    }
    service
        .not_ready("the intake of declared-fault-m has stopped")
        .await;
    world
        .execute("ALTER TABLE readings DROP CONSTRAINT planted")
        .await;
    readings(&world, 6).await;
    dead_letters(&world, "declared-fault-m_dlq", 0).await;
    service.ready().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_is_held_until_it_is_back() {
    let world = World::new("declared_column").await;
    let folder = folder("declared-column-m", READINGS);
    let service = service(&world, &folder).start_ready().await;
    post(&service, &reading(0)).await;
    readings(&world, 1).await;
    world
        .execute("ALTER TABLE readings DROP COLUMN value")
        .await;
    post(&service, &reading(1)).await;
    service.not_ready("value").await;
    world
        .execute("ALTER TABLE readings ADD COLUMN value Float64")
        .await;
    readings(&world, 2).await;
    service.ready().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_keeps_copies_is_refused_with_one_that_does_not() {
    let world = World::new("declared_plain").await;
    world.migrate("up").await;
    world
        .execute(
            "CREATE TABLE readings (meter String, read_at DateTime64(3, 'UTC'), value Float64) \
             ENGINE = MergeTree ORDER BY meter",
        )
        .await;
    let spec = READINGS
        .replace("schema: create", "schema: require")
        .replace(", data: JSON", "")
        .replace("json_column", "ignore");
    let folder = folder("declared-plain-m", &spec);
    let (code, printed) = service(&world, &folder).run().await;
    assert_eq!(code, 1, "{printed}");
    for expected in [
        "pipeline declared-plain-m",
        "ReplacingMergeTree",
        "at_least_once",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_documents_are_a_wrong_configuration_told_at_once() {
    let world = World::new("declared_wrong").await;
    let folder = folder(
        "declared-wrong-a",
        &READINGS.replace("format: json", "format: jsn"),
    );
    write(
        folder.path(),
        "declared-wrong-b",
        &READINGS.replace("identity", "identitty"),
    );
    let (code, printed) = service(&world, &folder).run().await;
    assert_eq!(code, 64, "{printed}");
    for expected in ["declared-wrong-a.yaml:", "declared-wrong-b.yaml:"] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_on_the_consumer_of_a_built_in_one_is_refused() {
    let world = World::new("declared-clash").await;
    let folder = folder(&world.name, READINGS);
    let consumer = ("PONIX_NATS_CONSUMER", "workers");
    let check = service(&world, &folder).env(consumer.0, consumer.1);
    let (code, printed) = check.run().await;
    assert_eq!(code, 64, "{printed}");
    let expected = format!("consumer workers of stream {}", world.name);
    assert!(printed.contains(&expected), "{printed}");
    assert!(
        printed.contains("pipeline \"envelopes\" in (built in)"),
        "{printed}"
    );
}

const INTO_POSTGRES: &str = "
  http: {path: /v1/readings}
  decode: {format: json}
  sink:
    postgres:
      table: readings
      columns: {meter: text NOT NULL, read_at: timestamptz NOT NULL, value: double precision, data: jsonb}
      unknown_fields: json_column
      schema: create
";

#[tokio::test(flavor = "multi_thread")]
async fn readings_may_go_into_a_table_of_postgresql_each_once() {
    let world = World::new("declared_postgres").await;
    let postgres = ponix_stack::Postgres::start().await.unwrap();
    let folder = folder("pg-readings", INTO_POSTGRES);
    let start = || {
        service(&world, &folder)
            .env("PONIX_POSTGRES_URL", postgres.url())
            .env("PONIX_MESSAGES_ENABLED", false)
            .env("PONIX_CLICKHOUSE_ENABLED", false)
    };
    let first = start().start_ready().await;
    // Nothing of the raw messages, for which there are no entities.
    let messages = world.context().await.get_stream("MESSAGES").await;
    assert!(messages.is_err(), "{messages:?}");
    let lines: Vec<_> = (0..50).map(reading).collect();
    let (status, _) = post(&first, &lines.join("\n")).await;
    assert_eq!(status, 202);
    let wrong = reading(50).replace("50.5", "\"fifty\"");
    assert_eq!(post(&first, &wrong).await.0, 202);
    let number = async |sql: &str| {
        let connected = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await;
        let (client, connection) = connected?;
        tokio::spawn(connection);
        let row = client.query_one(sql, &[]).await?;
        anyhow::Ok(row.try_get::<_, i64>(0)?)
    };
    eventually("fifty readings", SOON, async || {
        let rows = number("SELECT count(*) FROM readings").await?;
        ensure!(rows == 50, "{rows} rows");
        Ok(())
    })
    .await
    .unwrap();
    first.kill().await;
    let again = start().start_ready().await;
    let (status, _) = post(&again, &reading(51)).await;
    assert_eq!(status, 202);
    eventually("one more, and none twice", SOON, async || {
        let rows = number("SELECT count(*) FROM readings").await?;
        ensure!(rows == 51, "{rows} rows");
        Ok(())
    })
    .await
    .unwrap();
    let site = "SELECT count(*) FROM readings WHERE data->>'site' = 'north' AND value = 7.5";
    assert_eq!(number(site).await.unwrap(), 1);
    let metrics = again.metrics_when("settled", |m| m.balance().1 > 0).await;
    drop(metrics);
    let dead = world
        .context()
        .await
        .get_stream("pg-readings_dlq")
        .await
        .unwrap();
    assert_eq!(dead.get_info().await.unwrap().state.messages, 1);
    again.stop().await;
    let reconcile = || start().args(&["reconcile"]).env("PONIX_LOG_LEVEL", "error");
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 0, "{report}");
    for line in ["stored           51", "dead letters     1"] {
        assert!(report.lines().any(|l| l == line), "{line}: {report}");
    }
    // Its row alone does not tell whose it is.
    number("WITH gone AS (DELETE FROM message_claims WHERE message_id = (SELECT min(message_id::text)::uuid FROM message_status WHERE status = 'processed') RETURNING 1) SELECT count(*) FROM gone")
        .await
        .unwrap();
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 1, "{report}");
    assert!(report.contains("\nlost             1\n"), "{report}");
}
