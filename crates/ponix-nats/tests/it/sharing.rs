//! Several workers on one consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ponix_nats::BatchSettings;

use crate::support::{Scene, Script, numbers, quick};

#[tokio::test]
async fn two_workers_share_the_work_and_no_message_goes_to_both() {
    let scene = Scene::shared("sharing").await;
    let settings = BatchSettings {
        messages_max: 50,
        ..quick()
    };
    scene.publish(numbers(0..2_000)).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let first = {
        let gate = Arc::clone(&gate);
        Script::new(move |call| {
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await.unwrap());
                call.ack_all()
            }
        })
    };
    let second = Script::ack();
    let first_running = scene.start(settings.clone(), &first).await;
    first.has_seen(50).await;
    let second_running = scene.start(settings, &second).await;
    second.has_seen(50).await;
    gate.add_permits(1);
    scene.settled().await;
    first_running.stop().await;
    second_running.stop().await;

    let (first, second) = (first.stored(), second.stored());
    assert!(!first.is_empty() && !second.is_empty());
    assert_eq!(first.len() + second.len(), 2_000);
    assert!(first.keys().all(|body| !second.contains_key(body)));
    scene.assert_balance();
}

/// Batches that were in work at the same time at most, with so many KiB of shared room.
async fn most_at_once(name: &str, room: Option<usize>) -> usize {
    let scene = Scene::shared(name).await;
    let settings = BatchSettings {
        messages_max: 5,
        bytes_max: 64 << 10,
        in_flight_max: 3,
        room: room.map(|kib| Arc::new(tokio::sync::Semaphore::new(kib))),
        ..quick()
    };
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let script = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Script::new(move |call| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                call.ack_all()
            }
        })
    };
    scene.publish(numbers(0..100)).await;
    let running = scene.start(settings, &script).await;
    scene.settled().await;
    running.stop().await;
    scene.assert_balance();
    most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn consumers_share_room_beside_one_batch_of_each() {
    assert_eq!(most_at_once("room-own", None).await, 3);
    assert_eq!(most_at_once("room-none", Some(0)).await, 1);
    assert_eq!(most_at_once("room-one", Some(64)).await, 2);
    assert_eq!(most_at_once("room-plenty", Some(1 << 20)).await, 3);
}
