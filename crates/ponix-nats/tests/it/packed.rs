//! Packed messages: events as dead letters, and batches by events.

use bytes::Bytes;
use ponix_nats::{
    BatchSettings, DeadEvent, DeadLetterReason, Disposition, KeptLetter, OutgoingMessage,
    ProcessingResult, RangeReader, async_nats, held_range, pack,
};
use ponix_wire::{PackFormat, PackLimits, event_identity, header};
use uuid::Uuid;

use crate::support::{Scene, Script, dead, quick};

const LIMITS: PackLimits = PackLimits {
    events_max: 1_000,
    bytes_max: 100_000,
};

/// A message of these lines.
fn packed(scene: &Scene, lines: &[&'static str]) -> OutgoingMessage {
    let events = lines.iter().map(|line| scene.message("a", *line));
    let packs = pack(PackFormat::Lines, events, "none", LIMITS);
    packs.into_iter().next().unwrap().message
}

fn dead_event(index: u32, identity: Uuid, payload: &str) -> DeadEvent {
    DeadEvent {
        index,
        identity,
        payload: Bytes::from(payload.to_owned()),
        dead_letter: dead(DeadLetterReason::Value, payload),
    }
}

/// Of each message these events are dead.
fn some_dead(events: Vec<DeadEvent>, all: bool) -> Script {
    Script::new(move |call| {
        let disposition = Disposition::DeadEvents {
            events: events.clone(),
            all,
        };
        let dispositions = vec![disposition; call.messages.len()];
        async move { Ok(ProcessingResult::from_dispositions(dispositions)) }
    })
}

#[tokio::test]
async fn a_dead_event_is_a_single_message_with_its_place() {
    let scene = Scene::shared("packed-dead").await;
    let mut message = packed(&scene, &["one", "two", "three"]);
    let id = Uuid::now_v7();
    message.id = Some(id);
    message.headers.insert("Traceparent", "00-abc");
    scene.publisher.publish(message).await.unwrap();
    let (first, third) = (event_identity(id, 0), event_identity(id, 2));
    let script = some_dead(
        vec![dead_event(0, first, "one"), dead_event(2, third, "three")],
        false,
    );
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    running.stop().await;
    // Three came, two are dead letters.
    let (received, acked) = (
        scene.metrics.received_events(),
        scene.metrics.acked_events(),
    );
    assert_eq!((received, acked, scene.metrics.acked()), (3, 1, 1));

    let kept = scene.kept().await;
    assert_eq!(kept.len(), 2, "{kept:?}");
    let letter = kept
        .iter()
        .find(|letter| letter.payload == "three")
        .expect("the third event");
    assert!(letter.subject.ends_with(&third.to_string()));
    let text = |name: &str| {
        letter
            .headers
            .get(name)
            .map(async_nats::HeaderValue::as_str)
    };
    assert_eq!(text(header::INDEX), Some("2"));
    assert_eq!(text(header::SEQUENCE), Some("1"));
    assert_eq!(text("Ponix-Original-Traceparent"), Some("00-abc"));
    assert_eq!(text("Ponix-Original-Ponix-Packed"), None);

    // Put back, it is the same event as a message of its own.
    let stream = scene.context.get_stream(&scene.dead.name).await.unwrap();
    let range = held_range(&stream).await.unwrap();
    let mut reader = RangeReader::open(&stream, range).await.unwrap();
    let mut letters = Vec::new();
    while let Some(message) = reader.next().await.unwrap() {
        letters.extend(KeptLetter::read(&scene.dead.name, &message));
    }
    let letter = letters
        .iter()
        .find(|letter| letter.index == Some(2))
        .expect("the third event");
    assert_eq!(letter.identity(), third);
    let back = letter.message(letter.first_part().clone());
    assert_eq!(back.payload, "three");
    assert!(back.headers.get(header::PACKED).is_none());
    let message_id = back.headers.get(header::MESSAGE_ID);
    let message_id = message_id.map(async_nats::HeaderValue::as_str);
    assert_eq!(message_id, Some(third.to_string().as_str()));
}

#[tokio::test]
async fn a_message_ends_when_all_its_dead_events_are_kept_and_a_second_time_changes_nothing() {
    let scene = Scene::shared("packed-twice").await;
    let twice = dead_event(0, Uuid::from_u128(1), "x");
    // The same identity and bytes at another place are the same event, others are not.
    let events = vec![
        twice.clone(),
        DeadEvent {
            index: 1,
            ..twice.clone()
        },
        DeadEvent {
            index: 2,
            payload: "y".into(),
            ..twice
        },
    ];
    let script = some_dead(events, true);
    let running = scene.start(quick(), &script).await;
    for round in 1..=2 {
        let message = packed(&scene, &["x", "x", "y"]);
        scene.publisher.publish(message).await.unwrap();
        scene.settled().await;
        assert_eq!(script.seen(), round, "it ended at the first delivery");
        assert_eq!(scene.metrics.acked_events(), 0);
        let kept = scene.kept().await.into_iter();
        let mut bodies: Vec<_> = kept.map(|it| it.payload).collect();
        bodies.sort();
        assert_eq!(bodies, ["x", "y"]);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_batch_holds_its_limit_of_events_and_the_rest_of_one_message_at_most() {
    let scene = Scene::shared("packed-batches").await;
    let lines = vec!["line"; 50];
    for _ in 0..40 {
        let message = packed(&scene, &lines);
        scene.publisher.publish(message).await.unwrap();
    }
    scene.publish((0..300).map(|n| n.to_string())).await;
    let settings = ponix_nats::BatchSettings {
        messages_max: 120,
        ..quick()
    };
    let script = Script::ack();
    let running = scene.start(settings, &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.seen(), 340);
    let events = |body: &Bytes| {
        body.split(|byte| *byte == b'\n')
            .filter(|it| !it.is_empty())
            .count()
    };
    let batches: Vec<usize> = script
        .calls()
        .iter()
        .map(|call| call.iter().map(|message| events(&message.body)).sum())
        .collect();
    assert_eq!(batches.iter().sum::<usize>(), 40 * 50 + 300);
    assert!(
        batches.iter().all(|events| *events < 120 + 50),
        "{batches:?}"
    );
}

#[tokio::test]
async fn what_waits_for_room_when_a_worker_stops_is_given_back() {
    let scene = Scene::shared("packed-leftovers").await;
    // Asked for one by one, five messages fill five batches: four wait while the first is written.
    let lines = vec!["line"; 10];
    for _ in 0..5 {
        let message = packed(&scene, &lines);
        scene.publisher.publish(message).await.unwrap();
    }
    let settings = BatchSettings {
        messages_max: 10,
        in_flight_max: 1,
        ..quick()
    };
    let script = Script::new(|call| async move {
        call.give_up.cancelled().await;
        call.ack_all()
    });
    let running = scene.start(settings, &script).await;
    script.has_seen(1).await;
    running.stop().await;
    scene.assert_balance();
    assert_eq!((script.seen(), scene.metrics.nakked()), (1, 4));

    let second = Script::ack();
    let running = scene.start(quick(), &second).await;
    second.has_seen(4).await;
    running.stop().await;
    assert!(second.calls().concat().iter().all(|it| it.deliveries == 2));
}
