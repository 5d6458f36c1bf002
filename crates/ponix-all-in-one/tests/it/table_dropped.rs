//! A table that goes away, and comes back.

use crate::support::{World, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_table_the_intake_stops_and_goes_on_by_itself_later() {
    let world = World::new("table_dropped").await;
    let service = world
        .service()
        .env("PONIX_NATS_BATCH_SIZE", 50)
        .start_ready()
        .await;
    world.publish(numbered(10)).await;
    world.stored(10).await;

    world.migrate("down").await;
    // More than all batches in flight can hold.
    world.publish(numbered(1_000).skip(10)).await;
    service
        .not_ready("the intake of envelopes has stopped, since 20")
        .await;
    service.not_ready("code 60").await;
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("ponix_nats_dead_lettered_messages_total"), 0);
    assert!(metrics.sum("ponix_nats_held_batches_total") > 0);
    let in_flight = metrics.sum("ponix_nats_in_flight_messages");
    assert!((1..=150).contains(&in_flight), "{in_flight} in flight");
    assert_eq!(service.get("/livez").await.unwrap().0, 200);

    world.migrate("up").await;
    world.stored(990).await;
    service.ready().await;
    world.settled().await;
    world.assert_events(990).await;
    assert!(world.dead_letters().await.is_empty());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_table() {
    let world = World::new("table_dropped_shutdown").await;
    let service = world.service().start_ready().await;
    world.migrate("down").await;
    world.publish(numbered(100)).await;
    service
        .not_ready("the intake of envelopes has stopped")
        .await;
    service.stop().await;

    // The next start makes the table again.
    let service = world.service().start_ready().await;
    world.stored(100).await;
    world.settled().await;
    service.stop().await;
}
