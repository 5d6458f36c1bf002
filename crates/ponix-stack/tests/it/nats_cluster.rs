//! Three NATS servers that keep a stream together.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use ponix_stack::{NatsCluster, eventually};

const SOON: Duration = Duration::from_mins(1);

/// Publishes until it is acknowledged: while a leader is being elected, nobody answers.
async fn publish(jetstream: &jetstream::Context) {
    eventually("an acknowledged publish", SOON, || async {
        jetstream.publish("events", "x".into()).await?.await?;
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_replicated_stream_outlives_its_leader_and_a_power_cut() {
    let cluster = NatsCluster::start().await.unwrap();
    let client = async_nats::connect(cluster.url().split(',').collect::<Vec<_>>())
        .await
        .unwrap();
    let jetstream = jetstream::new(client);
    let config = stream::Config {
        name: "events".into(),
        num_replicas: 3,
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    publish(&jetstream).await;

    let leader = cluster.stream_leader("events").await.unwrap();
    cluster.node(leader).kill().await.unwrap();
    publish(&jetstream).await;
    let next = eventually("another leader", SOON, || async {
        let next = cluster.stream_leader("events").await?;
        anyhow::ensure!(next != leader, "node {leader} is dead");
        anyhow::Ok(next)
    })
    .await
    .unwrap();
    assert!(cluster.node(next).is_running());
    cluster.start_all().await.unwrap();

    cluster.kill_all().await.unwrap();
    cluster.start_all().await.unwrap();
    assert!(cluster.meta_leader().await.unwrap() < 3);
    publish(&jetstream).await;
    let mut stream = eventually("the stream", SOON, || jetstream.get_stream("events"))
        .await
        .unwrap();
    let messages = stream.info().await.unwrap().state.messages;
    // A publish that was stored and not acknowledged was published again.
    assert!(messages >= 3, "{messages} messages");
}
