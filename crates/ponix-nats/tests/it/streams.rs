//! Bringing streams to what the configuration asks for.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use futures::StreamExt as _;
use ponix_nats::async_nats;
use ponix_nats::{DeadLetters, StreamError, StreamSettings};
use ponix_stack::Nats;

use crate::support::{plain_context, shared_nats};

fn settings(name: &str) -> StreamSettings {
    StreamSettings {
        bytes_max: 1 << 20,
        ..StreamSettings::new(name, vec![format!("{name}.>")])
    }
}

/// A stream as somebody else would make it.
fn by_hand(name: &str) -> Config {
    Config {
        name: name.into(),
        subjects: vec![format!("{name}.>")],
        max_bytes: 1 << 20,
        discard: DiscardPolicy::New,
        ..Config::default()
    }
}

async fn config_of(context: &Context, name: &str) -> Config {
    let stream = context.get_stream(name).await.unwrap();
    stream.cached_info().config.clone()
}

async fn fill(context: &Context, name: &str, messages: usize, bytes: usize) {
    for n in 0..messages {
        let ack = context.publish(format!("{name}.{n}"), vec![0; bytes].into());
        ack.await.unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_stream_is_made_as_the_design_says() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    settings("made").reconcile(&context).await.unwrap();
    let made = config_of(&context, "made").await;
    assert_eq!(made.subjects, ["made.>"]);
    assert_eq!(made.storage, StorageType::File);
    assert_eq!(made.retention, RetentionPolicy::Limits);
    assert_eq!(made.discard, DiscardPolicy::New);
    assert_eq!(made.max_age, Duration::ZERO);
    assert_eq!(made.max_bytes, 1 << 20);
    assert_eq!(made.duplicate_window, Duration::from_mins(2));
    assert!(made.allow_direct);
    assert!(!made.allow_rollup && !made.allow_message_ttl);

    let dead = DeadLetters::stream_settings(&settings("made"), 1 << 20);
    dead.reconcile(&context).await.unwrap();
    let made = config_of(&context, "made_dlq").await;
    assert_eq!(made.max_messages_per_subject, 1);
    assert!(made.discard_new_per_subject);
}

#[tokio::test]
async fn an_equal_stream_is_not_touched_and_a_different_one_once() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    let client = context.client();
    let mut updates = client
        .subscribe("$JS.EVENT.ADVISORY.STREAM.UPDATED.equal")
        .await
        .unwrap();
    let mut settings = settings("equal");
    settings.reconcile(&context).await.unwrap();
    settings.reconcile(&context).await.unwrap();
    settings.reconcile(&context).await.unwrap();
    settings.bytes_max = 2 << 20;
    settings.reconcile(&context).await.unwrap();
    settings.reconcile(&context).await.unwrap();
    updates.next().await.unwrap();
    // What came until here was sent before this answer.
    client.flush().await.unwrap();
    config_of(&context, "equal").await;
    updates.unsubscribe().await.unwrap();
    assert_eq!(updates.count().await, 0, "updated more than once");
}

#[tokio::test]
async fn a_stream_that_would_drop_unread_messages_is_changed_and_keeps_what_it_has() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    let dropping = Config {
        discard: DiscardPolicy::Old,
        max_age: Duration::from_hours(1),
        max_messages: 100,
        description: Some("made by hand".into()),
        ..by_hand("dropping")
    };
    context.create_stream(dropping).await.unwrap();
    fill(&context, "dropping", 20, 1).await;
    let stream = settings("dropping").reconcile(&context).await.unwrap();
    let changed = config_of(&context, "dropping").await;
    assert_eq!(changed.discard, DiscardPolicy::New);
    assert_eq!(changed.max_age, Duration::ZERO);
    assert_eq!(changed.max_messages, -1);
    assert_eq!(changed.description.as_deref(), Some("made by hand"));
    assert_eq!(stream.get_info().await.unwrap().state.messages, 20);
}

#[tokio::test]
async fn less_room_than_is_used_drops_nothing_and_refuses_what_is_new() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    let old = Config {
        discard: DiscardPolicy::Old,
        ..by_hand("shrunk")
    };
    context.create_stream(old).await.unwrap();
    fill(&context, "shrunk", 50, 10_000).await;
    let smaller = StreamSettings {
        bytes_max: 100_000,
        ..settings("shrunk")
    };
    let stream = smaller.reconcile(&context).await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 50);
    let refused = context.publish("shrunk.new", "x".into()).await.unwrap();
    assert!(refused.await.is_err());
    assert_eq!(stream.get_info().await.unwrap().state.messages, 50);
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_with_the_difference_and_left_alone() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    let cases = [
        (
            "storage",
            Config {
                storage: StorageType::Memory,
                ..by_hand("foreign-storage")
            },
        ),
        (
            "retention",
            Config {
                retention: RetentionPolicy::WorkQueue,
                ..by_hand("foreign-retention")
            },
        ),
        (
            "subjects",
            Config {
                subjects: vec!["foreign-subjects.>".into(), "elsewhere.>".into()],
                ..by_hand("foreign-subjects")
            },
        ),
    ];
    for (setting, config) in cases {
        let name = config.name.clone();
        context.create_stream(config.clone()).await.unwrap();
        let before = config_of(&context, &name).await;
        let err = settings(&name).reconcile(&context).await.unwrap_err();
        let StreamError::Differs { differences, .. } = &err else {
            panic!("{setting}: {err}");
        };
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert_eq!(differences[0].setting, setting);
        assert!(!err.is_transient());
        assert!(err.to_string().contains(setting), "{err}");
        assert_eq!(config_of(&context, &name).await, before);
    }
}

#[tokio::test]
async fn a_dead_letter_stream_that_holds_several_per_subject_is_refused() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    context.create_stream(by_hand("several_dlq")).await.unwrap();
    let settings = DeadLetters::stream_settings(&settings("several"), 1 << 20);
    let err = settings.reconcile(&context).await.unwrap_err();
    assert!(err.to_string().contains("max_msgs_per_subject"), "{err}");
}

#[tokio::test]
async fn subjects_of_another_stream_are_explained() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    context.create_stream(by_hand("taken")).await.unwrap();
    let settings = StreamSettings::new("taker", vec!["taken.some.>".into()]);
    let err = StreamSettings {
        bytes_max: 1 << 20,
        ..settings
    }
    .reconcile(&context)
    .await
    .unwrap_err();
    assert!(err.to_string().contains("another stream"), "{err}");
    assert!(!err.is_transient());
}

#[tokio::test]
async fn a_limit_that_the_server_has_no_room_for_is_explained() {
    let nats = Nats::builder()
        .max_file_store(1 << 20)
        .start()
        .await
        .unwrap();
    let context = plain_context(&nats.url()).await;
    let settings = StreamSettings {
        bytes_max: 2 << 20,
        ..settings("roomy")
    };
    let err = settings.reconcile(&context).await.unwrap_err();
    assert!(err.to_string().contains("less store space"), "{err}");
}

#[tokio::test]
async fn replicas_without_a_cluster_are_explained() {
    let nats = shared_nats().await;
    let context = plain_context(&nats.url()).await;
    let settings = StreamSettings {
        replicas: 3,
        ..settings("tripled")
    };
    let err = settings.reconcile(&context).await.unwrap_err();
    assert!(err.to_string().contains("not part of a cluster"), "{err}");
}
