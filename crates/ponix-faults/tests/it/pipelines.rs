//! The same for every pipeline: envelopes, raw messages, a declared one. They run in one worker.

use std::time::Duration;

use anyhow::{Result, ensure};
use ponix_faults::{Event, Pipeline, Poison, World};
use ponix_stack::Server;
use tokio::time::sleep;

use crate::support::size;

/// Good events of every pipeline in turn, so many of each, and one of each poison that decoders
/// refuse.
fn events(count: u64) -> impl Iterator<Item = Event> {
    let good = (0..count).flat_map(|n| Pipeline::ALL.map(|pipeline| Event::good_of(pipeline, n)));
    let kinds = Poison::ALL.into_iter();
    let kinds = kinds.filter(|poison| *poison != Poison::RefusedByStore);
    let poison =
        kinds.flat_map(move |poison| Pipeline::ALL.map(|of| Event::poison_of(of, count, poison)));
    good.chain(poison)
}

/// Every pipeline has so many rows and dead letters, of the right events.
pub(crate) async fn expect(world: &World, readable: u64, dead: u64) -> Result<()> {
    world.expect_sound().await?;
    for (pipeline, judgement) in world.judge_all().await? {
        let found = (judgement.readable, judgement.dead);
        ensure!(found == (readable, dead), "{pipeline}: {judgement}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_under_load_leaves_each_event_once_in_every_pipeline() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    let worker = world.start_worker("").await?;
    let kills = size(4, 20);
    for kill in 0..kills {
        let killing = async {
            sleep(Duration::from_millis(100 + 150 * (kill % 4))).await;
            worker.process().kill().await?;
            worker.start_again().await
        };
        let (killed, published) = tokio::join!(killing, world.publishing().publish(events(1_000)));
        killed?;
        published?;
    }
    world.settled().await?;
    expect(&world, kills * 1_000, kills * 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_go_away_under_load_lose_nothing_of_any_pipeline() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    let _workers = (world.start_worker("").await?, world.start_worker("").await?);
    let servers: [&Server; 3] = [world.nats(), world.clickhouse(), world.postgres()];
    for server in servers {
        let breaking = async {
            sleep(Duration::from_millis(200)).await;
            server.kill().await?;
            sleep(Duration::from_millis(size(1_000, 10_000))).await;
            server.start_again().await
        };
        let (broken, published) = tokio::join!(breaking, world.publishing().publish(events(1_000)));
        broken?;
        published?;
    }
    world.settled().await?;
    expect(&world, 3_000, 12).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_at_fault_is_held_red_and_goes_on_after_the_mend_in_every_pipeline() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    let worker = world.start_worker("").await?;
    // Rows to compare with: a store that refuses them again is at fault.
    world.publishing().publish(events(50)).await?;
    world.settled().await?;
    for pipeline in Pipeline::ALL {
        world.refuse_rows_of(pipeline).await?;
    }
    for n in 50..60 {
        // A row or two at a time, where a share of a batch says nothing.
        let one_each = Pipeline::ALL.map(|pipeline| Event::good_of(pipeline, n));
        world.publishing().publish(one_each).await?;
        sleep(Duration::from_millis(100)).await;
    }
    for pipeline in Pipeline::ALL {
        let held = format!("the intake of {pipeline} has stopped");
        worker.not_ready(&held).await?;
        let dead = world.judge_pipeline(pipeline).await?.dead;
        ensure!(
            dead == 4,
            "{pipeline}: {} good ones are dead letters",
            dead - 4
        );
    }
    for pipeline in Pipeline::ALL {
        world.take_rows_of(pipeline).await?;
    }
    world.settled().await?;
    worker.ready().await?;
    expect(&world, 60, 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_take_nothing_are_red_in_every_pipeline() -> Result<()> {
    let world = World::builder().all_pipelines().start().await?;
    let worker = world.start_worker("").await?;
    for pipeline in Pipeline::ALL {
        world.limit_dead_letters(pipeline, 1).await?;
    }
    let poison = [Poison::Undecodable, Poison::NotANumber];
    let poison = poison.map(|poison| Pipeline::ALL.map(|of| Event::poison_of(of, 1, poison)));
    world.publishing().publish(poison.concat()).await?;
    let gauge = |pipeline: Pipeline| {
        let stream = pipeline.stream();
        format!(r#"ponix_nats_dead_letters_refused{{stream="{stream}_dlq"}}"#)
    };
    for pipeline in Pipeline::ALL {
        let full = format!("stream {}_dlq is full", pipeline.stream());
        worker.not_ready(&full).await?;
        ensure!(worker.metrics().await?.get(&gauge(pipeline)) == 1);
    }
    for pipeline in Pipeline::ALL {
        world.limit_dead_letters(pipeline, -1).await?;
    }
    world.settled().await?;
    worker.ready().await?;
    for pipeline in Pipeline::ALL {
        ensure!(worker.metrics().await?.get(&gauge(pipeline)) == 0);
    }
    expect(&world, 0, 2).await
}
