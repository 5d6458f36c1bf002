//! Signals in the middle of the work.

use std::time::Duration;

use anyhow::ensure;
use ponix_stack::{Mode, Proxy, Signal, eventually};

use crate::support::{SOON, World, numbered};

const BACKLOG: u32 = 6_000;

/// Makes every INSERT take 100 ms at least, so that a backlog of many batches has a middle.
async fn slow_clickhouse(world: &World) -> Proxy {
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    proxy.set(Mode::Latency(Duration::from_millis(50))).await;
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_a_backlog_loses_and_doubles_nothing() {
    signal_in_the_middle_of_a_backlog("stopping_sigterm", Signal::SIGTERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_in_the_middle_of_a_backlog_loses_and_doubles_nothing() {
    signal_in_the_middle_of_a_backlog("stopping_sigint", Signal::SIGINT).await;
}

async fn signal_in_the_middle_of_a_backlog(name: &str, signal: Signal) {
    let world = World::new(name).await;
    world.tables_that_keep_copies().await;
    world.create_stream().await;
    world.publish(numbered(BACKLOG)).await;
    let proxy = slow_clickhouse(&world).await;
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_NATS_BATCH_SIZE", 100)
        .start_ready()
        .await;
    service
        .metrics_when("the middle", |m| m.acked() >= 500)
        .await;
    assert_eq!(service.stop_by(signal).await, 0, "{}", service.log());

    // Every message is either stored and acked, or neither.
    let stored = world.copies().await;
    assert!((500..u64::from(BACKLOG)).contains(&stored), "{stored} rows");
    eventually("all that is stored is acked", SOON, || async {
        let left = world.settlement().await?;
        let settled = u64::from(BACKLOG) - left.pending - left.ack_pending;
        ensure!(settled == stored, "{settled} settled, {stored} stored");
        Ok(())
    })
    .await
    .unwrap();

    let service = world.service().start_ready().await;
    world.settled().await;
    assert_eq!(world.copies().await, u64::from(BACKLOG));
    world.assert_events(u64::from(BACKLOG)).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_off_what_hangs() {
    let world = World::new("stopping_second_signal").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_NATS_ACK_WAIT_SECS", 2)
        .start_ready()
        .await;
    proxy.set(Mode::Stall).await;
    world.publish(numbered(300)).await;
    service
        .metrics_when("an INSERT that hangs", |m| {
            m.sum("ponix_clickhouse_inserts_in_progress") > 0
        })
        .await;
    service.signal(Signal::SIGTERM);
    service.logged("a second signal hurries").await;
    service.not_ready("the service is stopping").await;
    assert_eq!(
        service.stop_by(Signal::SIGTERM).await,
        2,
        "{}",
        service.log()
    );

    // Nothing of it was acked: it comes again.
    let service = world
        .service()
        .env("PONIX_NATS_ACK_WAIT_SECS", 2)
        .start_ready()
        .await;
    world.settled().await;
    world.assert_events(300).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_time_cuts_off_what_hangs() {
    let world = World::new("stopping_grace_time").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_NATS_ACK_WAIT_SECS", 2)
        .env("PONIX_SHUTDOWN_TIMEOUT_SECS", 1)
        .start_ready()
        .await;
    proxy.set(Mode::Stall).await;
    world.publish(numbered(300)).await;
    service
        .metrics_when("an INSERT that hangs", |m| {
            m.sum("ponix_clickhouse_inserts_in_progress") > 0
        })
        .await;
    assert_eq!(
        service.stop_by(Signal::SIGTERM).await,
        2,
        "{}",
        service.log()
    );
    assert_eq!(service.log_lines("grace time over").len(), 1);

    let service = world
        .service()
        .env("PONIX_NATS_ACK_WAIT_SECS", 2)
        .start_ready()
        .await;
    world.settled().await;
    world.assert_events(300).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_refuses_does_not_hold_up_the_shutdown() {
    let world = World::new("stopping_refused").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .start_ready()
        .await;
    proxy.set(Mode::Refuse).await;
    proxy.cut();
    world.publish(numbered(300)).await;
    service
        .logged("the store did not take the batch, trying again")
        .await;
    // What is not stored is given back, so nothing is cut off.
    service.stop().await;

    let service = world.service().start_ready().await;
    world.settled().await;
    world.assert_events(300).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_hangs_does_not_hold_up_an_idle_service() {
    let world = World::new("stopping_idle").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_SHUTDOWN_TIMEOUT_SECS", 10)
        .start_ready()
        .await;
    proxy.set(Mode::Stall).await;
    service.not_ready("clickhouse cannot be used").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_clickhouse_is_awaited_ends_the_start_up() {
    let world = World::new("stopping_start_clickhouse").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    proxy.set(Mode::Refuse).await;
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .start();
    service.logged("not ready yet, trying again").await;
    service.stop().await;
    let phase = format!("phase=\"migrations on {}\"", proxy.url("http"));
    assert_eq!(service.log_lines(&phase).len(), 1, "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_nats_is_awaited_ends_the_start_up() {
    let world = World::new("stopping_start_nats").await;
    let proxy = Proxy::start(world.nats.addr()).await.unwrap();
    proxy.set(Mode::Refuse).await;
    let service = world
        .service()
        .env("PONIX_NATS_URL", proxy.url("nats"))
        .start();
    service
        .logged("no connection to nats yet, trying again")
        .await;
    assert_eq!(
        service.stop_by(Signal::SIGINT).await,
        0,
        "{}",
        service.log()
    );
    let phase = format!("phase=\"connecting to {}\"", proxy.url("nats"));
    assert_eq!(service.log_lines(&phase).len(), 1, "{}", service.log());
}
