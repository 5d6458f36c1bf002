//! A store that takes nothing: the intake stops, nothing is lost, and it goes on by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ponix_nats::{BatchSettings, ConsumerState, ProcessError};
use ponix_stack::eventually;
use tokio::sync::{Semaphore, watch};

use crate::support::{SOON, Scene, Script, numbers, together, unusable};

fn is_held(state: &ConsumerState) -> bool {
    matches!(state, ConsumerState::Held { .. })
}

fn is_running(state: &ConsumerState) -> bool {
    *state == ConsumerState::Running
}

fn small_batches() -> BatchSettings {
    together(10)
}

/// A store that takes nothing until it is mended.
fn until_mended(mended: &Arc<AtomicBool>) -> Script {
    let mended = Arc::clone(mended);
    Script::new(move |call| {
        let mended = mended.load(Ordering::SeqCst);
        async move {
            if mended {
                call.ack_all()
            } else {
                unusable("table is gone")
            }
        }
    })
}

async fn has_been_called(script: &Script, times: usize) {
    eventually("attempts", SOON, || async { script.sizes().len() >= times })
        .await
        .unwrap();
}

fn sequences(script: &Script) -> BTreeSet<u64> {
    let seen = script.calls().into_iter().flatten();
    seen.map(|message| message.sequence).collect()
}

#[tokio::test]
async fn an_unusable_store_stops_the_intake_until_it_is_mended() {
    let scene = Scene::shared("held").await;
    let mended = Arc::new(AtomicBool::new(false));
    let script = until_mended(&mended);
    scene.publish(numbers(0..200)).await;
    let mut running = scene.start(small_batches(), &script).await;
    let state = running.reaches(is_held).await;
    let ConsumerState::Held { reason, since_ns } = state else {
        panic!("{state:?}");
    };
    assert!(reason == "table is gone" && since_ns > 0, "{reason}");
    has_been_called(&script, 20).await;
    // Three batches in flight, however often they were tried.
    assert!(sequences(&script).len() <= 30);
    let info = scene.consumer_info().await.unwrap();
    assert!(info.num_ack_pending <= 30, "{}", info.num_ack_pending);
    assert_eq!(info.num_redelivered, 0);
    assert!(is_held(&running.state.borrow()));

    mended.store(true, Ordering::SeqCst);
    running.reaches(is_running).await;
    scene.settled().await;
    running.stop().await;
    let stored = script.stored();
    assert_eq!(stored.len(), 200);
    assert!(stored.values().all(|times| *times == 1));
    assert_eq!(scene.dead_lettered(), 0);
    assert_eq!(scene.metrics.nakked(), 0);
    scene.assert_balance();
}

#[tokio::test]
async fn the_state_is_held_also_when_every_slot_is() {
    let scene = Scene::shared("every-slot").await;
    let mended = Arc::new(AtomicBool::new(false));
    let script = until_mended(&mended);
    scene.publish(numbers(0..100)).await;
    let settings = BatchSettings {
        in_flight_max: 1,
        ..small_batches()
    };
    let mut running = scene.start(settings, &script).await;
    running.reaches(is_held).await;
    mended.store(true, Ordering::SeqCst);
    running.reaches(is_running).await;
    scene.settled().await;
    running.stop().await;
}

#[tokio::test]
async fn one_batch_that_gets_through_does_not_open_the_intake_for_the_others() {
    let scene = Scene::shared("several-held").await;
    let mended = Arc::new(AtomicBool::new(false));
    let script = {
        let mended = Arc::clone(&mended);
        let first_of_second = Arc::new(AtomicBool::new(true));
        Script::new(move |call| {
            let usable = mended.load(Ordering::SeqCst);
            // The first batch waits for the mend, the second gets through at its second attempt.
            let refused = if call.has("0") {
                !usable
            } else {
                first_of_second.swap(false, Ordering::SeqCst)
            };
            async move {
                if refused {
                    unusable("read-only")
                } else {
                    call.ack_all()
                }
            }
        })
    };
    scene.publish(numbers(0..100)).await;
    let settings = BatchSettings {
        in_flight_max: 2,
        ..small_batches()
    };
    let mut running = scene.start(settings, &script).await;
    script.has_stored(10).await;
    has_been_called(&script, 15).await;
    running.reaches(is_held).await;
    assert_eq!(script.stored().len(), 10);
    assert!(sequences(&script).len() <= 20);
    mended.store(true, Ordering::SeqCst);
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.stored().len(), 100);
    scene.assert_balance();
}

#[tokio::test]
async fn a_batch_that_gets_through_ends_the_pauses_of_the_others() {
    let scene = Scene::shared("woken").await;
    let (calls, counted) = watch::channel(0);
    let held = Arc::new(Semaphore::new(0));
    let script = {
        let held = Arc::clone(&held);
        Script::new(move |call| {
            let mut number = 0;
            calls.send_modify(|calls| {
                *calls += 1;
                number = *calls;
            });
            let (mut counted, held) = (counted.clone(), Arc::clone(&held));
            async move {
                match number {
                    // Two batches meet a store that takes nothing, all three being in work …
                    1 | 2 => {
                        counted.wait_for(|calls| *calls >= 3).await.unwrap();
                        unusable("connection refused")
                    }
                    // … and it is back before the third is through.
                    3 => {
                        held.acquire().await.unwrap().forget();
                        call.ack_all()
                    }
                    _ => call.ack_all(),
                }
            }
        })
    };
    scene.publish(numbers(0..30)).await;
    let settings = BatchSettings {
        hold_backoff: (Duration::from_mins(10), Duration::from_mins(10)),
        ..small_batches()
    };
    let mut running = scene.start(settings, &script).await;
    running.reaches(is_held).await;
    eventually("two held", SOON, || async {
        scene.metrics.held_batches() == 2
    })
    .await
    .unwrap();
    held.add_permits(1);
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.stored().len(), 30);
}

#[tokio::test]
async fn what_is_stored_of_a_held_batch_is_not_handed_out_again() {
    let scene = Scene::shared("partly").await;
    let script = Script::new(|call| async move {
        if call.messages.len() == 10 {
            return Err(ProcessError::StoreUnusable {
                waiting_helps: false,
                stored: (0..10).step_by(2).collect(),
                source: "one shard is gone".into(),
            });
        }
        call.ack_all()
    });
    scene.publish(numbers(0..10)).await;
    let running = scene.start(together(10), &script).await;
    scene.settled().await;
    running.stop().await;
    let odd: Vec<_> = script.calls()[1]
        .iter()
        .map(|m| m.text().to_owned())
        .collect();
    assert_eq!(odd, ["1", "3", "5", "7", "9"]);
    assert_eq!(script.sizes(), [10, 5]);
    assert_eq!(scene.metrics.acked(), 10);
}

#[tokio::test]
async fn a_held_batch_that_turns_out_to_be_stored_whole_is_acked() {
    let scene = Scene::shared("wholly").await;
    let script = Script::new(|call| async move {
        assert!(!call.messages.is_empty(), "nothing to process");
        Err(ProcessError::StoreUnusable {
            waiting_helps: false,
            stored: (0..call.messages.len()).collect(),
            source: "went away after the last row".into(),
        })
    });
    scene.publish(numbers(0..10)).await;
    let running = scene.start(together(10), &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.sizes(), [10]);
    assert_eq!(scene.metrics.acked(), 10);
    scene.assert_balance();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_store_and_gives_everything_back() {
    let scene = Scene::shared("held-at-the-end").await;
    let mended = Arc::new(AtomicBool::new(false));
    let script = until_mended(&mended);
    scene.publish(numbers(0..50)).await;
    let settings = BatchSettings {
        hold_backoff: (Duration::from_mins(10), Duration::from_mins(10)),
        ..small_batches()
    };
    let mut running = scene.start(settings, &script).await;
    running.reaches(is_held).await;
    running.stop().await;
    assert_eq!(scene.metrics.acked(), 0);
    scene.assert_balance();
    let script = Script::ack();
    let running = scene.start(small_batches(), &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.stored().len(), 50);
}
