//! The subcommand `reconcile`.

use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap;
use ponix_stack::eventually;
use ponix_wire::Message as _;
use serde_json::json;
use uuid::Uuid;

use crate::support::{SOON, START_NS, World, envelope, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_or_dead_is_sound_and_what_is_lost_is_named() {
    let world = World::new("reconciling").await;
    let service = world.service().start_ready().await;
    world.publish(numbered(50)).await;
    world.publish_bodies([b"bad".to_vec()]).await;
    world.settled().await;
    service.stop().await;
    let reconcile = || {
        world
            .service()
            .args(&["reconcile"])
            .env("PONIX_LOG_LEVEL", "error")
    };
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 0, "{report}");
    for line in [
        "stored           50",
        "dead letters     1",
        "lost             0",
    ] {
        assert!(
            report.lines().any(|l| l == line),
            "{line} is not in\n{report}"
        );
    }

    assert!(!report.contains("purged unread"), "{report}");

    let stream = world.context().await.get_stream(world.stream().name);
    let stream = stream.await.unwrap();
    stream.delete_message(51).await.unwrap(); // the last: the bad one
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 0, "{report}");
    assert!(report.contains("\npurged unread    1 "), "{report}");

    let lost = world
        .text("SELECT toString(event_id) FROM envelopes WHERE data.n = 17")
        .await;
    world
        .execute(&format!(
            "DELETE FROM processed_envelopes WHERE event_id = '{lost}'"
        ))
        .await;
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 1, "{report}");
    let example = format!("  {lost} organization \"org-7\", device \"device-17\"");
    for line in ["lost             1", &example, "NOT sound"] {
        assert!(
            report.lines().any(|l| l == line),
            "{line} is not in\n{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_in_two_organizations_is_two_events() {
    let world = World::new("reconciling_one_id").await;
    let service = world.service().start_ready().await;
    let id = Uuid::now_v7();
    let body = |organization: &str| {
        let mut event = envelope(organization, "device", START_NS, &json!({ "n": 1 }));
        event.event_id = id.to_string();
        event.encode_to_vec()
    };
    world.publish_bodies([body("org-a"), body("org-b")]).await;
    // Two that cannot be decoded, with the id of the others, and one of them once more.
    for bad in ["bad a", "bad b", "bad a"] {
        let mut headers = HeaderMap::new();
        headers.insert("Ponix-Message-Id", id.to_string());
        let message = OutgoingMessage {
            subject: format!("{}.device", world.name),
            id: None,
            headers,
            payload: bad.into(),
        };
        world.jetstream().await.1.publish(message).await.unwrap();
    }
    world.settled().await;
    service.stop().await;
    assert_eq!(world.dead_letters().await.len(), 2);
    let reconcile = || {
        world
            .service()
            .args(&["reconcile"])
            .env("PONIX_LOG_LEVEL", "error")
    };
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 0, "{report}");
    for line in ["stored           2", "dead letters     2"] {
        assert!(
            report.lines().any(|l| l == line),
            "{line} is not in\n{report}"
        );
    }

    world
        .execute("DELETE FROM processed_envelopes WHERE organization_id = 'org-b'")
        .await;
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 1, "{report}");
    let example = format!("  {id} organization \"org-b\", device \"device\"");
    for line in ["lost             1", &example] {
        assert!(
            report.lines().any(|l| l == line),
            "{line} is not in\n{report}"
        );
    }
}

const METERS: &str = "apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: meters}
spec:
  source: {stream: NAME_m, subjects: ['NAME_m.>'], filter: 'NAME_m.read.*', consumer: workers, max_bytes: 16MiB}
  dead_letters: {stream: NAME_dead, subject_prefix: NAME_dead, max_bytes: 16MiB}
  limits: {linger: 200ms}
  decode: {format: json}
  sink:
    clickhouse:
      table: meters
      columns: {meter: String, read_at: DateTime, value: Float64}
      identity: [meter, read_at]
      schema: create
";

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_pipeline_is_judged_by_the_identity_of_its_table() {
    let world = World::new("reconciling_declared").await;
    let folder = tempfile::tempdir().unwrap();
    let document = METERS.replace("NAME", &world.name);
    std::fs::write(folder.path().join("meters.yaml"), document).unwrap();
    let service = || {
        let dir = folder.path().display();
        world.service().env("PONIX_PIPELINES_DIR", dir)
    };
    let reconcile = |pipeline: &'static str| {
        let service = service().env("PONIX_LOG_LEVEL", "error");
        async move {
            let run = service.args(&["reconcile", "--pipeline", pipeline]).run();
            run.await
        }
    };
    let reading = |meter: &str, value: &str| {
        format!(r#"{{"meter":"{meter}","read_at":"2026-03-01T12:00:00Z","value":{value}}}"#)
    };
    let running = service().start_ready().await;
    let publish = async |subject: &str, bodies: &[String]| {
        for body in bodies {
            let message = OutgoingMessage {
                subject: format!("{}_m.{subject}", world.name),
                id: None,
                headers: HeaderMap::new(),
                payload: body.clone().into(),
            };
            world.jetstream().await.1.publish(message).await.unwrap();
        }
    };
    // One more copy, one mended and sent again with its identity, one that the pipeline does not read.
    let bodies = [
        reading("a", "1"),
        reading("b", "1"),
        reading("b", "1"),
        reading("c", "\"much\""),
        reading("c", "2"),
        "no JSON".to_owned(),
    ];
    publish("read.x", &bodies).await;
    publish("other.x", &[reading("unread", "1")]).await;
    let settle = async || {
        eventually("every reading settled", SOON, || async {
            let stream = world
                .context()
                .await
                .get_stream(format!("{}_m", world.name));
            let info = stream.await?.consumer_info("workers").await?;
            anyhow::ensure!(info.num_pending + info.num_ack_pending as u64 == 0);
            Ok(())
        })
        .await
        .unwrap();
    };
    settle().await;
    running.stop().await;
    // That a row never was in the stream is not what is asked.
    world
        .execute("INSERT INTO meters (meter, read_at, value) VALUES ('made up', 1, 1)")
        .await;
    let (code, report) = reconcile("meters").await;
    assert_eq!(code, 0, "{report}");
    let expect = |report: &str, lines: &[&str]| {
        for line in lines {
            assert!(report.lines().any(|l| l == *line), "{line}: {report}");
        }
    };
    expect(&report, &["stored           3", "dead letters     2"]);

    world.execute("DELETE FROM meters WHERE meter = 'a'").await;
    let (code, report) = reconcile("meters").await;
    assert_eq!(code, 1, "{report}");
    let a = r#"  {"meter":"a","read_at":"2026-03-01T12:00:00Z"}"#;
    expect(
        &report,
        &["lost             1", a, "in both places   0", "NOT sound"],
    );

    // A letter of an event that is in the table all the same.
    let mut headers = HeaderMap::new();
    headers.insert("Ponix-Reason", "value");
    headers.insert("Ponix-Stream", "another");
    let letter = OutgoingMessage {
        subject: format!("{}_dead.planted", world.name),
        id: None,
        headers,
        payload: reading("b", "1").into(),
    };
    world.jetstream().await.1.publish(letter).await.unwrap();
    let (code, report) = reconcile("meters").await;
    assert_eq!(code, 1, "{report}");
    let b = r#"  {"meter":"b","read_at":"2026-03-01T12:00:00Z"}"#;
    expect(&report, &["in both places   1", b]);

    let (code, report) = reconcile("metres").await;
    assert_eq!(code, 1, "{report}");
    assert!(
        report.contains("only envelopes, messages, meters"),
        "{report}"
    );
}
