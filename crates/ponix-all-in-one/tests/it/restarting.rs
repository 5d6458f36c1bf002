//! A second run on the same data.

use crate::support::{World, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_stores_nothing_twice() {
    let world = World::new("restarting").await;
    world.tables_that_keep_copies().await;
    let service = world.service().start_ready().await;
    world.publish(numbered(500)).await;
    world.stored(500).await;
    service.stop().await;

    let service = world.service().start_ready().await;
    world.publish(numbered(501).skip(500)).await;
    world.stored(501).await;
    world.settled().await;
    let metrics = service.metrics_when("one ack", |m| m.acked() == 1).await;
    assert_eq!(metrics.sum("ponix_nats_received_messages_total"), 1);
    assert_eq!(world.copies().await, 501);
    // Nothing was made anew or changed.
    let log = service.log();
    for line in [
        "migration applied",
        "created",
        "updated to the configuration",
    ] {
        assert!(!log.contains(line), "{line} in\n{log}");
    }
    service.stop().await;
}
