//! Bringing consumers to what the configuration asks for.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use ponix_nats::async_nats;
use ponix_nats::{ConsumerError, ConsumerSettings};

use crate::support::{Scene, Script, numbers, quick, shared_nats};

/// A scene with a stream and no consumer.
async fn without_consumer(name: &str) -> Scene {
    let nats = shared_nats().await;
    let mut scene = Scene::bare(&nats.url(), name).await;
    scene.server = Some(nats);
    scene.source.reconcile(&scene.context).await.unwrap();
    scene.dead.reconcile(&scene.context).await.unwrap();
    scene
}

async fn reconcile(scene: &Scene) -> Result<(), ConsumerError> {
    let stream = scene.stream().await;
    scene
        .consumer
        .reconcile(&stream, &scene.source)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_missing_consumer_is_made_as_the_design_says() {
    let scene = without_consumer("consumer-made").await;
    reconcile(&scene).await.unwrap();
    let made = scene.consumer_info().await.unwrap().config;
    assert_eq!(made.durable_name.as_deref(), Some("worker"));
    assert_eq!(made.ack_policy, AckPolicy::Explicit);
    assert_eq!(made.deliver_policy, DeliverPolicy::All);
    assert_eq!(made.ack_wait, Duration::from_secs(30));
    assert_eq!(made.max_deliver, -1);
    assert_eq!(made.max_ack_pending, 100_000);
    assert_eq!(made.filter_subject, "consumer-made.>");
    assert!(made.backoff.is_empty());
}

#[tokio::test]
async fn a_changed_consumer_keeps_its_place() {
    let mut scene = without_consumer("consumer-changed").await;
    reconcile(&scene).await.unwrap();
    scene.publish(numbers(0..10)).await;
    let script = Script::ack();
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    running.stop().await;
    scene.consumer = ConsumerSettings {
        ack_wait: Duration::from_secs(7),
        ack_pending_max: 77,
        ..scene.consumer
    };
    reconcile(&scene).await.unwrap();
    let info = scene.consumer_info().await.unwrap();
    assert_eq!(info.config.ack_wait, Duration::from_secs(7));
    assert_eq!(info.config.max_ack_pending, 77);
    assert_eq!(info.ack_floor.stream_sequence, 10);
}

#[tokio::test]
async fn workers_with_another_target_are_refused() {
    let mut scene = without_consumer("consumer-target").await;
    // A consumer of a version that did not say where it stores.
    reconcile(&scene).await.unwrap();
    let target = |name: &str| Some(format!("clickhouse {name}"));
    scene.consumer.target = target("one");
    reconcile(&scene).await.unwrap();
    reconcile(&scene).await.unwrap();
    scene.consumer.target = target("two");
    let refused = reconcile(&scene).await.unwrap_err().to_string();
    for part in [
        "target",
        "clickhouse one",
        "clickhouse two",
        "another consumer name",
    ] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    // Made with a target.
    scene.consumer.name = "second".into();
    reconcile(&scene).await.unwrap();
    scene.consumer.target = target("one");
    reconcile(&scene).await.unwrap_err();
}

#[tokio::test]
async fn an_equal_consumer_is_left_as_it_is() {
    let scene = without_consumer("consumer-equal").await;
    reconcile(&scene).await.unwrap();
    let made = scene.consumer_info().await.unwrap();
    reconcile(&scene).await.unwrap();
    let found = scene.consumer_info().await.unwrap();
    assert_eq!(found.config, made.config);
    assert_eq!(found.created, made.created);
}

#[tokio::test]
async fn deliveries_are_limited_where_a_file_says_so() {
    let mut scene = without_consumer("consumer-declared").await;
    let declared = Config {
        durable_name: Some("worker".into()),
        filter_subject: "consumer-declared.>".into(),
        max_deliver: 3,
        metadata: [("ponix-declared".to_owned(), "true".to_owned())].into(),
        ..Config::default()
    };
    let stream = scene.stream().await;
    stream.create_consumer(declared).await.unwrap();
    scene.consumer.ack_pending_max = 77;
    reconcile(&scene).await.unwrap();
    let found = scene.consumer_info().await.unwrap().config;
    assert_eq!((found.max_deliver, found.max_ack_pending), (3, 77));
    assert!(found.metadata.contains_key("ponix-declared"));
}

#[tokio::test]
async fn limits_that_would_refuse_our_requests_are_lifted() {
    let scene = without_consumer("consumer-limits").await;
    let by_hand = Config {
        durable_name: Some("worker".into()),
        filter_subject: "consumer-limits.>".into(),
        max_deliver: 3,
        max_batch: 5,
        max_bytes: 1_000,
        max_expires: Duration::from_millis(10),
        backoff: vec![Duration::from_secs(1)],
        description: Some("made by hand".into()),
        ..Config::default()
    };
    let stream = scene.stream().await;
    stream.create_consumer(by_hand).await.unwrap();
    reconcile(&scene).await.unwrap();
    let config = scene.consumer_info().await.unwrap().config;
    assert_eq!(config.max_deliver, -1);
    assert_eq!(config.max_batch, 0);
    assert_eq!(config.max_bytes, 0);
    assert_eq!(config.max_expires, Duration::ZERO);
    assert!(config.backoff.is_empty());
    assert_eq!(config.description.as_deref(), Some("made by hand"));
}

#[tokio::test]
async fn a_filter_outside_of_the_stream_is_refused_before_anything_is_made() {
    let mut scene = without_consumer("consumer-filter").await;
    for filter in ["elsewhere.>", ">", "consumer-filter"] {
        scene.consumer.filter_subject = filter.to_owned();
        let err = reconcile(&scene).await.unwrap_err();
        assert!(matches!(err, ConsumerError::Filter { .. }), "{err}");
        assert!(!err.is_transient());
        let text = err.to_string();
        assert!(
            text.contains(filter) && text.contains("consumer-filter.>"),
            "{text}"
        );
    }
    assert!(scene.consumer_info().await.is_err());
    scene.consumer.filter_subject = "consumer-filter.a.*".to_owned();
    reconcile(&scene).await.unwrap();
}

#[tokio::test]
async fn a_consumer_with_another_filter_or_ack_policy_is_refused_and_left_alone() {
    let scene = without_consumer("consumer-foreign").await;
    let stream = scene.stream().await;
    let cases = [
        (
            "filter_subject",
            Config {
                filter_subject: "consumer-foreign.a.>".into(),
                ..Config::default()
            },
        ),
        (
            "ack_policy",
            Config {
                ack_policy: AckPolicy::None,
                filter_subject: "consumer-foreign.>".into(),
                ..Config::default()
            },
        ),
        (
            "deliver_policy",
            Config {
                deliver_policy: DeliverPolicy::New,
                filter_subject: "consumer-foreign.>".into(),
                ..Config::default()
            },
        ),
    ];
    for (setting, config) in cases {
        let config = Config {
            durable_name: Some("worker".into()),
            ..config
        };
        stream.create_consumer(config).await.unwrap();
        let before = scene.consumer_info().await.unwrap().config;
        let err = reconcile(&scene).await.unwrap_err();
        assert!(matches!(err, ConsumerError::Differs { .. }), "{err}");
        assert!(err.to_string().contains(setting), "{err}");
        assert_eq!(scene.consumer_info().await.unwrap().config, before);
        stream.delete_consumer("worker").await.unwrap();
    }
}

#[tokio::test]
async fn a_push_consumer_is_refused() {
    let scene = without_consumer("consumer-push").await;
    let pushing = push::Config {
        durable_name: Some("worker".into()),
        deliver_subject: "somewhere".into(),
        filter_subject: "consumer-push.>".into(),
        ack_policy: AckPolicy::Explicit,
        ..push::Config::default()
    };
    let stream = scene.stream().await;
    stream.create_consumer(pushing).await.unwrap();
    let err = reconcile(&scene).await.unwrap_err();
    assert!(matches!(err, ConsumerError::Differs { .. }), "{err}");
    assert!(err.to_string().contains("push"), "{err}");
}
