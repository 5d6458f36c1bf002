//! Three nodes with replicated streams: leaders go, the cluster goes, the events stay.

use std::collections::BTreeSet;
use std::time::Duration;

use ponix_nats::{BatchSettings, ConsumerState, DeadLetters, NatsConfig};
use ponix_stack::{Nats, NatsCluster, eventually};
use tokio_util::sync::CancellationToken;

use crate::support::{SOON, Scene, Script, impatient, numbers, quick};

async fn scene(cluster: &NatsCluster, name: &str) -> Scene {
    let servers = cluster.nodes().iter().map(Nats::url).collect();
    let config = NatsConfig {
        servers,
        ..impatient("")
    };
    let mut scene = Scene::with(config, name).await;
    scene.consumer.ack_wait = Duration::from_secs(3);
    scene.source.replicas = 3;
    scene.dead = DeadLetters::stream_settings(&scene.source, 64 << 20);
    // A new cluster may say for a moment that it cannot place a stream.
    eventually("the streams", SOON, || async {
        scene.dead.reconcile(&scene.context).await?;
        let stream = scene.source.reconcile(&scene.context).await?;
        scene.consumer.reconcile(&stream, &scene.source).await?;
        anyhow::Ok(())
    })
    .await
    .unwrap();
    scene
}

#[tokio::test]
async fn what_was_acked_to_its_publisher_is_stored_though_leader_and_cluster_are_killed() {
    let cluster = Box::pin(NatsCluster::start()).await.unwrap();
    let scene = scene(&cluster, "replicated").await;
    let script = Script::ack();
    let settings = BatchSettings {
        messages_max: 50,
        ..quick()
    };
    let mut running = scene.start(settings, &script).await;
    let publishing = tokio::spawn({
        let publisher = scene.publisher.clone();
        let events: Vec<_> = numbers(0..1_000)
            .map(|body| scene.message("d", body))
            .collect();
        async move {
            let never = CancellationToken::new();
            for event in events {
                publisher.publish_until_acked(&event, &never).await.unwrap();
            }
        }
    });
    script.has_stored(100).await;
    let leader = cluster.stream_leader("replicated").await.unwrap();
    cluster.node(leader).kill().await.unwrap();
    script.has_stored(300).await;
    cluster.start_all().await.unwrap();
    script.has_stored(500).await;
    cluster.kill_all().await.unwrap();
    cluster.start_all().await.unwrap();
    tokio::time::timeout(2 * SOON, publishing)
        .await
        .unwrap()
        .unwrap();
    script.has_stored(1_000).await;
    scene.settled().await;
    running
        .reaches(|state| *state == ConsumerState::Running)
        .await;
    running.stop().await;
    let stored: BTreeSet<_> = script.stored().into_keys().collect();
    assert_eq!(stored, numbers(0..1_000).collect());
    assert_eq!(scene.dead_lettered(), 0);
    scene.assert_balance();
}

/// With older servers too: `PONIX_NATS_SERVER=.ponix/bin/nats-server-oldest`.
#[tokio::test]
async fn a_tail_lost_by_one_server_or_by_all_hides_nothing_that_comes_after() {
    for damaged in [1, 3] {
        let cluster = Box::pin(NatsCluster::start()).await.unwrap();
        let scene = scene(&cluster, "cut").await;
        let script = Script::ack();
        let running = scene.start(quick(), &script).await;
        scene.publish(numbers(0..300)).await;
        scene.settled().await;
        let leader = cluster.stream_leader("cut").await.unwrap();
        cluster.kill_all().await.unwrap();
        for node in (leader..leader + damaged).map(|node| node % 3) {
            cluster.node(node).cut_tail("cut").unwrap();
        }
        cluster.start_all().await.unwrap();
        eventually("publishing", SOON, || async {
            let ack = scene.context.publish("cut.d", "first".into()).await?;
            anyhow::Ok(ack.await.map(drop)?)
        })
        .await
        .unwrap();
        scene.publish(numbers(300..600)).await;
        script.has_stored(601).await;
        running.stop().await;
    }
}
