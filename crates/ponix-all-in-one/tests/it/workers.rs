//! Services with the same consumer.

use crate::support::{World, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_work() {
    const MESSAGES: u32 = 5_000;
    let world = World::new("workers_two").await;
    world.tables_that_keep_copies().await;
    let worker = || world.service().env("PONIX_NATS_BATCH_SIZE", 100);
    let (one, two) = tokio::join!(worker().start_ready(), worker().start_ready());
    world.publish(numbered(MESSAGES)).await;
    world.settled().await;
    let (one_did, two_did) = (one.metrics().await.acked(), two.metrics().await.acked());
    assert!(one_did > 0 && two_did > 0, "{one_did} and {two_did}");
    assert_eq!(one_did + two_did, u64::from(MESSAGES));
    assert_eq!(world.copies().await, u64::from(MESSAGES));
    world.assert_events(u64::from(MESSAGES)).await;

    // What one leaves, the other does.
    one.stop().await;
    world
        .publish(numbered(MESSAGES + 500).skip(MESSAGES as usize))
        .await;
    world.stored(u64::from(MESSAGES) + 500).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_database_is_refused() {
    let world = World::new("workers_target").await;
    let one = world.service().start_ready().await;
    let other = world
        .service()
        .env("PONIX_CLICKHOUSE_DATABASE", "workers_target_2");
    let (code, log) = other.run().await;
    assert_eq!(code, 1, "{log}");
    for database in ["clickhouse workers_target.", "clickhouse workers_target_2."] {
        assert!(log.contains(database), "{database} is not in {log}");
    }
    one.ready().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_may_start_on_nothing_at_once() {
    let world = World::new("workers_start").await;
    let (one, two) = tokio::join!(world.service().start_ready(), world.service().start_ready());
    world.publish(numbered(10)).await;
    world.stored(10).await;
    one.stop().await;
    two.stop().await;
    let status = world.migrate("status").await;
    assert_eq!(
        status.lines().filter(|l| l.contains("applied")).count(),
        status.lines().count()
    );
}
