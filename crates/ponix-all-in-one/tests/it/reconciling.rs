//! The subcommand `reconcile`.

use crate::support::{World, numbered};

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
        .text("SELECT toString(min(event_id)) FROM envelopes")
        .await;
    world
        .execute(&format!(
            "DELETE FROM processed_envelopes WHERE event_id = '{lost}'"
        ))
        .await;
    let (code, report) = reconcile().run().await;
    assert_eq!(code, 1, "{report}");
    for line in ["lost             1", &format!("  {lost}"), "NOT sound"] {
        assert!(
            report.lines().any(|l| l == line),
            "{line} is not in\n{report}"
        );
    }
}
