//! What is full, and rows that the store refuses.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ponix_faults::{Event, Pipeline, Poison, SOON, Worker, World};
use ponix_nats::PublishError;
use ponix_stack::{Mode, eventually};

use crate::support::{full, good, size};

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_in_numbers_stop_the_intake_and_are_stored_after_the_mend() -> Result<()> {
    let world = World::start().await?;
    world.refuse_some_rows().await?;
    let events = (0..1_000).map(|n| match n % 10 {
        0..3 => Event::good(n).of_refused_device(),
        _ => Event::good(n),
    });
    world.publishing().publish(events).await?;
    let worker = world.launch_worker("", &[]).await?;
    worker
        .not_ready("the intake of envelopes has stopped")
        .await?;
    // Every batch is held by now or will be; none may be dead-lettered meanwhile.
    worker
        .metrics_when("held batches", |m| {
            m.sum("ponix_nats_held_batches_total") >= 1
        })
        .await?;
    assert_eq!(world.judge().await?.dead, 0);
    let inserts = worker.metrics().await?.inserts();
    ensure!(inserts < 250, "{inserts} INSERTs are a flood");
    world.refuse_no_rows().await?;
    world.settled().await?;
    worker.ready().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (1_000, 0),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_away_stops_the_intake_until_it_is_back() -> Result<()> {
    let world = World::start().await?;
    let worker = world.start_worker("").await?;
    world
        .execute("RENAME TABLE processed_envelopes TO elsewhere")
        .await?;
    world.publishing().publish(good(500)).await?;
    worker
        .not_ready("the intake of envelopes has stopped")
        .await?;
    world
        .execute("RENAME TABLE elsewhere TO processed_envelopes")
        .await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (500, 0),
        "{judgement}"
    );
    Ok(())
}

/// Limits the messages in the dead letters; -1 is no limit.
async fn limit_dead_letters(world: &World, max_messages: i64) -> Result<()> {
    let pipeline = Pipeline::Envelopes;
    world.limit_dead_letters(pipeline, max_messages).await
}

/// Fills the dead letters, makes room again, and settles.
pub(crate) async fn dead_letters_full(failpoints: &str) -> Result<(World, Worker)> {
    let world = World::start().await?;
    let worker = world.start_worker(failpoints).await?;
    // A worker that starts brings the stream to its own settings, so only now.
    limit_dead_letters(&world, 1).await?;
    let poison = [Poison::Undecodable, Poison::NotANumber, Poison::OutOfRange];
    world
        .publishing()
        .publish(poison.map(|poison| Event::poison(1, poison)))
        .await?;
    world.publishing().publish(good(100)).await?;
    world.readable(100).await?;
    worker
        .metrics_when("naks", |metrics| metrics.nakked() >= 2)
        .await?;
    limit_dead_letters(&world, -1).await?;
    world.settled().await?;
    Ok((world, worker))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_dead_letters_are_full_messages_stay_in_the_stream() -> Result<()> {
    let (world, worker) = dead_letters_full("").await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (100, 3),
        "{judgement}"
    );
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_by_clickhouse_wait_for_room_in_the_dead_letters() -> Result<()> {
    let world = World::builder().nats_proxy().start().await?;
    world.refuse_some_rows().await?;
    let worker = world.start_worker("").await?;
    limit_dead_letters(&world, 1).await?;
    // 5 of 100 rows are no reason to blame the store, as long as they come in one batch.
    world.nats_proxy().set(Mode::Stall).await;
    let events = (0..100).map(|n| match n % 20 {
        0 => Event::poison(n, Poison::RefusedByStore),
        _ => Event::good(n),
    });
    world.publishing().publish(events).await?;
    world.nats_proxy().set(Mode::Pass).await;
    worker
        .metrics_when("naks", |metrics| metrics.nakked() >= 4)
        .await?;
    limit_dead_letters(&world, -1).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    assert_eq!((judgement.readable, judgement.dead), (95, 5), "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_publishers_and_recovers_by_itself() -> Result<()> {
    let world = World::builder()
        .env("PONIX_NATS_STREAM_BYTES_MAX", 1 << 20)
        .env("PONIX_NATS_REPLAY_WINDOW_SECS", 0)
        .env("PONIX_NATS_JANITOR_INTERVAL_SECS", 0.2)
        .start()
        .await?;
    let worker = world.start_worker("").await?;
    world.clickhouse().stop().await?;
    let mut accepted = 0;
    let refusal = loop {
        match world.publishing().publish_once(Event::good(accepted)).await {
            Ok(_) => accepted += 1,
            Err(err) => break err,
        }
    };
    let told = matches!(&refusal, PublishError::Refused { code: 10077, .. });
    ensure!(told, "{refusal:?}");
    let state = world.stream().await?.cached_info().state.clone();
    assert_eq!(state.messages, accepted, "nothing is evicted");
    ensure!(
        worker.metrics().await?.in_flight() <= 300,
        "work in flight is bounded"
    );

    world.clickhouse().start_again().await?;
    world.readable(accepted).await?;
    eventually("room in the stream", SOON, || async {
        world.publishing().publish_once(Event::good(0)).await
    })
    .await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    // Those that were accepted, and the one or more that found room again.
    ensure!(judgement.acknowledged > accepted, "{judgement}");
    ensure!(judgement.readable >= judgement.acknowledged, "{judgement}");
    assert_eq!(judgement.dead, 0, "{judgement}");
    println!("{accepted} accepted until it was full; {judgement}");
    Ok(())
}

/// How long a worker takes for a backlog.
async fn time_for(events: impl Iterator<Item = Event>) -> Result<(Duration, World)> {
    let world = World::builder()
        .env("PONIX_NATS_BATCH_SIZE", 1_000)
        .start()
        .await?;
    world.publishing().publish(events).await?;
    let begin = Instant::now();
    let _worker = world.start_worker("").await?;
    world.settled_within(10 * SOON).await?;
    Ok((begin.elapsed(), world))
}

#[tokio::test(flavor = "multi_thread")]
async fn undecodable_messages_in_numbers_are_all_kept() -> Result<()> {
    let count = size(3_000, 100_000);
    let mixed = (0..2 * count).map(|n| match n % 2 {
        0 => Event::good(n),
        _ => Event::poison(n, Poison::Undecodable),
    });
    let (mixed_time, world) = time_for(mixed).await?;
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (count, count),
        "{judgement}"
    );
    if full() {
        let (good_time, _) = time_for((0..2 * count).map(Event::good)).await?;
        println!("{good_time:?} without, {mixed_time:?} with undecodable messages");
        ensure!(
            mixed_time <= 2 * good_time,
            "less than half of the throughput"
        );
    }
    Ok(())
}
