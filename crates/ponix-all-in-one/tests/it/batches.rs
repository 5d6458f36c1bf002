//! How messages become INSERTs.

use std::time::Duration;

use ponix_stack::Signal;

use crate::support::{World, numbered};

const NEVER_SECS: u64 = 1_800;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rows_of_ten_organizations_are_one_insert() {
    let world = World::new("batches_organizations").await;
    world.create_stream().await;
    world.publish(numbered(1_000)).await;
    let service = world
        .service()
        .env("PONIX_NATS_BATCH_SIZE", 1_000)
        .env("PONIX_NATS_BATCH_WAIT_SECS", NEVER_SECS)
        .env("PONIX_NATS_ACK_WAIT_SECS", 2 * NEVER_SECS)
        .env("PONIX_LOG_LEVEL", "debug")
        .start_ready()
        .await;
    world.stored(1_000).await;
    let rows = "SELECT toString((uniqExact(organization_id), min(c), max(c))) FROM \
                (SELECT organization_id, count() AS c FROM envelopes GROUP BY organization_id)";
    assert_eq!(world.text(rows).await, "(10,100,100)");
    let metrics = service
        .metrics_when("1,000 acks", |m| m.acked() == 1_000)
        .await;
    assert_eq!(metrics.inserts(), 1);
    assert_eq!(metrics.sum("ponix_clickhouse_rows_total"), 1_000);
    assert_eq!(metrics.sum("ponix_nats_acked_events_total"), 1_000);
    // Its line tells what took how long.
    service.logged("batch settled").await;
    let lines = service.log_lines("batch settled");
    let numbers = ["decode_ms=", "write_ms=", "process_ms="].map(|name| {
        let number = lines[0].split(name).nth(1).expect(name);
        number
            .split(' ')
            .next()
            .unwrap()
            .parse::<f64>()
            .expect(name)
    });
    let [decode, write, process] = numbers;
    assert!(
        decode > 0.0 && write > 0.0 && decode + write <= process + 0.1,
        "{lines:?}"
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_to_be_full_and_a_shutdown_does_not_wait_for_it() {
    let world = World::new("batches_full").await;
    let service = world
        .service()
        .env("PONIX_NATS_BATCH_SIZE", 10)
        .env("PONIX_NATS_BATCH_WAIT_SECS", NEVER_SECS)
        .env("PONIX_NATS_ACK_WAIT_SECS", 2 * NEVER_SECS)
        .start_ready()
        .await;
    for envelope in numbered(25) {
        world.publish([envelope]).await;
    }
    let metrics = service
        .metrics_when("two batches", |m| m.acked() == 20)
        .await;
    assert_eq!(metrics.inserts(), 2);
    assert_eq!(service.stop_by(Signal::SIGTERM).await, 0);
    world.assert_events(25).await;
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn low_traffic_is_collected_for_the_linger_time() {
    let world = World::new("batches_linger").await;
    let service = world
        .service()
        .env("PONIX_NATS_BATCH_WAIT_SECS", 2)
        .start_ready()
        .await;
    // A consumer that took what there is would make nearly 40 INSERTs.
    let mut pace = tokio::time::interval(Duration::from_millis(25));
    for envelope in numbered(40) {
        pace.tick().await;
        world.publish([envelope]).await;
    }
    world.stored(40).await;
    let metrics = service.metrics_when("40 acks", |m| m.acked() == 40).await;
    assert!(metrics.inserts() <= 8, "{metrics:#?}");
    assert_eq!(metrics.sum("ponix_nats_batches_total"), metrics.inserts());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_bytes_closes_batches_too() {
    let world = World::new("batches_bytes").await;
    world.create_stream().await;
    world.publish(numbered(2_000)).await;
    let service = world
        .service()
        .env("PONIX_NATS_BATCH_BYTES_MAX", 64 << 10)
        .start_ready()
        .await;
    world.stored(2_000).await;
    let metrics = service
        .metrics_when("2,000 acks", |m| m.acked() == 2_000)
        .await;
    // About 150 bytes each with envelope and subjects: 64 KiB hold some hundreds.
    assert!(metrics.inserts() >= 3, "{metrics:#?}");
    service.stop().await;
}
