//! The end of a worker, asked for or not, in the middle of its work.

use std::sync::Arc;
use std::time::Duration;

use ponix_nats::{BatchSettings, ConsumerState, ProcessError};
use ponix_stack::eventually;
use tokio::sync::Semaphore;

use crate::support::{SOON, Scene, Script, numbers, quick, together};

fn small_batches() -> BatchSettings {
    BatchSettings {
        messages_max: 100,
        ..quick()
    }
}

#[tokio::test]
async fn a_shutdown_in_a_backlog_stores_each_message_once_or_leaves_it_for_the_next() {
    let scene = Scene::shared("backlog").await;
    scene.publish(numbers(0..5_000)).await;
    let first = Script::ack();
    let running = scene.start(small_batches(), &first).await;
    let mut state = running.state.clone();
    first.has_seen(1_000).await;
    running.stop().await;
    state
        .wait_for(|state| *state == ConsumerState::Stopped)
        .await
        .unwrap();

    let stored = first.stored();
    assert!(stored.len() < 5_000, "nothing was left to test");
    assert_eq!(scene.metrics.acked(), stored.len() as u64);
    assert_eq!(scene.metrics.in_flight(), 0);
    scene.assert_balance();
    eventually("acks arrived, the rest is still there", SOON, || async {
        let info = scene.consumer_info().await?;
        let open = info.num_pending as usize + info.num_ack_pending;
        anyhow::ensure!(
            open == 5_000 - stored.len(),
            "{open} open, {} stored",
            stored.len()
        );
        Ok(())
    })
    .await
    .unwrap();

    let second = Script::ack();
    let running = scene.start(small_batches(), &second).await;
    scene.settled().await;
    running.stop().await;
    let later = second.stored();
    assert!(
        stored.keys().all(|body| !later.contains_key(body)),
        "stored twice"
    );
    assert_eq!(stored.len() + later.len(), 5_000);
    assert!(
        stored
            .values()
            .chain(later.values())
            .all(|times| *times == 1)
    );
}

#[tokio::test]
async fn a_batch_that_was_still_filling_is_finished() {
    let scene = Scene::shared("filling").await;
    let script = Script::ack();
    let settings = BatchSettings {
        linger: Duration::from_mins(10),
        ..quick()
    };
    let running = scene.start(settings, &script).await;
    scene.publish(numbers(0..7)).await;
    eventually("the messages delivered", SOON, || async {
        scene
            .consumer_info()
            .await
            .is_ok_and(|info| info.num_ack_pending == 7)
    })
    .await
    .unwrap();
    running.stop().await;
    assert_eq!(script.stored().len(), 7);
    scene.settled().await;
}

#[tokio::test]
async fn a_processor_that_gives_up_keeps_what_is_stored_and_gives_back_the_rest() {
    let scene = Scene::shared("giving-up").await;
    let script = Script::new(|call| async move {
        call.give_up.cancelled().await;
        Err(ProcessError::GaveUp { stored: vec![0, 2] })
    });
    scene.publish(numbers(0..5)).await;
    let running = scene.start(together(5), &script).await;
    script.has_seen(5).await;
    running.stop().await;
    assert_eq!((scene.metrics.acked(), scene.metrics.nakked()), (2, 3));
    let next = Script::ack();
    let running = scene.start(small_batches(), &next).await;
    scene.settled().await;
    running.stop().await;
    let left: Vec<_> = next.stored().into_keys().collect();
    assert_eq!(left, ["1", "3", "4"]);
}

#[tokio::test]
async fn work_between_insert_and_ack_is_finished_before_the_end() {
    let scene = Scene::shared("finishing").await;
    let gate = Arc::new(Semaphore::new(0));
    let script = {
        let gate = Arc::clone(&gate);
        Script::new(move |call| {
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await.unwrap());
                call.ack_all()
            }
        })
    };
    scene.publish(numbers(0..100)).await;
    let running = scene.start(together(100), &script).await;
    script.has_seen(100).await;
    running.shutdown.cancel();
    gate.add_permits(1);
    running.stop().await;
    assert_eq!(script.stored().len(), 100);
    scene.settled().await;
    scene.assert_balance();
}

#[tokio::test]
async fn a_worker_that_crashes_loses_nothing() {
    let mut scene = Scene::shared("crash").await;
    scene.consumer.ack_wait = Duration::from_secs(1);
    scene.publish(numbers(0..3_000)).await;
    let script = Script::new(|call| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        call.ack_all()
    });
    for crash_after in [500, 1_000] {
        let running = scene.start(small_batches(), &script).await;
        script.has_seen(crash_after).await;
        running.crash().await;
    }
    let running = scene.start(small_batches(), &script).await;
    script.has_stored(3_000).await;
    scene.settled().await;
    running.stop().await;
}
