//! `ponix status`: what the servers say of every pipeline.

use anyhow::{Result, ensure};
use ponix_faults::{Event, Poison, SOON, World};
use ponix_stack::eventually;
use serde_json::Value;

use crate::support::{ponix, run, world};

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
