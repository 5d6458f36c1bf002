//! Servers and connections that go away and come back.

use std::time::Duration;

use anyhow::{Result, ensure};
use ponix_faults::{Event, Judgement, SOON, World};
use ponix_stack::{Mode, Process, Server, eventually};
use tokio::time::{Instant, sleep};

use crate::support::{good, poison, size};

const ACK_WAIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_right_after_the_acks_changes_nothing_that_readers_see() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    for _ in 0..3 {
        world.publishing().publish(good(500)).await?;
        world.settled().await?;
        world.nats().kill().await?;
        world.nats().start_again().await?;
        worker.ready().await?;
        world.settled().await?;
    }
    let judgement = world.expect_sound().await?;
    println!("{judgement}");
    assert_eq!(judgement.readable, 1_500, "{judgement}");
    Ok(())
}

/// Publishes while a server is killed again and again.
async fn killed_again_and_again(
    world: &World,
    server: &Server,
    pause: Duration,
) -> Result<Judgement> {
    let _workers = (world.start_worker("").await?, world.start_worker("").await?);
    world.publishing().publish(poison()).await?;
    for _ in 0..size(4, 18) {
        let killing = async {
            sleep(pause / 2).await;
            server.kill().await?;
            sleep(pause / 4).await;
            server.start_again().await
        };
        let publishing = world.publishing().publish(good(2_000));
        let (killed, published) = tokio::join!(killing, publishing);
        killed?;
        published?;
        sleep(pause / 4).await;
    }
    world.settled().await?;
    world.expect_sound().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_again_and_again_loses_nothing() -> Result<()> {
    let world = World::start().await?;
    let pause = Duration::from_millis(size(1_000, 10_000));
    let judgement = killed_again_and_again(&world, world.nats(), pause).await?;
    println!("{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_killed_again_and_again_makes_no_dead_letters() -> Result<()> {
    let world = World::start().await?;
    let pause = Duration::from_millis(size(1_000, 4_000));
    let judgement = killed_again_and_again(&world, world.clickhouse(), pause).await?;
    println!("{judgement}");
    assert_eq!(judgement.dead, judgement.poison, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_costs_copies_that_no_reader_sees() -> Result<()> {
    let world = World::builder().clickhouse_proxy().start().await?;
    let worker = world.start_worker("").await?;
    world
        .clickhouse_proxy()
        .set(Mode::SwallowResponseTo("INSERT"))
        .await;
    world.publishing().publish(good(300)).await?;
    eventually("lost answers", SOON, || async {
        world.clickhouse_proxy().counters().responses_swallowed >= 3
    })
    .await?;
    world.clickhouse_proxy().set(Mode::Pass).await;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(judgement.physical_duplicates > 0, "{judgement}");
    assert_eq!(judgement.dead, 0, "{judgement}");
    ensure!(
        worker.metrics().await?.nakked() == 0,
        "nothing is given back"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_clickhouse_stalls_the_messages_stay_with_their_worker() -> Result<()> {
    let world = World::builder().clickhouse_proxy().start().await?;
    let workers = [world.start_worker("").await?, world.start_worker("").await?];
    world.clickhouse_proxy().set(Mode::Stall).await;
    world.publishing().publish(good(500)).await?;
    sleep(size(3, 90) as u32 * ACK_WAIT).await;
    world.clickhouse_proxy().set(Mode::Pass).await;
    world.settled().await?;
    for worker in &workers {
        let metrics = worker.metrics().await?;
        assert_eq!(metrics.redelivered(), 0, "{metrics:?}");
    }
    let judgement = world.expect_sound().await?;
    assert_eq!(judgement.readable, 500, "{judgement}");
    Ok(())
}

/// Stops a process for a while, whatever it does.
async fn stopped_for(process: &Process, time: Duration) -> Result<Instant> {
    process.pause()?;
    let since = Instant::now();
    sleep(time).await;
    Ok(since)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_for_three_ack_waits_and_continued_does_no_harm() -> Result<()> {
    let world = World::builder().clickhouse_proxy().start().await?;
    let sleeper = world.start_worker("").await?;
    // Its INSERTs are done, and it does not know.
    world.clickhouse_proxy().set(Mode::HoldResponses).await;
    world.publishing().publish(good(300)).await?;
    sleeper
        .metrics_when("work in flight", |metrics| metrics.in_flight() == 300)
        .await?;
    eventually("the rows", SOON, || async {
        let rows = world.rows().await?;
        ensure!(rows == 300, "{rows} rows");
        Ok(())
    })
    .await?;
    sleeper.process().pause()?;
    let since = Instant::now();
    world.clickhouse_proxy().set(Mode::Pass).await;
    let other = world.start_worker("").await?;
    world.settled().await?;
    assert_eq!(
        other.metrics().await?.redelivered(),
        300,
        "the other one took over"
    );
    tokio::time::sleep_until(since + 3 * ACK_WAIT).await;
    sleeper.process().resume()?;
    world.publishing().publish(good(100)).await?;
    sleeper
        .metrics_when("an end of the batches", |metrics| metrics.in_flight() == 0)
        .await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.physical_duplicates),
        (400, 300),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_in_a_flood_does_no_harm() -> Result<()> {
    let world = World::start().await?;
    let workers = [world.start_worker("").await?, world.start_worker("").await?];
    let publishing = world.publishing().publish((0..20_000).map(Event::good));
    let stopping = stopped_for(workers[0].process(), 3 * ACK_WAIT);
    let (published, stopped) = tokio::join!(publishing, stopping);
    published?;
    stopped?;
    workers[0].process().resume()?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    println!("{judgement}");
    assert_eq!(judgement.readable, 20_000, "{judgement}");
    Ok(())
}
