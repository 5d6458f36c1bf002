//! `ponix doctor`: each thing that goes wrong is found, and said what to do about.

use anyhow::{Context as _, Result, ensure};
use ponix_clickhouse::{ClickHouseConfig, Client};
use ponix_stack::{ClickHouse, Nats};
use serde_json::Value;

use crate::streams::{File, declared, nats_context, ok};
use crate::support::run;

const DOCUMENT: &str = "
apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: readings}
spec:
  source: {stream: READINGS, subjects: [readings.>], consumer: workers}
  dead_letters: {stream: READINGS_DLQ, subject_prefix: readings_dlq}
  decode: {format: json}
  sink:
    clickhouse:
      table: readings
      columns: {meter: String, read_at: \"DateTime64(3, 'UTC')\", value: Float64}
      identity: [meter, read_at]
      schema: create
  limits: {batch_messages: 100, in_flight: 2, ack_wait: 30s, max_ack_pending: 400}
";

struct Scene {
    nats: Nats,
    store: Client,
    clickhouse: ClickHouse,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Result<Self> {
        let nats = Nats::builder().max_file_store(64 << 20).start();
        let (nats, clickhouse) = tokio::try_join!(nats, ClickHouse::start())?;
        let config = ClickHouseConfig {
            url: clickhouse.url(),
            database: "default".to_owned(),
            username: clickhouse.user().to_owned(),
            password: clickhouse.password().into(),
            ..ClickHouseConfig::default()
        };
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("readings.yaml"), DOCUMENT)?;
        Ok(Self {
            store: Client::new(&config)?,
            nats,
            clickhouse,
            folder,
        })
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.store.raw().query_raw(sql).execute().await?)
    }

    /// What is found, and the exit code.
    async fn doctor(&self) -> Result<(Vec<Value>, Option<i32>)> {
        let monitoring = self.nats.monitoring_url();
        let monitoring = monitoring.strip_prefix("http://").context("a URL")?;
        let env = [
            (
                "PONIX_PIPELINES_DIR",
                self.folder.path().display().to_string(),
            ),
            ("PONIX_CLICKHOUSE_URL", self.clickhouse.url()),
            ("PONIX_CLICKHOUSE_DATABASE", "default".to_owned()),
            (
                "PONIX_CLICKHOUSE_USERNAME",
                self.clickhouse.user().to_owned(),
            ),
            (
                "PONIX_CLICKHOUSE_PASSWORD",
                self.clickhouse.password().to_owned(),
            ),
        ];
        let args = ["doctor", "--json", "--monitoring", monitoring];
        let said = run(&self.nats.url(), &args, "", &env).await?;
        ensure!(said.err.is_empty(), "{said:?}");
        Ok((said.objects(), said.code))
    }
}

/// Whether something with these words is found.
fn has(found: &[Value], about: &str, words: &str, is_wrong: bool) -> bool {
    found.iter().any(|one| {
        let text = one["finding"].as_str().unwrap_or_default();
        let advice = one["advice"].as_str().unwrap_or_default();
        one["about"] == about
            && text.contains(words)
            && one["wrong"] == is_wrong
            && !advice.is_empty()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_in_a_way_that_goes_wrong_is_found() -> Result<()> {
    let scene = Scene::start().await?;
    let url = scene.nats.url();
    let file = File::new(&declared(
        "    - { name: READINGS, subjects: [readings.>], max_age: 2s, max_bytes: 4KiB, consumers: \
         [{ durable: workers, filters: [readings.>], max_ack_pending: 100, ack_wait: 10s, max_deliver: 3 }] }\n",
    ))?;
    ok(&url, &["streams", "apply", file.path()]).await?;
    scene.execute("CREATE TABLE readings (meter String, read_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY meter").await?;
    scene
        .execute("CREATE TABLE counts (n UInt64) ENGINE = Memory")
        .await?;
    scene
        .execute("CREATE MATERIALIZED VIEW counting TO counts AS SELECT count() AS n FROM readings")
        .await?;
    let context = nats_context(&url).await?;
    for _ in 0..4 {
        context
            .publish("readings.a", vec![b'x'; 900].into())
            .await?
            .await?;
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let (found, code) = scene.doctor().await?;
    assert_eq!(code, Some(3), "{found:#?}");
    let (consumer, table) = ("consumer READINGS/workers", "table default.readings");
    for (about, words, is_wrong) in [
        ("NATS", "temporary folder", true),
        ("stream READINGS", "syncs it every 2m", false),
        ("stream READINGS", "drops its oldest", true),
        (
            consumer,
            "behind, and the stream drops events after 2s",
            true,
        ),
        (consumer, "lets 100 events be unsettled", true),
        (consumer, "delivers again after 10s", true),
        (consumer, "gives an event up after 3 deliveries", true),
        (table, "engine MergeTree keeps every copy", true),
        (table, "its sorting key (meter) has no [\"read_at\"]", true),
        (table, "has no column value", true),
        (table, "views are fed by its INSERTs: counting", false),
        ("pipeline messages", "there is no stream MESSAGES", false),
    ] {
        assert!(
            has(&found, about, words, is_wrong),
            "{about}: {words}: {found:#?}"
        );
    }
    let clock = found.iter().any(|one| one["about"] == "clock");
    assert!(!clock, "{found:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_or_read_is_said() -> Result<()> {
    let scene = Scene::start().await?;
    let url = scene.nats.url();
    let file = File::new(&declared(
        "    - { name: READINGS, subjects: [readings.>] }\n",
    ))?;
    ok(&url, &["streams", "apply", file.path()]).await?;
    let by_hand = ponix_nats::async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("workers".to_owned()),
        filter_subject: "elsewhere".to_owned(),
        ..Default::default()
    };
    let stream = nats_context(&url).await?.get_stream("READINGS").await?;
    stream.create_consumer(by_hand).await?;
    scene.clickhouse.stop().await?;
    let env = [
        (
            "PONIX_PIPELINES_DIR",
            scene.folder.path().display().to_string(),
        ),
        ("PONIX_CLICKHOUSE_URL", scene.clickhouse.url()),
    ];
    let args = ["doctor", "--json", "--monitoring", "127.0.0.1:1"];
    let said = run(&url, &args, "", &env).await?;
    let found = said.objects();
    assert_eq!(said.code, Some(3), "{said:?}");
    let consumer = "consumer READINGS/workers";
    assert!(
        has(&found, consumer, "filter elsewhere is outside", true),
        "{said:?}"
    );
    let nats = format!("NATS at {url}");
    assert!(
        has(&found, &nats, "cannot be seen: 127.0.0.1:1", false),
        "{said:?}"
    );
    let store = format!("ClickHouse at {}", scene.clickhouse.url());
    assert!(has(&found, &store, "cannot be asked", true), "{said:?}");
    stream.delete_consumer("workers").await?;
    let said = run(&url, &["doctor"], "", &env).await?;
    let none = "! pipeline readings: there is no consumer workers: nothing reads stream READINGS\n";
    assert!(said.out.contains(none), "{said:?}");
    assert!(said.out.ends_with("to be known\n"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_are_named() -> Result<()> {
    let users = "authorization { users: [{ user: u, password: p, \
                 permissions: { publish: { deny: [\"$JS.API.STREAM.INFO.>\"] } } }] }\n";
    let nats = Nats::builder().config(users).start().await?;
    let url = nats.url().replace("nats://", "nats://u:p@");
    let args = [
        "doctor",
        "--json",
        "--timeout",
        "500ms",
        "--monitoring",
        "127.0.0.1:1",
    ];
    let said = run(
        &url,
        &args,
        "",
        &[("PONIX_CLICKHOUSE_ENABLED", "false".to_owned())],
    )
    .await?;
    assert_eq!(said.code, Some(3), "{said:?}");
    let found = said.objects();
    assert!(
        has(&found, "pipeline envelopes", "cannot be looked at", true),
        "{said:?}"
    );
    let advice = found[0]["advice"].as_str().unwrap_or_default();
    assert!(
        advice.contains("$JS.API.STREAM.INFO.processed_envelopes"),
        "{said:?}"
    );
    Ok(())
}
