//! Streams and consumers that are there with other settings than configured.

use std::time::Duration;

use ponix_nats::async_nats::jetstream::consumer::pull;
use ponix_nats::async_nats::jetstream::stream::{Config, StorageType};

use crate::support::{World, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_outside_the_stream_is_refused() {
    let world = World::new("settings_filter").await;
    let (code, log) = world
        .service()
        .env("PONIX_NATS_SUBJECT", "somewhere.else.>")
        .run()
        .await;
    assert_eq!(code, 64, "{log}");
    let told = format!("set PONIX_NATS_SUBJECT={}.> for all of it", world.name);
    assert!(log.contains(&told), "{log}");
    let made = world.context().await.get_stream(&world.name).await;
    assert!(made.is_err(), "nothing is made for a wrong configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_changed_is_refused_and_left_alone() {
    let world = World::new("settings_stream").await;
    let theirs = Config {
        name: world.name.clone(),
        subjects: vec![format!("{}.>", world.name)],
        storage: StorageType::Memory,
        ..Config::default()
    };
    let mut stream = world.context().await.create_stream(theirs).await.unwrap();
    let before = stream.info().await.unwrap().config.clone();
    let (code, log) = world.service().run().await;
    assert_eq!(code, 1, "{log}");
    let told = format!(
        "stream {} has other settings than configured (storage",
        world.name
    );
    assert!(log.contains(&told), "{log}");
    assert_eq!(stream.info().await.unwrap().config, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_cannot_be_changed_is_refused_and_left_alone() {
    let world = World::new("settings_consumer").await;
    world.create_stream().await;
    let stream = world.context().await.get_stream(&world.name).await.unwrap();
    let theirs = pull::Config {
        durable_name: Some("ponix-all-in-one".to_owned()),
        filter_subject: format!("{}.one", world.name),
        ..pull::Config::default()
    };
    stream.create_consumer(theirs).await.unwrap();
    let (code, log) = world.service().run().await;
    assert_eq!(code, 1, "{log}");
    let told = format!(
        "consumer ponix-all-in-one of stream {} has other settings than configured (filter_subject",
        world.name
    );
    assert!(log.contains(&told), "{log}");
    let left = stream.consumer_info("ponix-all-in-one").await.unwrap();
    assert_eq!(left.config.filter_subject, format!("{}.one", world.name));

    // Another name is the way out.
    let service = world
        .service()
        .env("PONIX_NATS_CONSUMER", "another")
        .start_ready()
        .await;
    world.publish(numbered(1)).await;
    world.stored(1).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_changed_is_changed_and_told() {
    let world = World::new("settings_updated").await;
    world.service().start_ready().await.stop().await;
    let service = world
        .service()
        .env("PONIX_NATS_STREAM_BYTES_MAX", 32 << 20)
        .env("PONIX_NATS_ACK_WAIT_SECS", 30)
        .start_ready()
        .await;
    assert_eq!(service.log_lines("updated to the configuration").len(), 2);
    let stream = world.context().await.get_stream(&world.name).await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, 32 << 20);
    let consumer = stream.consumer_info("ponix-all-in-one").await.unwrap();
    assert_eq!(consumer.config.ack_wait, Duration::from_secs(30));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_of_another_stream_are_refused() {
    let world = World::new("settings_overlap").await;
    let theirs = Config {
        name: format!("{}_theirs", world.name),
        subjects: vec![format!("{}.one", world.name)],
        ..Config::default()
    };
    world.context().await.create_stream(theirs).await.unwrap();
    let (code, log) = world.service().run().await;
    assert_eq!(code, 1, "{log}");
    let told = format!(
        "stream {} cannot be created: another stream already takes its subjects",
        world.name
    );
    assert!(log.contains(&told), "{log}");
}
