//! `ponix status`: what the servers say of every pipeline.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::TryStreamExt as _;
use ponix_faults::{Event, Poison, SOON, World};
use ponix_nats::async_nats::jetstream::consumer::pull;
use ponix_nats::async_nats::jetstream::{AckKind, stream};
use ponix_stack::{Nats, eventually};
use serde_json::{Value, json};

use crate::streams::nats_context;
use crate::support::{ponix, ponix_whole, run, world};

/// The report on the envelopes and the exit code.
async fn envelopes(world: &World) -> Result<(Value, Vec<Value>, Option<i32>)> {
    let said = ponix(world, &["status", "--json"]).await?;
    let mut objects = said.objects();
    let findings = objects.pop().map(|last| last["findings"].clone());
    let findings = findings.and_then(|findings| findings.as_array().cloned());
    let report = objects
        .into_iter()
        .find(|one| one["pipeline"] == "envelopes");
    Ok((
        report.unwrap_or_default(),
        findings.unwrap_or_default(),
        said.code,
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flows_what_waits_and_what_is_dead_is_shown() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    world
        .publishing()
        .publish((0..100).map(Event::good))
        .await?;
    world.settled().await?;
    let (report, findings, code) = envelopes(&world).await?;
    assert_eq!(
        (code, findings.len()),
        (Some(0), 0),
        "{report}: {findings:?}"
    );
    assert_eq!(report["messages"], 100);
    let consumer = &report["consumers"][0];
    assert_eq!(
        (&consumer["name"], &consumer["pending"]),
        (&"ponix-all-in-one".into(), &0.into())
    );
    assert!(consumer["last_ack"].is_string(), "{consumer}");

    world
        .publishing()
        .publish([Event::poison(0, Poison::Undecodable)])
        .await?;
    world.settled().await?;
    worker.stop().await?;
    world.publishing().publish((0..7).map(Event::good)).await?;
    eventually("what waits is shown, with its age", SOON, async || {
        let (report, findings, code) = envelopes(&world).await?;
        let consumer = &report["consumers"][0];
        ensure!(consumer["pending"] == 7 && code == Some(3), "{report}");
        ensure!(consumer["lag_seconds"].as_f64() > Some(0.0), "{report}");
        ensure!(report["dead_letters"] == 1, "{report}");
        ensure!(
            findings == ["1 dead letters: ponix dlq ls --pipeline envelopes"],
            "{findings:?}"
        );
        Ok(())
    })
    .await?;
    let shown = ponix(&world, &["status"]).await?;
    for text in [
        "PIPELINE",
        "envelopes",
        "ponix-all-in-one",
        "! 1 dead letters",
    ] {
        assert!(shown.out.contains(text), "{text}: {shown:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flows_is_shown_as_it_changes() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    let admin = [("PONIX_ADMIN_ADDR", worker.admin_addr().to_string())];
    let url = world.nats_servers().url();
    let args = ["top", "--json", "--every", "1s", "--count", "6"];
    let top = run(&url, &args, "", &admin);
    let publish = async {
        for number in 0.. {
            world.publishing().publish([Event::good(number)]).await?;
        }
        anyhow::Ok(())
    };
    let said = tokio::select! {
        said = top => said?,
        published = publish => anyhow::bail!("published ended: {published:?}"),
    };
    let objects = said.objects();
    assert_eq!((objects.len(), said.code), (6, Some(0)), "{said:?}");
    let rows = objects.iter().filter_map(|one| one["pipelines"].as_array());
    let stored = rows.flatten().filter(|row| row["pipeline"] == "envelopes");
    let stored = stored.filter_map(|row| row["rates"]["stored_per_s"].as_f64());
    assert!(stored.sum::<f64>() > 0.0, "{said:?}");
    let said = ponix(&world, &["top"]).await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("needs a terminal"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_reasons_and_tables_are_shown() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    let admin = worker.admin_addr().to_string();
    let poison = [
        Poison::Undecodable,
        Poison::Undecodable,
        Poison::MissingField,
    ];
    let poison = poison.map(|poison| Event::poison(0, poison));
    world.publishing().publish(poison).await?;
    let publish = async {
        for number in 0.. {
            world.publishing().publish([Event::good(number)]).await?;
        }
        anyhow::Ok(())
    };
    let looks = eventually("what the pipeline does", SOON, async || {
        let said = ponix_whole(&world, &admin, &["status", "--json"]).await?;
        let objects = said.objects();
        let report = objects.iter().find(|one| one["pipeline"] == "envelopes");
        let report = report.unwrap_or(&Value::Null);
        let expected = json!({ "decode": 2, "missing_field": 1 });
        ensure!(report["dead_letters_by_reason"] == expected, "{report}");
        ensure!(report["stored_per_s"].as_f64() > Some(0.0), "{report}");
        let tables = &objects[objects.len() - 1]["tables"];
        ensure!(
            tables[0]["table"] == "ponix.processed_envelopes",
            "{tables}"
        );
        ensure!(tables[0]["rows"].as_u64() > Some(0), "{tables}");
        ensure!(tables[0]["parts"].as_u64() > Some(0), "{tables}");
        Ok(())
    });
    tokio::select! {
        looked = looks => looked?,
        published = publish => anyhow::bail!("published ended: {published:?}"),
    }
    let shown = ponix_whole(&world, &admin, &["status"]).await?.out;
    for text in ["ROWS/S", "2 decode, 1 missing_field", "IN ONE PARTITION"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    world.execute("DROP TABLE processed_envelopes").await?;
    world.publishing().publish([Event::good(0)]).await?;
    eventually("what is held, since when and why", SOON, async || {
        let shown = ponix_whole(&world, &admin, &["status"]).await?.out;
        let held = "! the intake of envelopes has stopped, since 20";
        ensure!(
            shown.contains(held) && shown.contains("NOT ready"),
            "{shown}"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

const QUEUE: &str = "
apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: jobs}
spec:
  source: {stream: JOBS, subjects: [jobs.>], consumer: workers}
  decode: {format: json}
  sink: {clickhouse: {table: jobs, columns: {id: String}, identity: [id], schema: create}}
";

/// Nothing pending, and yet not all is well.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_pending_is_told_from_nothing_seen() -> Result<()> {
    let nats = Nats::start().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("jobs.yaml"), QUEUE)?;
    let context = nats_context(&nats.url()).await?;
    let queue = context
        .create_stream(stream::Config {
            name: "JOBS".to_owned(),
            subjects: vec!["jobs.>".to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        })
        .await?;
    let workers = pull::Config {
        durable_name: Some("workers".to_owned()),
        filter_subject: "jobs.a".to_owned(),
        max_deliver: 1,
        ..pull::Config::default()
    };
    let consumer = queue.create_consumer(workers).await?;
    let status = async || {
        let env = [("PONIX_PIPELINES_DIR", folder.path().display().to_string())];
        let said = run(&nats.url(), &["status", "--json"], "", &env).await?;
        let mut objects = said.objects();
        let findings = objects.pop().map(|last| last["findings"].to_string());
        let report = objects.into_iter().find(|one| one["pipeline"] == "jobs");
        anyhow::Ok((report.unwrap_or_default(), findings.unwrap_or_default()))
    };
    for _ in 0..3 {
        context.publish("jobs.a", "{}".into()).await?.await?;
    }
    let (report, findings) = status().await?;
    assert_eq!(report["consumers"][0]["pending"], 3, "{report}");
    assert_eq!((&report["nowhere"], &findings[..]), (&json!(0), "[]"));
    // Delivered as often as the server does it, and not acked.
    let messages: Vec<_> = consumer
        .batch()
        .max_messages(3)
        .messages()
        .await?
        .try_collect()
        .await
        .map_err(|err| anyhow::anyhow!(err))?;
    for message in &messages {
        let kind = AckKind::Nak(None);
        message
            .ack_with(kind)
            .await
            .map_err(|err| anyhow::anyhow!(err))?;
    }
    eventually("what was given up", SOON, async || {
        // The server gives a message up when it is asked for more.
        let asked = consumer.batch().max_messages(1);
        let asked = asked.expires(Duration::from_millis(200)).messages().await?;
        let more: Vec<_> = asked
            .try_collect()
            .await
            .map_err(|err| anyhow::anyhow!(err))?;
        ensure!(more.is_empty(), "{more:?}");
        let (report, findings) = status().await?;
        ensure!(report["consumers"][0]["pending"] == 0, "{report}");
        ensure!(report["nowhere"] == 3, "{report}");
        ensure!(
            findings.contains("about 3 messages that nobody gets any more"),
            "{findings}"
        );
        Ok(())
    })
    .await?;
    queue.purge().await?;
    // A subject that nobody reads.
    context.publish("jobs.b", "{}".into()).await?.await?;
    let (report, findings) = status().await?;
    assert_eq!(report["nowhere"], 1, "{report} {findings}");
    queue.purge().await?;

    let blind = pull::Config {
        durable_name: Some("blind".to_owned()),
        filter_subject: "other.>".to_owned(),
        ..pull::Config::default()
    };
    queue.create_consumer(blind).await?;
    let (report, findings) = status().await?;
    let blind = &report["consumers"][0];
    assert_eq!(
        (&blind["name"], &blind["pending"]),
        (&"blind".into(), &Value::Null)
    );
    assert!(
        findings.contains("reads other.>, and the stream takes jobs.>"),
        "{findings}"
    );
    let env = [("PONIX_PIPELINES_DIR", folder.path().display().to_string())];
    let shown = run(&nats.url(), &["status"], "", &env).await?;
    assert!(shown.out.contains("cannot see"), "{shown:?}");
    Ok(())
}
