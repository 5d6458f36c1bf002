//! Three NATS servers that replicate.

use anyhow::{Context as _, Result, ensure};
use ponix_faults::{Judgement, World};

use crate::support::{good, poison};

/// A world of a cluster, with two workers.
async fn world() -> Result<World> {
    World::builder().cluster().start().await
}

async fn settle(world: &World) -> Result<Judgement> {
    world.publishing().publish(poison()).await?;
    world.settled().await?;
    world.expect_sound().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_accepted_survives_any_node_the_leader_and_all() -> Result<()> {
    let world = world().await?;
    let cluster = world.nats_cluster();
    let _workers = (world.start_worker("").await?, world.start_worker("").await?);
    let stream = "processed_envelopes";

    let leader = cluster.stream_leader(stream).await?;
    let other = (leader + 1) % 3;
    for node in [other, leader] {
        cluster.wait_until_ready().await?;
        let publishing = world.publishing().publish(good(2_000));
        let killing = async { cluster.node(node).kill().await };
        let (published, killed) = tokio::join!(publishing, killing);
        published?;
        killed?;
        cluster.node(node).start_again().await?;
    }

    cluster.wait_until_ready().await?;
    world.publishing().publish(good(2_000)).await?;
    let accepted = world.ledger().totals();
    ensure!(accepted.acknowledged > 0, "{accepted:?}");
    // The events of the last moment may not have been read yet by anybody.
    cluster.kill_all().await?;
    cluster
        .start_all()
        .await
        .context("the cluster comes back")?;
    world.publishing().publish(good(500)).await?;
    let judgement = settle(&world).await?;
    println!("{judgement}");
    ensure!(
        judgement.readable >= judgement.acknowledged - judgement.poison,
        "{judgement}"
    );
    Ok(())
}
