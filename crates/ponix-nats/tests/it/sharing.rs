//! Several workers on one consumer.

use std::sync::Arc;

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
