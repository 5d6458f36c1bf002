//! Publishing: PubAcks, refusals, and what happens when no answer comes.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::poll;
use ponix_nats::{
    ConnectionRole, NatsMetrics, OutgoingMessage, PublishError, PublishErrorClass, Publisher,
    SUBJECT_BYTES_MAX, StreamSettings, connect,
};
use ponix_stack::{Mode, Nats, Proxy, eventually};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{SOON, Scene, config, messages, numbers};

async fn scene_with_room(name: &str, bytes_max: u64) -> Scene {
    let scene = Scene::shared(name).await;
    let small = StreamSettings {
        bytes_max,
        ..scene.source.clone()
    };
    small.reconcile(&scene.context).await.unwrap();
    scene
}

#[tokio::test]
async fn a_puback_says_where_the_message_is() {
    let scene = Scene::shared("puback").await;
    for sequence in 1..=2 {
        let ack = scene.publisher.publish(scene.message("d", "x")).await;
        let ack = ack.unwrap();
        assert_eq!(
            (ack.stream.as_str(), ack.sequence, ack.duplicate),
            ("puback", sequence, false)
        );
    }
}

#[tokio::test]
async fn the_same_id_is_stored_once() {
    let scene = Scene::shared("same-id").await;
    let message = scene.message("d", "x");
    let first = scene.publisher.publish(message.clone()).await.unwrap();
    let second = scene.publisher.publish(message).await.unwrap();
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(second.sequence, first.sequence);
    assert_eq!(messages(&scene.context, "same-id").await.len(), 1);
}

#[tokio::test]
async fn a_full_stream_refuses_and_evicts_nothing() {
    let scene = scene_with_room("full", 10_000).await;
    let mut stored = 0;
    let err = loop {
        let message = scene.message("d", vec![b'x'; 1_000]);
        match scene.publisher.publish(message).await {
            Ok(_) => stored += 1,
            Err(err) => break err,
        }
    };
    assert!(err.is_store_refusal(), "{err}");
    assert_eq!(err.class(), PublishErrorClass::Transient);
    assert!(err.to_string().contains("maximum bytes"), "{err}");
    let kept = messages(&scene.context, "full").await;
    assert_eq!((kept.len(), kept[0].sequence), (stored, 1));
}

#[tokio::test]
async fn a_message_over_the_servers_limit_is_refused_and_the_connection_lives() {
    let scene = Scene::shared("too-large").await;
    let limit = scene.client.max_payload();
    let body = scene.message("d", vec![0; limit + 1]);
    let mut headers = scene.message("d", vec![0; limit - 10]);
    headers.headers.insert("Long", "x".repeat(100));
    for message in [body, headers] {
        let err = scene.publisher.publish(message).await.unwrap_err();
        assert!(matches!(err, PublishError::TooLarge { .. }), "{err}");
        assert_eq!(err.class(), PublishErrorClass::Rejected);
        assert!(!err.is_store_refusal());
    }
    let ack = scene.publisher.publish(scene.message("d", "x")).await;
    assert_eq!(ack.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_subject_without_a_stream_is_named() {
    let scene = Scene::shared("no-stream").await;
    let message = OutgoingMessage {
        subject: "nobody.takes.this".into(),
        ..scene.message("d", "x")
    };
    let err = scene.publisher.publish(message).await.unwrap_err();
    assert!(matches!(err, PublishError::NoStream { .. }), "{err}");
    assert!(err.to_string().contains("nobody.takes.this"), "{err}");
    assert_eq!(err.class(), PublishErrorClass::Transient);
}

#[tokio::test]
async fn subjects_that_nobody_could_read_never_reach_the_server() {
    let scene = Scene::shared("subjects").await;
    let too_long = format!("subjects.{}", "x".repeat(SUBJECT_BYTES_MAX));
    for subject in [
        "subjects.*",
        "subjects.>",
        "subjects..x",
        "subjects.",
        "subjects.a b",
        "subjects.a\r\nb",
        "",
        &too_long,
    ] {
        let message = OutgoingMessage {
            subject: subject.to_owned(),
            ..scene.message("d", "x")
        };
        let err = scene.publisher.publish(message).await.unwrap_err();
        assert!(matches!(err, PublishError::Subject { .. }), "{subject}");
        assert_eq!(err.class(), PublishErrorClass::Rejected);
    }
    let ack = scene.publisher.publish(scene.message("d", "x")).await;
    assert_eq!(ack.unwrap().sequence, 1);
}

#[tokio::test]
async fn many_in_flight_are_all_stored_in_the_order_they_were_sent() {
    let scene = Scene::shared("pipelined").await;
    let sending = numbers(0..5_000).map(|body| scene.publisher.send(scene.message("d", body)));
    let mut pending = Vec::new();
    let mut sequences = Vec::new();
    for send in sending {
        pending.push(send.await.unwrap());
        if pending.len() == 250 {
            for pending in pending.drain(..) {
                sequences.push(pending.wait().await.unwrap().sequence);
            }
        }
    }
    assert_eq!(sequences, (1..=5_000).collect::<Vec<_>>());
    assert_eq!(scene.nats_metrics.published(), 5_000);
}

#[tokio::test]
async fn sending_waits_while_too_many_have_no_puback() {
    let nats = Nats::start().await.unwrap();
    let scene = Scene::at(&nats.url(), "bounded").await;
    let proxy = Proxy::start(nats.addr()).await.unwrap();
    let mut config = config(&proxy.url("nats"));
    // The answer to a ping is held as well.
    config.ping_interval = Duration::from_mins(10);
    let metrics = NatsMetrics::unregistered();
    let deadline = Instant::now() + SOON;
    let client = connect(&config, ConnectionRole::Publish, &metrics, deadline)
        .await
        .unwrap();
    let publisher = Publisher::new(client, &config, 8, metrics);
    proxy.set(Mode::HoldResponses).await;
    let mut pending = Vec::new();
    for _ in 0..8 {
        pending.push(publisher.send(scene.message("d", "x")).await.unwrap());
    }
    let mut ninth = std::pin::pin!(publisher.send(scene.message("d", "x")));
    assert!(poll!(&mut ninth).is_pending());
    eventually("the eight in the stream", SOON, || async {
        messages(&scene.context, "bounded").await.len() == 8
    })
    .await
    .unwrap();
    assert!(poll!(&mut ninth).is_pending());
    proxy.set(Mode::Pass).await;
    let answered = async {
        for pending in pending {
            pending.wait().await.unwrap();
        }
    };
    let (ninth, ()) = tokio::join!(ninth, answered);
    assert_eq!(ninth.unwrap().wait().await.unwrap().sequence, 9);
}

#[tokio::test]
async fn an_unknown_outcome_becomes_known_by_sending_the_same_id_again() {
    let nats = Nats::start().await.unwrap();
    let scene = Scene::at_impatient(&nats.url(), "unknown").await;
    nats.pause().await.unwrap();
    // A signal takes a moment: what is answered until then is not meant.
    let (message, err) = loop {
        let message = scene.message("d", "x");
        if let Err(err) = scene.publisher.publish(message.clone()).await {
            break (message, err);
        }
    };
    let known = scene.nats_metrics.published();
    assert!(matches!(err, PublishError::OutcomeUnknown(_)), "{err}");
    assert_eq!(err.class(), PublishErrorClass::Transient);
    nats.resume().await.unwrap();
    let never = CancellationToken::new();
    let again = scene.publisher.publish_until_acked(&message, &never).await;
    assert_eq!(again.unwrap().sequence, known + 1);
    let stored = messages(&scene.context, "unknown").await;
    assert_eq!(stored.len() as u64, known + 1);
}

#[tokio::test]
async fn publishing_goes_on_over_restarts_of_the_server_and_stores_each_event_once() {
    let nats = Nats::start().await.unwrap();
    let scene = Scene::at_impatient(&nats.url(), "restarts").await;
    let publishing = tokio::spawn({
        let publisher = scene.publisher.clone();
        let messages: Vec<_> = numbers(0..300)
            .map(|body| scene.message("d", body))
            .collect();
        async move {
            let never = CancellationToken::new();
            for message in messages {
                publisher
                    .publish_until_acked(&message, &never)
                    .await
                    .unwrap();
            }
        }
    });
    for at_least in [50, 150] {
        eventually("some events", SOON, || async {
            scene.nats_metrics.published() >= at_least
        })
        .await
        .unwrap();
        nats.restart().await.unwrap();
    }
    tokio::time::timeout(SOON, publishing)
        .await
        .unwrap()
        .unwrap();
    let stored = messages(&scene.context, "restarts").await;
    let bodies: BTreeSet<_> = stored.iter().map(|m| m.payload.clone()).collect();
    assert_eq!((stored.len(), bodies.len()), (300, 300));
}

#[tokio::test]
async fn a_shutdown_ends_publishing_into_a_full_stream() {
    let scene = scene_with_room("given-up", 1_000).await;
    let give_up = CancellationToken::new();
    let message = scene.message("d", vec![0; 2_000]);
    let publishing = scene.publisher.publish_until_acked(&message, &give_up);
    let cancelling = async {
        eventually("a refusal", SOON, || async {
            scene.nats_metrics.publish_failures() >= 2
        })
        .await
        .unwrap();
        give_up.cancel();
    };
    let (err, ()) = tokio::join!(publishing, cancelling);
    assert!(matches!(err.unwrap_err(), PublishError::GaveUp));
}

#[tokio::test]
async fn a_message_that_is_wrong_in_itself_is_not_sent_again() {
    let scene = Scene::shared("wrong").await;
    let never = CancellationToken::new();
    let message = OutgoingMessage {
        subject: "wrong.*".into(),
        id: Some(Uuid::now_v7()),
        ..scene.message("d", "x")
    };
    let err = scene.publisher.publish_until_acked(&message, &never).await;
    assert!(matches!(err.unwrap_err(), PublishError::Subject { .. }));
}
