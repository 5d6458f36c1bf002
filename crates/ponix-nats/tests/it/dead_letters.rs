//! The dead-letter stream: what is kept, once, and what happens when nothing can be kept.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue};
use futures::StreamExt as _;
use ponix_nats::async_nats;
use ponix_nats::async_nats::jetstream::message::StreamMessage;
use ponix_nats::{
    DeadLetter, DeadLetterReason, Disposition, OutgoingMessage, ProcessingResult, StreamSettings,
};
use ponix_stack::{Mode, Nats, Proxy, eventually};
use ponix_wire::header;
use uuid::Uuid;

use crate::support::{SOON, Scene, Script, config, dead, messages, numbers, quick, together};

/// Nothing can be stored.
fn all_dead() -> Script {
    Script::new(|call| async move {
        let dead = Disposition::DeadLetter(dead(DeadLetterReason::Value, "NaN\r\nin field data"));
        let dispositions = call.messages.iter().map(|_| dead.clone()).collect();
        Ok(ProcessingResult::from_dispositions(dispositions))
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.as_str())
}

#[tokio::test]
async fn a_dead_letter_is_the_message_with_its_story() {
    let scene = Scene::shared("story").await;
    let id = Uuid::now_v7();
    let mut headers = HeaderMap::new();
    headers.insert("Traceparent", "00-abc");
    headers.append("Twice", "one");
    headers.append("Twice", "two");
    let message = OutgoingMessage {
        id: Some(id),
        headers,
        ..scene.message("device", "\u{0}\u{1}not an envelope")
    };
    scene.publisher.publish(message).await.unwrap();
    let running = scene.start(quick(), &all_dead()).await;
    scene.settled().await;
    running.stop().await;

    let kept = scene.kept().await;
    assert_eq!(kept.len(), 1);
    let original = messages(&scene.context, "story").await.remove(0);
    let published_ns = original.time.unix_timestamp_nanos().to_string();
    let letter = &kept[0];
    assert_eq!(letter.subject.as_str(), format!("story_dlq.{id}"));
    assert_eq!(letter.payload, original.payload);
    for (name, expected) in [
        (header::REASON, "value"),
        (header::ERROR, "NaN  in field data"),
        (header::SUBJECT, "story.device"),
        (header::STREAM, "story"),
        (header::SEQUENCE, "1"),
        (header::PUBLISHED_NS, published_ns.as_str()),
        (header::DELIVERIES, "1"),
        ("Ponix-Original-Traceparent", "00-abc"),
        ("Ponix-Original-Nats-Msg-Id", id.to_string().as_str()),
    ] {
        assert_eq!(header(&letter.headers, name), expected, "{name}");
    }
    let twice: Vec<_> = letter
        .headers
        .get_all("Ponix-Original-Twice")
        .map(HeaderValue::as_str)
        .collect();
    assert_eq!(twice, ["one", "two"]);
    assert!(letter.headers.get("Nats-Msg-Id").is_none());
}

#[tokio::test]
async fn the_same_identity_is_kept_once_and_both_messages_end() {
    let scene = Scene::shared("once").await;
    let event_id = Some(Uuid::now_v7());
    let script = Script::new(move |call| async move {
        let letter = DeadLetter {
            event_id,
            ..dead(DeadLetterReason::Decode, "no envelope")
        };
        let dispositions = vec![Disposition::DeadLetter(letter); call.messages.len()];
        Ok(ProcessingResult::from_dispositions(dispositions))
    });
    scene.publish(["twice", "twice"]).await;
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(scene.kept().await.len(), 1);
    assert_eq!(script.seen(), 2, "both ended at the first delivery");
    assert_eq!(scene.metrics.dead_lettered(DeadLetterReason::Decode), 2);
}

/// Rejects every message under one id.
fn all_dead_as(event_id: Uuid) -> Script {
    Script::new(move |call| async move {
        let letter = DeadLetter {
            event_id: Some(event_id),
            ..dead(DeadLetterReason::RejectedByStore, "it cannot be stored")
        };
        let dispositions = vec![Disposition::DeadLetter(letter); call.messages.len()];
        Ok(ProcessingResult::from_dispositions(dispositions))
    })
}

#[tokio::test]
async fn two_events_with_one_id_are_both_kept() {
    let scene = Scene::shared("one-id").await;
    let id = Uuid::now_v7();
    let of = |organization: &str| {
        let mut message = scene.message("d", "the same in both");
        message.id = None;
        message.headers.insert(header::ORGANIZATION, organization);
        message
    };
    let other_body = OutgoingMessage {
        id: None,
        ..scene.message("d", "something else")
    };
    let twice = of("org-a");
    for message in [of("org-a"), of("org-b"), other_body, twice] {
        scene.publisher.publish(message).await.unwrap();
    }
    let script = all_dead_as(id);
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.seen(), 4, "each ended at the first delivery");
    let kept = scene.kept().await;
    assert_eq!(kept.len(), 3, "one of them was published twice");
    let content = |letter: &StreamMessage| {
        let organization = header(&letter.headers, "Ponix-Original-Ponix-Organization");
        format!(
            "{organization} {}",
            String::from_utf8_lossy(&letter.payload)
        )
    };
    let mut contents: Vec<_> = kept.iter().map(content).collect();
    contents.sort_unstable();
    assert_eq!(
        contents,
        [
            " something else",
            "org-a the same in both",
            "org-b the same in both"
        ]
    );
    let under_the_id = |subject: &str| subject == format!("one-id_dlq.{id}");
    let first = kept.iter().filter(|letter| under_the_id(&letter.subject));
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn two_large_events_with_one_id_are_both_kept_whole() {
    let nats = Nats::builder().max_payload(64 << 10).start().await.unwrap();
    let scene = Scene::at(&nats.url(), "one-id-parts").await;
    let limit = scene.client.max_payload();
    for fill in [b'a', b'b'] {
        let message = OutgoingMessage {
            id: None,
            ..scene.message("d", vec![fill; limit])
        };
        scene.publisher.publish(message).await.unwrap();
    }
    let running = scene.start(quick(), &all_dead_as(Uuid::now_v7())).await;
    scene.settled().await;
    running.stop().await;
    let kept = scene.kept().await;
    let mut bodies: Vec<_> = kept
        .iter()
        .filter_map(|head| Some((head, head.headers.get(header::REST)?.as_str())))
        .map(|(head, rest)| {
            let rest = kept.iter().find(|m| m.subject.as_str() == rest).unwrap();
            [&head.payload[..], &rest.payload[..]].concat()
        })
        .collect();
    bodies.sort();
    assert!(
        bodies == [vec![b'a'; limit], vec![b'b'; limit]],
        "{} whole bodies",
        bodies.len()
    );
}

#[tokio::test]
async fn a_body_of_just_the_servers_limit_is_kept_in_two_parts() {
    let nats = Nats::builder().max_payload(64 << 10).start().await.unwrap();
    let scene = Scene::at(&nats.url(), "parts").await;
    let limit = scene.client.max_payload();
    let body: Vec<u8> = (0..limit).map(|n| (n % 251) as u8).collect();
    let bare = OutgoingMessage {
        id: None,
        ..scene.message("d", body.clone())
    };
    scene.publisher.publish(bare).await.unwrap();
    // So many headers that they do not fit beside half a body once they have their prefix.
    let mut headers = HeaderMap::new();
    for n in 0..1_500 {
        headers.insert(format!("H{n}"), "0123456789012345678901234");
    }
    let id = Uuid::from_u128(7);
    let with_headers = OutgoingMessage {
        id: Some(id),
        headers,
        ..scene.message("d", body[..10_000].to_vec())
    };
    scene.publisher.publish(with_headers).await.unwrap();
    let script = all_dead();
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    running.stop().await;

    assert_eq!(script.seen(), 2);
    let kept = scene.kept().await;
    let heads: Vec<_> = kept
        .iter()
        .filter(|m| m.headers.get(header::REST).is_some())
        .collect();
    assert_eq!((kept.len(), heads.len()), (4, 2));
    for head in heads {
        let rest = header(&head.headers, header::REST);
        let rest = kept.iter().find(|m| m.subject.as_str() == rest).unwrap();
        let whole = [head.payload.clone(), rest.payload.clone()].concat();
        let sequence = header(&head.headers, header::SEQUENCE);
        let expected = if sequence == "1" {
            &body[..]
        } else {
            &body[..10_000]
        };
        assert_eq!(whole, expected);
        assert_eq!(header(&head.headers, header::REASON), "value");
        let dropped = header(&head.headers, header::HEADERS_DROPPED);
        assert_eq!(dropped, if sequence == "1" { "" } else { "true" });
        let message_id = header(&head.headers, "Ponix-Original-Ponix-Message-Id");
        let identity = if sequence == "1" {
            String::new()
        } else {
            id.to_string()
        };
        assert_eq!(message_id, identity, "what is put back is the same event");
    }
}

#[tokio::test]
async fn a_full_dead_letter_stream_ends_no_message_and_takes_them_when_it_has_room() {
    let mut scene = Scene::shared("no-room").await;
    scene.dead.bytes_max = 3_000;
    scene.dead.reconcile(&scene.context).await.unwrap();
    scene.publish((0..20_u8).map(|n| vec![b'a' + n; 500])).await;
    let script = all_dead();
    let running = scene.start(quick(), &script).await;
    // Each was refused at least once more after the stream was full.
    script.has_seen(60).await;
    eventually("it is known that they are refused", SOON, async || {
        let refusing = scene.nats_metrics.refusing_dead_letters();
        anyhow::ensure!(refusing == [scene.dead.name.clone()], "{refusing:?}");
        Ok(())
    })
    .await
    .unwrap();
    let kept = scene.kept().await.len();
    assert!((1..20).contains(&kept), "{kept}");
    let info = scene.consumer_info().await.unwrap();
    let open = info.num_pending as usize + info.num_ack_pending;
    assert!(
        open >= 20 - kept,
        "{open} open, {kept} kept: a message has ended without being kept"
    );

    let roomy = StreamSettings {
        bytes_max: 1 << 20,
        ..scene.dead.clone()
    };
    roomy.reconcile(&scene.context).await.unwrap();
    scene.settled().await;
    running.stop().await;
    assert_eq!(scene.kept().await.len(), 20);
    assert_eq!(scene.dead_lettered(), 20);
    assert!(scene.nats_metrics.refusing_dead_letters().is_empty());
    scene.assert_balance();
}

#[tokio::test]
async fn a_dead_letter_that_a_full_stream_already_holds_ends() {
    let mut scene = Scene::shared("full-and-kept").await;
    let script = {
        let event_id = Some(Uuid::now_v7());
        Script::new(move |call| async move {
            let letter = DeadLetter {
                event_id,
                ..dead(DeadLetterReason::Decode, "no envelope")
            };
            let dispositions = vec![Disposition::DeadLetter(letter); call.messages.len()];
            Ok(ProcessingResult::from_dispositions(dispositions))
        })
    };
    scene.publish(["x".repeat(500)]).await;
    let running = scene.start(quick(), &script).await;
    scene.settled().await;
    scene.dead.bytes_max = 600;
    scene.dead.reconcile(&scene.context).await.unwrap();
    scene.publish(["x".repeat(500)]).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(scene.kept().await.len(), 1);
    assert_eq!(script.seen(), 2);
}

#[tokio::test]
async fn without_a_dead_letter_stream_no_message_ends() {
    let scene = Scene::shared("no-stream-for-the-dead").await;
    scene.context.delete_stream(&scene.dead.name).await.unwrap();
    scene.publish(numbers(0..10)).await;
    let script = all_dead();
    let running = scene.start(quick(), &script).await;
    script.has_seen(30).await;
    scene.dead.reconcile(&scene.context).await.unwrap();
    scene.settled().await;
    running.stop().await;
    assert_eq!(scene.kept().await.len(), 10);
    scene.assert_balance();
}

#[tokio::test]
async fn while_the_dead_letters_are_slow_only_what_waits_for_them_is_kept_from_others() {
    let nats = Nats::start().await.unwrap();
    let mut scene = Scene::at(&nats.url(), "slow-dead").await;
    scene.consumer.ack_wait = Duration::from_secs(3);
    let proxy = Proxy::start(nats.addr()).await.unwrap();
    let mut slow = config(&proxy.url("nats"));
    slow.request_timeout = Duration::from_mins(1);
    slow.ping_interval = Duration::from_mins(10);
    let slow = Scene::with(slow, "slow-dead").await;
    let acks = "$JS.ACK.>";
    let mut answers = scene.client.subscribe(acks).await.unwrap();
    scene.client.flush().await.unwrap();
    scene.publish(["good", "bad"]).await;
    let script = Script::new(|call| async move {
        let mut result = ProcessingResult::ack_all(call.messages.len());
        if let Some(index) = call.position("bad") {
            result = result.with_dead_letter(index, dead(DeadLetterReason::Decode, "bad"));
        }
        Ok(result)
    });
    proxy.set(Mode::HoldResponses).await;
    // The consumer's own connection is fast, that of the dead letters is not.
    scene.publisher = slow.publisher.clone();
    let running = scene.start(together(2), &script).await;
    let mut acked = None;
    let mut reports = 0;
    // Five reports: longer than the ack wait.
    while reports < 5 {
        let answer = tokio::time::timeout(SOON, answers.next())
            .await
            .unwrap()
            .unwrap();
        match answer.payload.as_ref() {
            b"+ACK" => acked = Some(answer.subject),
            b"+WPI" => {
                assert_ne!(
                    Some(&answer.subject),
                    acked.as_ref(),
                    "it has ended already"
                );
                reports += 1;
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    proxy.set(Mode::Pass).await;
    scene.settled().await;
    running.stop().await;
    assert!(acked.is_some());
    assert_eq!(script.seen(), 2, "a message was delivered twice");
    eventually("one dead letter", SOON, || async {
        scene.kept().await.len() == 1
    })
    .await
    .unwrap();
}
