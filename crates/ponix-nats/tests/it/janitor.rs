//! What a janitor purges, keeps, measures and says.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use futures::StreamExt as _;
use ponix_nats::{Janitor, async_nats};
use ponix_stack::eventually;
use prometheus_client::registry::Registry;

use crate::support::{SOON, Scene, now_ns};

const DAY: Duration = Duration::from_hours(24);
const MINUTE_NS: i64 = 60_000_000_000;

/// Acks so many messages, and waits until the server knows.
async fn ack(consumer: &mut PullConsumer, messages: usize, floor: u64) {
    let mut batch = consumer
        .batch()
        .max_messages(messages)
        .expires(SOON)
        .messages()
        .await
        .unwrap();
    while let Some(message) = batch.next().await {
        message.unwrap().ack().await.unwrap();
    }
    eventually("the ack floor", SOON, || {
        let consumer = consumer.clone();
        async move {
            let info = consumer.get_info().await?;
            let reached = info.ack_floor.stream_sequence;
            anyhow::ensure!(reached == floor, "{reached} of {floor}");
            Ok(())
        }
    })
    .await
    .unwrap();
}

async fn first_held(scene: &Scene) -> u64 {
    scene.stream().await.cached_info().state.first_sequence
}

fn says(warnings: &[String], part: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(part))
}

#[tokio::test]
async fn a_stream_short_of_space_gives_up_history_and_nothing_unsettled() {
    let mut scene = Scene::shared("short").await;
    scene.source.bytes_max = 1 << 20;
    let mut consumer = scene.create_source().await;
    let mut janitor = Janitor::new(scene.stream().await, DAY, &scene.nats_metrics);
    scene.publish((0..500).map(|_| vec![0; 1_000])).await;
    ack(&mut consumer, 300, 300).await;
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    assert_eq!(
        (cleaning.purged, cleaning.warnings.len()),
        (0, 0),
        "{cleaning:?}"
    );

    // From 90 % on, down to 80 %, without waiting for the next purge that is due.
    scene.publish((0..390).map(|_| vec![0; 1_000])).await;
    let cleaning = janitor.clean(now_ns(), false).await.unwrap();
    assert!(
        cleaning.purged > 50 && cleaning.short_of_space,
        "{cleaning:?}"
    );
    assert!(first_held(&scene).await <= 301);
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    assert_eq!(cleaning.purged, 0, "{cleaning:?}");
    assert!(says(&cleaning.warnings, "short of space"), "{cleaning:?}");

    // What is not settled stays, and is refused room rather than purged.
    while scene
        .publisher
        .publish(scene.message("d", vec![0; 1_000]))
        .await
        .is_ok()
    {
        janitor.clean(now_ns(), true).await.unwrap();
    }
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    assert_eq!(cleaning.purged, 0, "{cleaning:?}");
    assert_eq!(first_held(&scene).await, 301);
    assert!(says(&cleaning.warnings, "not settled"), "{cleaning:?}");

    // Room again, once it is.
    let unsettled = consumer.get_info().await.unwrap().num_pending;
    ack(&mut consumer, unsettled as usize, 300 + unsettled).await;
    janitor.clean(now_ns(), false).await.unwrap();
    scene.publish(["one more"]).await;
}

#[tokio::test]
async fn subjects_that_nobody_reads_are_not_purged() {
    let mut scene = Scene::shared("narrow").await;
    scene.consumer.name = "reader".into();
    scene.consumer.filter_subject = "narrow.a.>".into();
    let stream = scene.stream().await;
    stream.delete_consumer("worker").await.unwrap();
    let mut consumer = scene.create_source().await;
    for n in 0..10 {
        for subject in ["narrow.a.x", "narrow.b.x"] {
            let published = scene.context.publish(subject, n.to_string().into());
            published.await.unwrap().await.unwrap();
        }
    }
    ack(&mut consumer, 10, 19).await;
    let mut janitor = Janitor::new(scene.stream().await, Duration::ZERO, &scene.nats_metrics);
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    assert_eq!(cleaning.purged, 10, "{cleaning:?}");
    assert!(says(&cleaning.warnings, "narrow.>"), "{cleaning:?}");
    let left = scene.stream().await.cached_info().state.messages;
    assert_eq!(left, 10, "what nobody reads");

    // With a second consumer for the rest, every subject is read: still nothing of it is purged
    // before that consumer has settled it.
    let rest = Config {
        durable_name: Some("rest".into()),
        filter_subject: "narrow.>".into(),
        ..Config::default()
    };
    let mut rest = stream.create_consumer(rest).await.unwrap();
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    assert_eq!(
        (cleaning.purged, cleaning.warnings.len()),
        (0, 0),
        "{cleaning:?}"
    );
    ack(&mut rest, 10, 20).await;
    let cleaning = janitor.clean(now_ns(), true).await.unwrap();
    // The last message of the reader's subjects is number 19; 20 may lie above its floor.
    assert!(cleaning.purged >= 9, "{cleaning:?}");
}

#[tokio::test]
async fn a_consumer_that_does_not_move_is_named_and_the_others_are_measured() {
    let mut scene = Scene::shared("replayed").await;
    let mut registry = Registry::default();
    let metrics = ponix_nats::NatsMetrics::register(&mut registry);
    scene.consumer.ack_wait = Duration::from_mins(10);
    let mut consumer = scene.create_source().await;
    let replay = Config {
        durable_name: Some("replay".into()),
        ..Config::default()
    };
    let stream = scene.stream().await;
    stream.create_consumer(replay).await.unwrap();
    scene.publish(["a", "b", "c"]).await;
    ack(&mut consumer, 2, 2).await;

    let now = now_ns() + MINUTE_NS;
    let mut janitor = Janitor::new(stream.clone(), Duration::ZERO, &metrics);
    let cleaning = janitor.clean(now, true).await.unwrap();
    assert_eq!(
        (cleaning.purged, cleaning.warnings.len()),
        (0, 0),
        "{cleaning:?}"
    );
    let cleaning = janitor.clean(now + 6 * MINUTE_NS, true).await.unwrap();
    assert!(
        says(
            &cleaning.warnings,
            "consumer replay of stream replayed does not move"
        ),
        "{cleaning:?}"
    );
    assert_eq!(cleaning.warnings.len(), 1, "{cleaning:?}");
    let sample = |name: &str, consumer: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let start = format!("ponix_nats_{name}{{stream=\"replayed\",consumer=\"{consumer}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    assert_eq!(sample("pending_messages", "worker"), Some(1.0));
    assert_eq!(sample("pending_messages", "replay"), Some(3.0));
    assert_eq!(sample("ack_pending_messages", "worker"), Some(0.0));
    // The oldest that is not settled is as old for both, but for the moments between them.
    assert!((400.0..480.0).contains(&sample("consumer_lag_seconds", "worker").unwrap()));
    assert!((360.0..480.0).contains(&sample("consumer_stuck_seconds", "replay").unwrap()));
    assert_eq!(sample("consumer_stuck_seconds", "worker"), Some(0.0));
    assert!(sample("consumer_last_ack_timestamp_seconds", "worker").unwrap() > 1.7e9);

    ack(&mut consumer, 1, 3).await;
    stream.delete_consumer("replay").await.unwrap();
    let cleaning = janitor.clean(now + 7 * MINUTE_NS, true).await.unwrap();
    assert_eq!(
        (cleaning.purged, cleaning.warnings.len()),
        (3, 0),
        "{cleaning:?}"
    );
    assert_eq!(sample("pending_messages", "replay"), None);
}
