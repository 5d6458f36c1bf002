//! The suite bites: with each planted bug the scenario that must find it does. The same scenarios
//! without a bug are sound, which the other files test.
//!
//! The bugs are patches in `bugs/`. `scripts/faults --planted` applies them to a copy of the tree,
//! builds the worker there and runs these tests on it.

use anyhow::{Result, ensure};
use ponix_faults::{DEADLY_MARK, Event, Judgement, Pipeline, SOON, World};
use ponix_stack::eventually;
use tokio_util::sync::CancellationToken;

use crate::pipelines::expect;
use crate::support::{good, poison};

/// The oracle tells this, and something is wrong.
fn finds(judgement: &Judgement, word: &str) -> Result<()> {
    let told = judgement
        .examples
        .iter()
        .any(|example| example.contains(word));
    ensure!(told, "{word:?} was not found: {judgement}");
    Ok(())
}

/// Ends at a point, starts again with the second failpoints, settles, and judges.
async fn ends_at(first: &str, then: &str) -> Result<Judgement> {
    let world = World::builder()
        .env("PONIX_NATS_BATCHES_IN_FLIGHT", 1)
        .start()
        .await?;
    world.publishing().publish(good(100)).await?;
    let worker = world.launch_worker(first, &[]).await?;
    worker.ended().await?;
    worker.set_failpoints(then);
    worker.start_again().await?;
    world.settled().await?;
    world.judge().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn acks_before_the_insert_are_found() -> Result<()> {
    let bug = "bug_ack_before_insert=return";
    let judgement = ends_at(&format!("{bug};before_insert=return"), bug).await?;
    finds(&judgement, "lost")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn an_identity_that_is_the_sequence_is_found() -> Result<()> {
    let judgement = crate::disks::tail_truncated("bug_identity_is_sequence=return").await?;
    finds(&judgement, "not for the first time")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn an_end_before_the_dead_letter_is_kept_is_found() -> Result<()> {
    let (world, _worker) =
        crate::limits::dead_letters_full("bug_term_before_dead_letter=return").await?;
    finds(&world.judge().await?, "lost")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn work_cancelled_between_insert_and_ack_is_found() -> Result<()> {
    let bug = "bug_cancelled_between_insert_and_ack=return";
    let judgement = crate::lifecycle::stopped_between_insert_and_ack(bug).await?;
    ensure!(judgement.physical_duplicates > 0, "no copies: {judgement}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn duplicates_that_are_only_looked_for_when_redelivered_are_found() -> Result<()> {
    let bug = "bug_identity_only_when_redelivered=return";
    let judgement = ends_at(&format!("{bug};after_insert=return"), bug).await?;
    finds(&judgement, "doubled")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn a_janitor_above_the_ack_floor_is_found() -> Result<()> {
    let bug = "bug_janitor_above_ack_floor=return";
    let judgement = crate::lifecycle::janitor_beside_a_backlog(bug).await?;
    finds(&judgement, "lost")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn acks_of_what_cannot_be_decoded_are_found() -> Result<()> {
    let world = World::start().await?;
    let _worker = world.start_worker("bug_undecodable_acked=return").await?;
    world.publishing().publish(good(50)).await?;
    world.publishing().publish(poison()).await?;
    world.settled().await?;
    finds(&world.judge().await?, "lost")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn a_payload_that_ends_the_process_is_a_dead_letter_alone_in_every_pipeline() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    world.start_worker("").await?.stop().await?;
    let all = |from| (from..from + 30).flat_map(|n| Pipeline::ALL.map(|of| Event::good_of(of, n)));
    let deadly = Pipeline::ALL.map(|pipeline| Event::deadly_of(pipeline, 0));
    world.publishing().publish(all(0)).await?;
    world.publishing().publish(deadly).await?;
    world.publishing().publish(all(30)).await?;
    let failpoint = format!("abort_on_payload=return({DEADLY_MARK})");
    let worker = world.launch_worker(&failpoint, &[]).await?;
    eventually("each deadly payload to be a dead letter", SOON, || async {
        if !worker.process().is_running() {
            worker.process().start()?;
        }
        for pipeline in Pipeline::ALL {
            let left = world.consumer_of(pipeline).await?;
            let left = (left.num_pending, left.num_ack_pending);
            ensure!(left == (0, 0), "{pipeline}: {left:?}");
        }
        Ok(())
    })
    .await?;
    ensure!(worker.process().starts() > 1, "nothing ended the process");
    expect(&world, 60, 1).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the worker of scripts/faults --planted"]
async fn an_event_of_a_packed_message_that_ends_the_process_is_a_dead_letter_alone() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    world.start_worker("").await?.stop().await?;
    for pipeline in Pipeline::ALL {
        let mut events: Vec<_> = (0..60).map(|n| Event::good_of(pipeline, n)).collect();
        events.insert(17, Event::deadly_of(pipeline, 0));
        let give_up = CancellationToken::new();
        let publishing = world.publishing();
        publishing.publish_packed(events, 61, &give_up).await?;
    }
    let failpoint = format!("abort_on_payload=return({DEADLY_MARK})");
    let worker = world.launch_worker(&failpoint, &[]).await?;
    eventually("each packed message to be settled", SOON, || async {
        if !worker.process().is_running() {
            worker.process().start()?;
        }
        for pipeline in Pipeline::ALL {
            let left = world.consumer_of(pipeline).await?;
            let left = (left.num_pending, left.num_ack_pending);
            ensure!(left == (0, 0), "{pipeline}: {left:?}");
        }
        Ok(())
    })
    .await?;
    ensure!(worker.process().starts() > 1, "nothing ended the process");
    expect(&world, 60, 1).await
}
