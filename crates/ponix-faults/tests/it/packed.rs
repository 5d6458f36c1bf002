//! Packed messages when things break: each event of one has its own end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Event, Judgement, Pipeline, Poison, World};
use ponix_nats::async_nats::HeaderMap;
use ponix_nats::{KeptLetter, RangeReader, held_range};
use ponix_wire::header;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use crate::support::{good, size};

const BATCH: u64 = 100;

/// Good events of every kind, every tenth one wrong in one way after the other.
fn a_tenth_bad(count: u64) -> Vec<Event> {
    let wrong = |n| match n / 10 % 5 {
        0 => Event::poison(n, Poison::Undecodable),
        1 => Event::poison(n, Poison::MissingField),
        2 => Event::poison(n, Poison::NotANumber),
        3 => Event::poison(n, Poison::OutOfRange),
        _ => Event::anonymous_poison(n),
    };
    let events = good(count).zip(0..);
    let events = events.map(|(event, n)| if n % 10 == 5 { wrong(n) } else { event });
    events.collect()
}

async fn publish(world: &World, events: Vec<Event>, events_max: usize) -> Result<()> {
    let give_up = CancellationToken::new();
    let publishing = world.publishing();
    publishing
        .publish_packed(events, events_max, &give_up)
        .await
}

/// Publishes a body as it stands, beside the ledger.
async fn publish_raw(world: &World, said: &str, body: Vec<u8>) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(header::PACKED, said);
    let context = world.publishing().context();
    let subject = "processed_envelopes.%packed";
    let sent = context.publish_with_headers(subject, headers, body.into());
    sent.await?.await?;
    Ok(())
}

/// A worker that ends at a point with packed messages in work, and then works.
async fn ends_at(failpoints: &str) -> Result<Judgement> {
    let world = World::builder()
        .env("PONIX_NATS_BATCHES_IN_FLIGHT", 1)
        .start()
        .await?;
    publish(&world, a_tenth_bad(BATCH), 25).await?;
    let worker = world.launch_worker(failpoints, &[]).await?;
    let status = worker.ended().await?;
    ensure!(!status.success(), "{failpoints}: {status}");
    worker.set_failpoints("");
    worker.start_again().await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(
        (judgement.readable, judgement.dead) == (90, 10),
        "{judgement}"
    );
    Ok(judgement)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_between_insert_and_ack_leaves_the_events_of_that_batch_twice()
-> Result<()> {
    let judgement = ends_at("after_insert=return").await?;
    ensure!(judgement.physical_duplicates == 90, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_with_some_dead_events_of_a_message_kept_keeps_each_once() -> Result<()>
{
    for kept in [0, 1, 3, 8] {
        ends_at(&format!("after_dead_letter={kept}*off->return")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_and_packed_messages_of_every_pipeline_survive_kills_at_random() -> Result<()> {
    let kills = size(6, 40);
    let world = World::builder().all_pipelines().start().await?;
    let worker = world.start_worker("").await?;
    let mut random = StdRng::seed_from_u64(15);
    for round in 0..kills {
        let from = round * 1_000;
        for pipeline in Pipeline::ALL {
            let event = |n: u64| match n % 50 {
                7 => Event::poison_of(pipeline, n, Poison::MissingField),
                _ => Event::good_of(pipeline, n),
            };
            publish(&world, (from..from + 400).map(event).collect(), 30).await?;
            let singles = (from + 500..from + 600).map(event);
            world.publishing().publish(singles).await?;
        }
        publish(
            &world,
            Event::pair(Pipeline::Envelopes, from, false).into(),
            2,
        )
        .await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        worker.process().kill().await?;
        worker.start_again().await?;
    }
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    println!("{kills} kills: {judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_in_one_message_and_in_two_and_alone_are_each_stored_once() -> Result<()> {
    let world = World::start().await?;
    let _worker = world.start_worker("").await?;
    let events: Vec<Event> = (0..50).map(Event::good).collect();
    let twice: Vec<Event> = events
        .iter()
        .flat_map(|it| [it.clone(), it.clone()])
        .collect();
    publish(&world, twice, 100).await?;
    // Cut otherwise, which the stream cannot know.
    publish(&world, events.clone(), 20).await?;
    publish(&world, events.clone(), 1).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(judgement.readable == 50, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_cannot_be_read_are_one_dead_letter_each_and_keep_nobody_back() -> Result<()> {
    let world = World::start().await?;
    let _worker = world.start_worker("").await?;
    // Field 15, no bytes: an envelope without any field.
    let events = |count: usize| [0x7a, 0].repeat(count);
    publish_raw(&world, "10001", events(10_001)).await?;
    publish_raw(&world, "10000", events(10_001)).await?;
    publish_raw(&world, "0", Vec::new()).await?;
    publish_raw(&world, "many", events(1)).await?;
    publish_raw(&world, "1", vec![0x7a, 0x7f, 0]).await?;
    publish(&world, a_tenth_bad(BATCH), 100).await?;
    world.settled().await?;
    let (code, report) = world.run_command(&["reconcile"], "").await?;
    ensure!(code == Some(0), "{report}");
    let dead = world.dead_letter_stream().await?.get_info().await?;
    ensure!(dead.state.messages == 5 + 10, "{:?}", dead.state);
    let judgement = world.judge().await?;
    ensure!(judgement.readable == 90, "{judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_store_refuses_are_found_in_packed_messages() -> Result<()> {
    let world = World::start().await?;
    world.refuse_some_rows().await?;
    let _worker = world.start_worker("").await?;
    let event = |n| match n {
        70 | 571 => Event::poison(n, Poison::RefusedByStore),
        _ => Event::good(n),
    };
    publish(&world, (0..1_000).map(event).collect(), 500).await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(
        (judgement.readable, judgement.dead) == (998, 2),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_too_much_of_a_packed_message_holds_it_until_it_is_mended()
-> Result<()> {
    let world = World::start().await?;
    world.refuse_some_rows().await?;
    let worker = world.start_worker("").await?;
    let mut events: Vec<Event> = (0..100).map(Event::good).collect();
    events.extend((100..130).map(|n| Event::good(n).of_refused_device()));
    events.push(Event::poison(131, Poison::MissingField));
    publish(&world, events, 200).await?;
    worker.not_ready("refused").await?;
    world.refuse_no_rows().await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(
        (judgement.readable, judgement.dead) == (130, 1),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_a_worker_could_not_read_are_put_back_for_one_that_can() -> Result<()> {
    let world = World::start().await?;
    let too_few = [("PONIX_NATS_PACK_EVENTS_MAX", "10")];
    let worker = world.launch_worker("", &too_few).await?;
    worker.ready().await?;
    publish(&world, a_tenth_bad(BATCH), 25).await?;
    world.settled().await?;
    worker.stop().await?;
    let dead = world.dead_letter_stream().await?;
    let name = &dead.cached_info().config.name;
    let mut reader = RangeReader::open(&dead, held_range(&dead).await?).await?;
    let mut put_back = 0;
    while let Some(message) = reader.next().await? {
        let letter = KeptLetter::read(name, &message).context("a letter")?;
        // The latter is what a worker says that knows no packs.
        let is_expected = ["decode", "missing_field"].contains(&&*letter.reason);
        ensure!(is_expected && letter.index.is_none(), "{letter:?}");
        let back = letter.message(letter.first_part().clone());
        let context = world.publishing().context();
        let sent = context.publish_with_headers(back.subject, back.headers, back.payload);
        sent.await?.await?;
        dead.delete_message(letter.sequence).await?;
        put_back += 1;
    }
    ensure!(put_back == 4, "{put_back} of 4 packs");
    let _worker = world.start_worker("").await?;
    world.settled().await?;
    let judgement = world.expect_sound().await?;
    ensure!(
        (judgement.readable, judgement.dead) == (90, 10),
        "{judgement}"
    );
    Ok(())
}
