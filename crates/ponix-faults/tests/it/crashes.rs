//! Processes that end at the worst moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use ponix_faults::{Event, Poison, World};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::support::{good, poison, size};

const BATCH: u64 = 100;

/// A worker that ends at a point, and then works: what the world looks like afterwards.
pub(crate) async fn ends_at(failpoints: &str) -> Result<ponix_faults::Judgement> {
    let world = World::builder()
        .env("PONIX_NATS_BATCHES_IN_FLIGHT", 1)
        .start()
        .await?;
    world.publishing().publish(good(BATCH)).await?;
    let worker = world.launch_worker(failpoints, &[]).await?;
    let status = worker.ended().await?;
    ensure!(!status.success(), "{failpoints}: {status}");
    worker.set_failpoints("");
    worker.start_again().await?;
    world.publishing().publish(poison()).await?;
    world.settled().await?;
    world.expect_sound().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_after_the_fetch_leaves_no_copies() -> Result<()> {
    let judgement = ends_at("after_fetch=return").await?;
    assert_eq!(judgement.physical_duplicates, 0, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_before_the_insert_leaves_no_copies() -> Result<()> {
    let judgement = ends_at("before_insert=return").await?;
    assert_eq!(judgement.physical_duplicates, 0, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_between_insert_and_ack_leaves_that_batch_twice() -> Result<()> {
    let judgement = ends_at("after_insert=return").await?;
    assert_eq!(judgement.physical_duplicates, BATCH, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_after_the_dead_letter_is_kept_keeps_it_once() -> Result<()> {
    let world = World::start().await?;
    world.publishing().publish(poison()).await?;
    let worker = world
        .launch_worker("after_dead_letter=1*off->return", &[])
        .await?;
    worker.ended().await?;
    worker.set_failpoints("");
    worker.start_again().await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(judgement.dead, 5, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_cut_off_is_finished_by_the_next_start() -> Result<()> {
    let world = World::start().await?;
    let (code, printed) = world.run_command(&["migrate", "down"], "").await?;
    ensure!(code == Some(0), "{printed}");
    // The second statement of the migration is never sent.
    let cut_off = "migration_statement=1*off->return";
    let (code, printed) = world.run_command(&["migrate", "up"], cut_off).await?;
    ensure!(
        code.is_none(),
        "it should have been killed: {code:?} {printed}"
    );
    world.publishing().publish(good(BATCH)).await?;
    let _worker = world.start_worker("").await?;
    world.settled().await?;
    world.expect_sound().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_random_leaves_at_most_what_was_in_flight() -> Result<()> {
    let kills = size(8, 50);
    let in_flight = 3;
    let world = World::builder()
        .env("PONIX_NATS_BATCHES_IN_FLIGHT", in_flight)
        .start()
        .await?;
    let worker = world.start_worker("").await?;
    let mut random = StdRng::seed_from_u64(50);
    for _ in 0..kills {
        world.publishing().publish(good(10 * BATCH)).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        worker.process().kill().await?;
        worker.start_again().await?;
    }
    world.publishing().publish(poison()).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    println!("{kills} kills: {judgement}");
    let most = kills * in_flight * BATCH;
    ensure!(
        judgement.physical_duplicates <= most,
        "more than {most}: {judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_row_in_5000_costs_at_most_26_more_inserts() -> Result<()> {
    let world = World::builder()
        .env("PONIX_NATS_BATCH_SIZE", 5_000)
        .env("PONIX_NATS_BATCH_WAIT_SECS", 2)
        .env("PONIX_NATS_ACK_WAIT_SECS", 10)
        .start()
        .await?;
    world.refuse_some_rows().await?;
    world.publishing().publish(good(3_216)).await?;
    world
        .publishing()
        .publish([Event::poison(0, Poison::RefusedByStore)])
        .await?;
    world.publishing().publish(good(1_783)).await?;
    let worker = world.start_worker("").await?;
    world.settled().await?;
    let metrics = worker.metrics().await?;
    // Once more for the bad row, after a row of before was taken.
    ensure!(metrics.inserts() <= 28, "{} INSERTs", metrics.inserts());
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (4_999, 1),
        "{judgement}"
    );
    // The row that shows, inserted twice more, that the store is not at fault.
    assert_eq!(judgement.physical_duplicates, 2, "{judgement}");
    Ok(())
}
