//! `examples/pulse`, whole: its server, its streams, its pipelines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ponix_clickhouse::{ClickHouseConfig, Client};
use ponix_nats::async_nats::jetstream::Context;
use ponix_stack::{
    ClickHouse, Postgres, Process, eventually, free_addr, http_get, nats_server, workspace_binary,
};
use ponix_testkit::{SOON, Worker};
use serde_json::json;
use tempfile::TempDir;

use crate::streams::{nats_context, ok};
use crate::support::ponix_at;

const NOTHING: &str = "nothing to do: everything is as declared\n";

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/pulse")
        .join(path)
}

/// The server of the example, on ports and a store of its own.
async fn server() -> Result<(Process, String, TempDir)> {
    let (client, monitoring) = (free_addr()?, free_addr()?);
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("jetstream").display().to_string();
    let config = std::fs::read_to_string(example("nats.conf"))?;
    ensure!(config.contains("store_dir: /data/jetstream\n"), "{config}");
    let file = folder.path().join("nats.conf");
    std::fs::write(
        &file,
        config.replace("/data/jetstream", &format!("{store:?}")),
    )?;
    let process = Process::builder("pulse-nats", nats_server()?)
        .arg("-c")
        .arg(file)
        .args(["-a", "127.0.0.1", "-p", &client.port().to_string()])
        .args(["-m", &monitoring.port().to_string()])
        .start()?;
    eventually("the server", SOON, async || {
        http_get(monitoring, "/healthz?js-enabled-only=true").await
    })
    .await?;
    let varz: serde_json::Value = serde_json::from_str(&http_get(monitoring, "/varz").await?)?;
    let limits = &varz["jetstream"]["config"];
    ensure!(
        varz["server_name"] == "pulse-nats" && varz["max_connections"] == 1024,
        "{varz}"
    );
    ensure!(varz["max_payload"] == 1 << 20, "{varz}");
    ensure!(limits["max_memory"] == 256_u64 << 20, "{limits}");
    ensure!(limits["max_storage"] == 4_u64 << 30, "{limits}");
    Ok((process, format!("nats://{client}"), folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_made_twice_read_back_and_brings_rows() -> Result<()> {
    let (nats, url, _folder) = server().await?;
    let file = example("streams.yaml");
    let file = file.to_str().context("a path of ours")?;
    let first = ok(&url, &["streams", "apply", file]).await?;
    assert!(first.out.ends_with("8 done\n"), "{first:?}");
    assert_eq!(ok(&url, &["streams", "apply", file]).await?.out, NOTHING);
    read_back(&nats_context(&url).await?).await?;

    let (clickhouse, postgres) = tokio::try_join!(ClickHouse::start(), Postgres::start())?;
    let store = ClickHouseConfig {
        url: clickhouse.url(),
        database: "default".to_owned(),
        username: clickhouse.user().to_owned(),
        password: clickhouse.password().into(),
        ..ClickHouseConfig::default()
    };
    let store = Client::new(&store)?;
    store
        .raw()
        .query_raw("CREATE DATABASE pulse")
        .execute()
        .await?;
    let worker = start_worker(&url, &clickhouse, &postgres)?;
    worker.ready().await?;
    // The workers use what is there, as it is.
    assert_eq!(ok(&url, &["streams", "plan", file]).await?.out, NOTHING);

    send(&nats_context(&url).await?).await?;
    eventually("the readings", SOON, async || {
        let sql =
            "SELECT toString((count(), sum(data.temperature::Float64))) FROM pulse.telemetry FINAL";
        let found: String = store.raw().query_raw(sql).fetch_one().await?;
        ensure!(found == "(600,179700)", "{found}");
        Ok(())
    })
    .await?;
    eventually("the deliveries", SOON, async || {
        let (client, connection) =
            tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let sql = "SELECT count(*), count(DISTINCT route_id) FROM route_deliveries WHERE body->>'level' = '3'";
        let row = client.query_one(sql, &[]).await?;
        let found: (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        ensure!(found == (120, 120), "{found:?}");
        Ok(())
    })
    .await?;
    // What is delivered has left the work queue; what is stored stays for an hour.
    let context = nats_context(&url).await?;
    eventually("an empty work queue", SOON, async || {
        let left = context
            .get_stream("ROUTES")
            .await?
            .cached_info()
            .state
            .messages;
        ensure!(left == 0, "{left} left");
        Ok(())
    })
    .await?;
    assert_eq!(
        context
            .get_stream("TELEMETRY")
            .await?
            .cached_info()
            .state
            .messages,
        601
    );
    let dead = context.get_stream("TELEMETRY_DLQ").await?;
    assert_eq!(dead.cached_info().state.messages, 1);
    worker.stop().await?;
    nats.stop().await?;
    Ok(())
}

/// What was declared is what the server has, said once more in its own words.
async fn read_back(context: &Context) -> Result<()> {
    let stream = |subjects: &str, retention: &str, bytes: u64, hours: u64| {
        json!({
            "subjects": [subjects], "retention": retention, "storage": "file", "num_replicas": 1,
            "max_bytes": bytes, "max_age": hours * 3_600_000_000_000,
            "discard": if retention == "workqueue" { "new" } else { "old" },
            "duplicate_window": 120_000_000_000_u64,
        })
    };
    for (name, wanted, per_subject) in [
        (
            "TELEMETRY",
            stream("telemetry.>", "limits", 1 << 30, 1),
            100_000,
        ),
        ("SHADOW", stream("shadow.>", "limits", 256 << 20, 1), 10_000),
        (
            "COMMANDS",
            stream("commands.>", "limits", 256 << 20, 1),
            10_000,
        ),
        ("ROUTES", stream("routes.>", "workqueue", 512 << 20, 24), -1),
    ] {
        let found = context.get_stream(name).await?.cached_info().config.clone();
        assert!(!found.deny_delete && !found.deny_purge, "{name}");
        let found = serde_json::to_value(found)?;
        for (key, value) in wanted.as_object().context("an object")? {
            assert_eq!(&found[key], value, "{name}: {key}");
        }
        assert_eq!(found["max_msgs_per_subject"], per_subject, "{name}");
    }
    for (stream, consumer, deliveries, pending) in [
        ("TELEMETRY", "ingest-workers", 3, 1_000),
        ("SHADOW", "ingest-shadow", -1, 1_000),
        ("COMMANDS", "ingest-commands", -1, 1_000),
        ("ROUTES", "route-delivery", 3, 100),
    ] {
        let stream = context.get_stream(stream).await?;
        let found = serde_json::to_value(stream.consumer_info(consumer).await?.config)?;
        assert_eq!(
            found["max_deliver"].as_i64().unwrap_or(-1),
            deliveries,
            "{consumer}"
        );
        assert_eq!(found["max_ack_pending"], pending, "{consumer}");
        assert_eq!(found["ack_policy"], "explicit", "{consumer}");
        assert_eq!(found["deliver_policy"], "all", "{consumer}");
        assert_eq!(found["ack_wait"], 30_000_000_000_u64, "{consumer}");
    }
    Ok(())
}

/// The service as docker-compose.yaml has it.
fn start_worker(url: &str, clickhouse: &ClickHouse, postgres: &Postgres) -> Result<Worker> {
    let env = [
        ("PONIX_NATS_URL", url.to_owned()),
        (
            "PONIX_PIPELINES_DIR",
            example("pipelines").display().to_string(),
        ),
        ("PONIX_CLICKHOUSE_URL", clickhouse.url()),
        ("PONIX_CLICKHOUSE_DATABASE", "pulse".to_owned()),
        ("PONIX_CLICKHOUSE_USERNAME", clickhouse.user().to_owned()),
        (
            "PONIX_CLICKHOUSE_PASSWORD",
            clickhouse.password().to_owned(),
        ),
        ("PONIX_CLICKHOUSE_ENABLED", "false".to_owned()),
        ("PONIX_POSTGRES_URL", postgres.url()),
        ("PONIX_MESSAGES_ENABLED", "false".to_owned()),
        ("PONIX_INGEST_ENABLED", "false".to_owned()),
        ("PONIX_INTERVAL_SECS", "0".to_owned()),
    ];
    let env: BTreeMap<_, _> = env.map(|(name, value)| (name.to_owned(), value)).into();
    Worker::start(&workspace_binary("ponix-all-in-one")?, &[], &env)
}

/// 600 readings, one of them no JSON, and 120 deliveries.
async fn send(context: &Context) -> Result<()> {
    for n in 0..600 {
        let reading = json!({
            "tenant_id": "acme", "device_id": format!("pump-{}", n % 7), "temperature": n,
            "recorded_at": format!("2026-03-01T12:{:02}:{:02}Z", n / 60, n % 60),
        });
        context
            .publish("telemetry.acme", reading.to_string().into())
            .await?
            .await?;
    }
    context
        .publish("telemetry.acme", "no reading".into())
        .await?
        .await?;
    for n in 0..120 {
        let route = json!({
            "route_id": format!("r-{n}"), "tenant_id": "acme", "body": { "level": 3 },
            "target": "https://acme.example/hook", "requested_at": "2026-03-01T12:00:00Z",
        });
        context
            .publish("routes.acme.hooks", route.to_string().into())
            .await?
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn its_files_are_right_and_say_the_same() -> Result<()> {
    let file = example("streams.yaml");
    let said = ponix_at("", &["streams", "check", file.to_str().context("a path")?]).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out, "4 streams and 4 consumers, nothing wrong\n");
    // What people without Ponix make is the same.
    let script = std::fs::read_to_string(example("init-streams.sh"))?;
    let declared = std::fs::read_to_string(&file)?;
    for name in ["TELEMETRY", "SHADOW", "COMMANDS", "ROUTES"] {
        assert!(script.contains(&format!("\nstream {name} ")), "{name}");
        assert!(declared.contains(&format!("- name: {name}\n")), "{name}");
    }
    for name in [
        "ingest-workers",
        "ingest-shadow",
        "ingest-commands",
        "route-delivery",
    ] {
        assert!(script.contains(&format!(" {name} ")), "{name}");
        assert!(declared.contains(&format!("- durable: {name}")), "{name}");
    }
    let checked = std::process::Command::new(workspace_binary("ponix-all-in-one")?)
        .args(["pipelines", "test"])
        .arg(example("pipelines"))
        .output()?;
    ensure!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    Ok(())
}

/// The script against a stand-in for `nats` that keeps what it has made in a file.
#[test]
fn the_script_makes_what_is_missing_and_stops_at_the_first_error() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    const STAND_IN: &str = r#"#!/usr/bin/env bash
echo "$*" >> "$FOLDER/calls"
case "$*" in
  *"$FAILS"*) exit 7 ;;
  "stream ls --names") cat "$FOLDER/streams" 2>/dev/null || true ;;
  "consumer ls "*) cat "$FOLDER/consumers" 2>/dev/null || true ;;
  "stream add "*) echo "$3" >> "$FOLDER/streams" ;;
  "consumer add "*) echo "$4" >> "$FOLDER/consumers" ;;
esac
"#;
    let folder = tempfile::tempdir()?;
    let stand_in = folder.path().join("nats");
    std::fs::write(&stand_in, STAND_IN)?;
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))?;
    let run = |fails: &str| -> Result<(Option<i32>, String)> {
        let status = std::process::Command::new("bash")
            .arg(example("init-streams.sh"))
            .env("NATS_CLI", &stand_in)
            .env("FOLDER", folder.path())
            .env("FAILS", fails)
            .status()?;
        let calls = std::fs::read_to_string(folder.path().join("calls"))?;
        std::fs::remove_file(folder.path().join("calls"))?;
        Ok((status.code(), calls))
    };
    let count = |calls: &str, what: &str| calls.lines().filter(|l| l.starts_with(what)).count();
    let (code, calls) = run("no such call")?;
    assert_eq!(code, Some(0), "{calls}");
    let made = (count(&calls, "stream add"), count(&calls, "consumer add"));
    assert_eq!(made, (4, 4), "{calls}");
    let (code, calls) = run("no such call")?;
    assert_eq!(code, Some(0), "{calls}");
    let again = (count(&calls, "stream edit"), count(&calls, "consumer edit"));
    assert_eq!(again, (4, 4), "{calls}");
    assert_eq!(count(&calls, "stream add"), 0, "{calls}");
    // The script it replaces went on, and ROUTES was never there.
    for fails in ["account info", "stream edit ROUTES"] {
        let (code, calls) = run(fails)?;
        assert_eq!(code, Some(7), "{calls}");
        assert_eq!(count(&calls, "consumer"), 0, "{calls}");
    }
    Ok(())
}

/// The script with the real `nats`, where it is installed: what it makes is what the file declares.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_makes_what_the_file_declares() -> Result<()> {
    if std::process::Command::new("nats")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: nats is not on PATH");
        return Ok(());
    }
    let nats = ponix_stack::Nats::start().await?;
    for _ in 0..2 {
        let script = tokio::process::Command::new("bash")
            .arg(example("init-streams.sh"))
            .env("NATS_URL", nats.url())
            .output()
            .await?;
        ensure!(script.status.success(), "{script:?}");
    }
    let file = example("streams.yaml");
    let args = ["streams", "plan", file.to_str().context("a path")?];
    assert_eq!(ok(&nats.url(), &args).await?.out, NOTHING);
    Ok(())
}
