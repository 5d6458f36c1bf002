//! Servers that go away and come back while there is work.

use std::time::Duration;

use ponix_stack::{Mode, Proxy};

use crate::support::{Service, World, numbered};

const BACKLOG: u32 = 4_000;

/// A service in the middle of a backlog, with INSERTs of 100 rows that take 100 ms at least.
async fn in_the_middle_of_a_backlog(world: &World) -> (Service, Proxy) {
    world.create_stream().await;
    world.publish(numbered(BACKLOG)).await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    proxy.set(Mode::Latency(Duration::from_millis(50))).await;
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_NATS_BATCH_SIZE", 100)
        .env("PONIX_NATS_ACK_WAIT_SECS", 3)
        .env("PONIX_NATS_PING_INTERVAL_SECS", 0.5)
        .start_ready()
        .await;
    service
        .metrics_when("the middle", |m| m.acked() >= 300)
        .await;
    (service, proxy)
}

/// Waits until all is stored and settled, and asserts that one event more is taken, too.
async fn goes_on(world: &World, service: &Service) {
    world
        .publish(numbered(BACKLOG + 1).skip(BACKLOG as usize))
        .await;
    world.stored(u64::from(BACKLOG) + 1).await;
    world.settled().await;
    world.assert_events(u64::from(BACKLOG) + 1).await;
    service.ready().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_nats_is_survived() {
    let world = World::with_own_nats("outages_nats_restart").await;
    let (service, _proxy) = in_the_middle_of_a_backlog(&world).await;
    world.nats.restart().await.unwrap();
    goes_on(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_nats_is_survived() {
    let world = World::with_own_nats("outages_nats_crash").await;
    let (service, _proxy) = in_the_middle_of_a_backlog(&world).await;
    world.nats.kill().await.unwrap();
    service
        .not_ready("the nats connection for consuming is down")
        .await;
    world.nats.start_again().await.unwrap();
    goes_on(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_hangs_is_survived() {
    let world = World::with_own_nats("outages_nats_hangs").await;
    let (service, _proxy) = in_the_middle_of_a_backlog(&world).await;
    world.nats.pause().await.unwrap();
    service.logged("nats disconnected, reconnecting").await;
    world.nats.resume().await.unwrap();
    goes_on(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_and_crash_of_clickhouse_are_survived() {
    let world = World::with_own_clickhouse("outages_clickhouse").await;
    let (service, _proxy) = in_the_middle_of_a_backlog(&world).await;
    world.clickhouse.kill().await.unwrap();
    service
        .logged("the store did not take the batch, trying again")
        .await;
    world.clickhouse.start_again().await.unwrap();
    let before = service.metrics().await.acked();
    service
        .metrics_when("acks after the crash", |m| m.acked() > before)
        .await;
    world.clickhouse.restart().await.unwrap();
    goes_on(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_nothing_behind() {
    let world = World::new("outages_worker").await;
    let (service, _proxy) = in_the_middle_of_a_backlog(&world).await;
    service.kill().await;
    let service = world
        .service()
        .env("PONIX_NATS_ACK_WAIT_SECS", 3)
        .start_ready()
        .await;
    goes_on(&world, &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_answer_is_lost_is_sent_again_and_is_one_event_each() {
    let world = World::new("outages_answer").await;
    world.tables_that_keep_copies().await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .start_ready()
        .await;
    proxy.set(Mode::SwallowResponseTo("INSERT")).await;
    world.publish(numbered(100)).await;
    service
        .logged("the store did not take the batch, trying again")
        .await;
    proxy.set(Mode::Pass).await;
    world.settled().await;
    assert!(world.copies().await >= 200, "nothing was stored twice");
    world.assert_events(100).await;
    service.stop().await;
}
