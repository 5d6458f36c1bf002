//! Servers that go away, come back, fall silent, or lose the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ponix_nats::{BatchConsumerError, BatchSettings, ConsumerState, ProcessError, RebuildReason};
use ponix_stack::{Nats, eventually};
use tokio::sync::Semaphore;

use crate::support::{SOON, Scene, Script, numbers, quick};

fn is_unavailable(state: &ConsumerState) -> bool {
    matches!(state, ConsumerState::Unavailable(_))
}

fn is_running(state: &ConsumerState) -> bool {
    *state == ConsumerState::Running
}

fn small_batches() -> BatchSettings {
    BatchSettings {
        messages_max: 100,
        ..quick()
    }
}

/// Stores each batch in a few milliseconds, so that outages fall into the work.
fn slowly() -> Script {
    Script::new(|call| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        call.ack_all()
    })
}

#[tokio::test]
async fn restarts_and_kills_of_the_server_lose_nothing() {
    let nats = Nats::start().await.unwrap();
    let mut scene = Scene::at_impatient(&nats.url(), "restarted").await;
    scene.consumer.ack_wait = Duration::from_secs(2);
    scene.publish(numbers(0..6_000)).await;
    let script = slowly();
    let mut running = scene.start(small_batches(), &script).await;
    script.has_stored(1_000).await;
    nats.restart().await.unwrap();
    script.has_stored(2_000).await;
    nats.kill().await.unwrap();
    nats.start_again().await.unwrap();
    script.has_stored(6_000).await;
    scene.settled().await;
    running.reaches(is_running).await;
    running.stop().await;
    assert_eq!(scene.dead_lettered(), 0);
    scene.assert_balance();
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_and_read_again_when_it_goes_on() {
    let nats = Nats::start().await.unwrap();
    let mut scene = Scene::at_impatient(&nats.url(), "silent").await;
    scene.consumer.ack_wait = Duration::from_secs(2);
    let script = Script::ack();
    let mut running = scene.start(small_batches(), &script).await;
    scene.publish(numbers(0..10)).await;
    script.has_stored(10).await;
    nats.pause().await.unwrap();
    let state = running.reaches(is_unavailable).await;
    assert!(scene.metrics.pull_rebuilds(RebuildReason::Silent) >= 1);
    let ConsumerState::Unavailable(reason) = state else {
        panic!("{state:?}");
    };
    assert!(
        reason.contains("worker") && reason.contains("cannot be looked up"),
        "{reason}"
    );
    nats.resume().await.unwrap();
    running.reaches(is_running).await;
    scene.publish(numbers(10..20)).await;
    script.has_stored(20).await;
    running.stop().await;
}

#[tokio::test]
async fn a_deleted_consumer_is_said_and_read_again_when_it_is_back() {
    let scene = Scene::shared("consumer-gone").await;
    let script = Script::ack();
    let mut running = scene.start(small_batches(), &script).await;
    scene.publish(numbers(0..10)).await;
    scene.settled().await;
    scene
        .stream()
        .await
        .delete_consumer("worker")
        .await
        .unwrap();
    let state = running.reaches(is_unavailable).await;
    let ConsumerState::Unavailable(reason) = state else {
        panic!("{state:?}");
    };
    assert!(
        reason.contains("consumer worker of stream consumer-gone is gone"),
        "{reason}"
    );
    scene.create_source().await;
    running.reaches(is_running).await;
    scene.publish(numbers(10..20)).await;
    script.has_stored(20).await;
    running.stop().await;
}

#[tokio::test]
async fn a_deleted_stream_is_said_and_read_again_when_it_is_back() {
    let scene = Scene::shared("stream-gone").await;
    let script = Script::ack();
    let mut running = scene.start(small_batches(), &script).await;
    scene.publish(numbers(0..10)).await;
    scene.settled().await;
    scene.context.delete_stream("stream-gone").await.unwrap();
    let state = running.reaches(is_unavailable).await;
    let ConsumerState::Unavailable(reason) = state else {
        panic!("{state:?}");
    };
    assert!(
        reason.contains("stream-gone") && reason.contains("is gone"),
        "{reason}"
    );
    scene.create_source().await;
    running.reaches(is_running).await;
    scene.publish(numbers(10..20)).await;
    script.has_stored(20).await;
    running.stop().await;
}

#[tokio::test]
async fn a_paused_consumer_is_said_and_stays_paused_until_somebody_resumes_it() {
    let scene = Scene::shared("paused").await;
    if !scene.client.is_server_compatible(2, 11, 0) {
        println!("skipped: this nats-server cannot pause a consumer, 2.11 can");
        return;
    }
    let tomorrow = scene.stream().await.cached_info().created + Duration::from_hours(24);
    scene
        .stream()
        .await
        .pause_consumer("worker", tomorrow)
        .await
        .unwrap();
    scene.publish(numbers(0..10)).await;
    let script = Script::ack();
    let settings = BatchSettings {
        stall_timeout: Duration::from_millis(500),
        ..small_batches()
    };
    // Starting brings the consumer to its settings, which say nothing about the pause.
    let mut running = scene.start(settings, &script).await;
    let state = running.reaches(is_unavailable).await;
    let ConsumerState::Unavailable(reason) = state else {
        panic!("{state:?}");
    };
    assert!(reason.contains("paused"), "{reason}");
    assert!(scene.metrics.pull_rebuilds(RebuildReason::Stalled) >= 1);
    assert!(script.calls().is_empty());
    scene
        .stream()
        .await
        .resume_consumer("worker")
        .await
        .unwrap();
    script.has_stored(10).await;
    running.reaches(is_running).await;
    running.stop().await;
}

#[tokio::test]
async fn a_user_who_may_not_pull_is_told_so() {
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [
                { user: all, password: p },
                { user: some, password: p, permissions: {
                    publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.>" } } } ] }"#,
        )
        .start()
        .await
        .unwrap();
    let all = Scene::at(&format!("nats://all:p@{}", nats.addr()), "forbidden").await;
    all.publish(numbers(0..10)).await;
    let some = Scene::bare(&format!("nats://some:p@{}", nats.addr()), "forbidden").await;
    let script = Script::ack();
    let mut running = some.start(small_batches(), &script).await;
    let ConsumerState::Unavailable(reason) = running.reaches(is_unavailable).await else {
        unreachable!("waited for");
    };
    assert!(
        reason.contains("$JS.API.CONSUMER.MSG.NEXT.forbidden.worker"),
        "{reason}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_closed_for_good_ends_the_consumer_and_the_work_it_has() {
    let scene = Scene::shared("closed").await;
    let script = Script::new(|call| async move {
        call.give_up.cancelled().await;
        Err(ProcessError::GaveUp { stored: Vec::new() })
    });
    scene.publish(numbers(0..10)).await;
    let running = scene.start(small_batches(), &script).await;
    script.has_seen(10).await;
    scene.client.drain().await.unwrap();
    let ended = running.ended().await;
    assert!(
        matches!(ended, Err(BatchConsumerError::Closed)),
        "{ended:?}"
    );
}

/// More messages than a connection that is down takes commands for.
const MANY: usize = 5_000;

fn many_at_once() -> BatchSettings {
    BatchSettings {
        messages_max: MANY,
        linger: Duration::from_secs(20),
        ..quick()
    }
}

#[tokio::test]
async fn the_work_goes_on_while_progress_cannot_be_reported() {
    let nats = Nats::start().await.unwrap();
    let mut scene = Scene::at_impatient(&nats.url(), "unreported").await;
    scene.consumer.ack_wait = Duration::from_secs(1);
    scene.publish(numbers(0..MANY)).await;
    let gate = Arc::new(Semaphore::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let script = {
        let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
        Script::new(move |call| {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            async move {
                drop(gate.acquire().await.unwrap());
                // Several reports are due in this time.
                for _ in 0..30 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done.store(true, Ordering::SeqCst);
                call.ack_all()
            }
        })
    };
    let running = scene.start(many_at_once(), &script).await;
    script.has_seen(MANY).await;
    nats.kill().await.unwrap();
    gate.add_permits(1);
    eventually("the work done without a server", SOON, || async {
        done.load(Ordering::SeqCst)
    })
    .await
    .unwrap();
    nats.start_again().await.unwrap();
    scene.settled().await;
    running.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_without_the_server() {
    let nats = Nats::start().await.unwrap();
    let scene = Scene::at_impatient(&nats.url(), "gone-at-the-end").await;
    scene.publish(numbers(0..MANY)).await;
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
    let running = scene.start(many_at_once(), &script).await;
    script.has_seen(MANY).await;
    nats.kill().await.unwrap();
    gate.add_permits(1);
    // Its acks fill what a connection without a server takes.
    eventually("the connection takes no more", SOON, || async {
        let publish = scene.client.publish("somewhere", "".into());
        tokio::time::timeout(Duration::from_millis(50), publish)
            .await
            .is_err()
    })
    .await
    .unwrap();
    running.stop().await;
    assert_eq!(script.stored().len(), MANY);
}
