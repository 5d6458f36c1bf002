//! Dead letters that are put back where they came from.

use ponix_nats::async_nats::HeaderValue;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    Delivery, Disposition, KeptLetter, OutgoingMessage, ProcessingResult, RangeReader, held_range,
};
use ponix_stack::Nats;
use ponix_wire::{DeadLetterReason, header};
use uuid::Uuid;

use crate::support::{Scene, Script, dead, quick};

fn all_dead() -> Script {
    Script::new(|call| async move {
        let dead = Disposition::DeadLetter(dead(DeadLetterReason::Value, "NaN"));
        let dispositions = call.messages.iter().map(|_| dead.clone()).collect();
        Ok(ProcessingResult::from_dispositions(dispositions))
    })
}

async fn all(stream: &Stream) -> Vec<Delivery> {
    let range = held_range(stream).await.unwrap();
    let mut reader = RangeReader::open(stream, range).await.unwrap();
    let mut all = Vec::new();
    while let Some(delivery) = reader.next().await.unwrap() {
        all.push(delivery);
    }
    all
}

async fn letters(scene: &Scene) -> (Stream, Vec<KeptLetter>) {
    let stream = scene.context.get_stream(&scene.dead.name).await.unwrap();
    let kept = all(&stream).await;
    let letters = kept
        .iter()
        .filter_map(|message| KeptLetter::read(&scene.dead.name, message))
        .collect();
    (stream, letters)
}

#[tokio::test]
async fn a_letter_put_back_is_the_same_event_and_goes_back_once() {
    let scene = Scene::shared("put-back").await;
    let with_id = OutgoingMessage {
        id: Some(Uuid::now_v7()),
        ..scene.message("device", "one")
    };
    let mut without_id = OutgoingMessage {
        id: None,
        ..scene.message("device", "two")
    };
    without_id.headers.insert("Traceparent", "00-abc");
    scene.publisher.publish(with_id).await.unwrap();
    scene.publisher.publish(without_id).await.unwrap();
    let running = scene.start(quick(), &all_dead()).await;
    scene.settled().await;
    running.stop().await;

    let (stream, letters) = letters(&scene).await;
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!((&letter.reason[..], &letter.error[..]), ("value", "NaN"));
        let body = letter.body(&stream).await.unwrap();
        for repeated in [false, true] {
            let message = letter.message(body.clone());
            let ack = scene.publisher.publish(message).await.unwrap();
            assert_eq!((ack.stream.as_str(), ack.duplicate), ("put-back", repeated));
        }
    }
    let source = scene.context.get_stream("put-back").await.unwrap();
    let messages = all(&source).await;
    assert_eq!(messages.len(), 4);
    let (before, after) = messages.split_at(2);
    for (before, after) in before.iter().zip(after) {
        assert_eq!(after.identity(), before.identity());
        assert_eq!(after.payload(), before.payload());
        assert_eq!(after.subject(), before.subject());
        let retries = after.headers().unwrap().get(header::RETRY_COUNT);
        assert_eq!(retries.map(HeaderValue::as_str), Some("1"));
    }
    let headers = after[1].headers().unwrap();
    let trace = headers.get("Traceparent").map(HeaderValue::as_str);
    assert_eq!(trace, Some("00-abc"));
}

#[tokio::test]
async fn a_letter_in_two_parts_goes_back_whole() {
    let nats = Nats::builder().max_payload(64 << 10).start().await.unwrap();
    let scene = Scene::at(&nats.url(), "put-back-parts").await;
    let limit = scene.client.max_payload();
    let body: Vec<u8> = (0..limit).map(|n| (n % 251) as u8).collect();
    let bare = OutgoingMessage {
        id: None,
        ..scene.message("d", body.clone())
    };
    scene.publisher.publish(bare).await.unwrap();
    let running = scene.start(quick(), &all_dead()).await;
    scene.settled().await;
    running.stop().await;

    let (stream, letters) = letters(&scene).await;
    let [letter] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(letter.body(&stream).await.unwrap(), body);
}

/// A worker may be done with a letter that was put back before the letter is removed: what is dead
/// again must not be taken for the letter that is there.
#[tokio::test]
async fn a_letter_that_dies_again_is_kept_beside_the_one_it_came_from() {
    let scene = Scene::shared("put-back-early").await;
    let message = scene.message("device", "wrong");
    scene.publisher.publish(message).await.unwrap();
    let running = scene.start(quick(), &all_dead()).await;
    scene.settled().await;
    let (stream, first) = letters(&scene).await;
    let [letter] = &first[..] else {
        panic!("{first:?}")
    };
    let body = letter.body(&stream).await.unwrap();
    let ack = scene.publisher.publish(letter.message(body)).await.unwrap();
    scene.settled().await;
    stream.delete_message(letter.sequence).await.unwrap();
    running.stop().await;
    let (_, left) = letters(&scene).await;
    let [left] = &left[..] else {
        panic!("the event is lost: {left:?}")
    };
    assert_eq!(left.stream_sequence, ack.sequence);
}
