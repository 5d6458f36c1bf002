//! Stops, restarts and replays.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Event, Judgement, SOON, World};
use ponix_stack::{Mode, Signal, eventually};
use tokio::time::sleep;

use crate::support::good;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_leaves_no_copies() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    let publishing = world.publishing().publish((0..30_000).map(Event::good));
    let stopping = async {
        worker
            .metrics_when("load", |metrics| metrics.acked() >= 500)
            .await?;
        worker.stop().await?;
        worker.start_again().await
    };
    let (published, stopped) = tokio::join!(publishing, stopping);
    published?;
    stopped?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.physical_duplicates),
        (30_000, 0),
        "{judgement}"
    );
    Ok(())
}

/// Stops a worker whose INSERT is done and which does not know yet.
pub(crate) async fn stopped_between_insert_and_ack(failpoints: &str) -> Result<Judgement> {
    let world = World::builder().clickhouse_proxy().start().await?;
    let worker = world.start_worker(failpoints).await?;
    world.clickhouse_proxy().set(Mode::HoldResponses).await;
    world.publishing().publish(good(100)).await?;
    eventually("the rows", SOON, || async {
        let rows = world.rows().await?;
        ensure!(rows == 100, "{rows} rows");
        Ok(())
    })
    .await?;
    worker.process().send_signal(Signal::SIGTERM)?;
    eventually("the worker to be stopping", SOON, || async {
        let log = worker.process().log()?;
        ensure!(
            log.contains("shutdown") || log.contains("stopping"),
            "{log}"
        );
        Ok(())
    })
    .await?;
    world.clickhouse_proxy().set(Mode::Pass).await;
    let status = worker.ended().await?;
    ensure!(
        status.success(),
        "{status}\n{}",
        worker.process().log_tail()
    );
    worker.start_again().await?;
    world.settled().await?;
    world.expect_sound().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_between_insert_and_ack_waits_for_the_ack() -> Result<()> {
    let judgement = stopped_between_insert_and_ack("").await?;
    assert_eq!(judgement.physical_duplicates, 0, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_workers_leaves_no_copies() -> Result<()> {
    let world = World::start().await?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(world.start_worker("").await?);
    }
    let publishing = world.publishing().publish((0..30_000).map(Event::good));
    let restarting = async {
        for worker in &workers {
            worker
                .metrics_when("work", |metrics| metrics.acked() >= 100)
                .await?;
            worker.stop().await?;
            worker.start_again().await?;
        }
        anyhow::Ok(())
    };
    let (published, restarted) = tokio::join!(publishing, restarting);
    published?;
    restarted?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.physical_duplicates),
        (30_000, 0),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_whole_stream_changes_nothing_that_readers_see() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(1_000)).await?;
    world.publishing().publish(crate::support::poison()).await?;
    world.settled().await?;
    worker.stop().await?;
    assert_eq!(world.judge().await?.physical_duplicates, 0);

    let replay = world
        .launch_worker("", &[("PONIX_NATS_CONSUMER", "replay")])
        .await?;
    eventually("the replay", SOON, || async {
        let info = world.stream().await?.consumer_info("replay").await?;
        let left = (info.num_pending, info.num_ack_pending);
        ensure!(left == (0, 0), "{left:?}");
        anyhow::Ok(())
    })
    .await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (1_000, 5),
        "{judgement}"
    );
    assert_eq!(judgement.physical_duplicates, 1_000, "{judgement}");
    replay.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_told_and_nothing_is_acked_wrongly() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(300)).await?;
    world.settled().await?;
    world
        .stream()
        .await?
        .delete_consumer("ponix-all-in-one")
        .await?;
    worker.not_ready("is gone").await?;
    world.publishing().publish(good(300)).await?;
    worker.stop().await?;
    // As the message says: a restart makes the consumer again and reads everything again.
    worker.start_again().await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(judgement.readable, 600, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_told_and_nothing_stored_is_lost() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(good(300)).await?;
    world.settled().await?;
    let context = world.publishing().context();
    context
        .delete_stream("processed_envelopes")
        .await
        .context("delete")?;
    worker.not_ready("is gone").await?;
    // Nobody takes events meanwhile, so none is accepted.
    let refused = world.publishing().publish_once(Event::good(1)).await;
    ensure!(refused.is_err(), "{refused:?}");
    worker.stop().await?;
    worker.start_again().await?;
    world.publishing().publish(good(300)).await?;
    world.settled().await?;
    let judgement = world.judge().await?;
    ensure!(judgement.is_sound(), "{judgement}");
    assert_eq!(judgement.readable, 600, "{judgement}");
    Ok(())
}

/// Has the janitor clean while ClickHouse is down and messages wait.
pub(crate) async fn janitor_beside_a_backlog(failpoints: &str) -> Result<Judgement> {
    let world = World::builder()
        .env("PONIX_NATS_REPLAY_WINDOW_SECS", 0)
        .env("PONIX_NATS_JANITOR_INTERVAL_SECS", 0.1)
        .start()
        .await?;
    let worker = world.start_worker(failpoints).await?;
    world.publishing().publish(good(300)).await?;
    eventually("a purge", SOON, || async {
        let first = world.stream().await?.cached_info().state.first_sequence;
        ensure!(first == 301, "the first message is {first}");
        anyhow::Ok(())
    })
    .await?;
    world.clickhouse().stop().await?;
    // More than fits into the batches in flight.
    world.publishing().publish(good(1_000)).await?;
    worker
        .metrics_when("work in flight", |metrics| metrics.in_flight() > 0)
        .await?;
    // The janitor looks several times; what it must not do cannot be waited for.
    sleep(Duration::from_secs(1)).await;
    world.clickhouse().start_again().await?;
    world.settled().await?;
    world.judge().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_leaves_alone_what_is_not_settled() -> Result<()> {
    let judgement = janitor_beside_a_backlog("").await?;
    ensure!(judgement.is_sound(), "{judgement}");
    assert_eq!(judgement.readable, 1_300, "{judgement}");
    Ok(())
}
