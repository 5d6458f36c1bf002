//! The subcommand `reconcile`.

use ponix_nats::OutgoingMessage;
use ponix_nats::async_nats::HeaderMap;
use ponix_wire::Message as _;
use serde_json::json;
use uuid::Uuid;

use crate::support::{START_NS, World, envelope, numbered};

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
