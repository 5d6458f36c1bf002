//! Processors that fail, panic, or miscount.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ponix_nats::{
    Batch, BatchProcessor, BatchSettings, ConsumerState, DeadLetterReason, ProcessingResult,
};
use ponix_wire::header;
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Call, Scene, Script, failed, numbers, together};

#[tokio::test]
async fn a_batch_that_fails_comes_again_as_a_whole() {
    let scene = Scene::shared("fails-once").await;
    let script = Script::new(|call| async move {
        if call.messages[0].deliveries == 1 {
            return failed("not today");
        }
        call.ack_all()
    });
    scene.publish(numbers(0..10)).await;
    let running = scene.start(together(10), &script).await;
    scene.settled().await;
    running.stop().await;
    let stored = script.stored();
    assert_eq!(stored.len(), 10);
    assert!(stored.values().all(|times| *times == 1));
    assert_eq!(scene.metrics.nakked(), 10);
    assert_eq!(scene.dead_lettered(), 0);
    scene.assert_balance();
}

/// Panics at any batch with the message "bad".
async fn panic_at_bad(call: Call) -> Answer {
    assert!(!call.has("bad"), "bad bytes");
    call.ack_all()
}

#[tokio::test]
async fn a_message_that_makes_the_processor_panic_is_rejected_alone() {
    let scene = Scene::shared("panics").await;
    let script = Script::new(panic_at_bad);
    let settings = BatchSettings {
        alone_from_delivery: 3,
        deliveries_max: 5,
        ..together(11)
    };
    scene.publish(numbers(0..5)).await;
    scene.publish(["bad"]).await;
    scene.publish(numbers(5..10)).await;
    let mut running = scene.start(settings, &script).await;
    scene.settled().await;
    running
        .reaches(|state| *state == ConsumerState::Running)
        .await;
    // It goes on working.
    scene.publish(["afterwards"]).await;
    script.has_stored(11).await;
    scene.settled().await;
    running.stop().await;

    let stored = script.stored();
    let expected: BTreeSet<_> = numbers(0..10).chain(["afterwards".to_owned()]).collect();
    assert_eq!(stored.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
    let with_bad = |call: &Vec<crate::support::Seen>| -> Option<(u32, usize)> {
        let bad = call.iter().find(|m| m.text() == "bad")?;
        Some((bad.deliveries, call.len()))
    };
    let tries: Vec<_> = script.calls().iter().filter_map(with_bad).collect();
    assert_eq!(tries, [(1, 11), (2, 11), (3, 11), (3, 1), (4, 1), (5, 1)]);

    let kept = scene.kept().await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].payload, "bad");
    let header = |name: &str| kept[0].headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header(header::REASON), "max_deliveries");
    assert_eq!(header(header::DELIVERIES), "5");
    assert!(
        header(header::ERROR).contains("bad bytes"),
        "{}",
        header(header::ERROR)
    );
    assert_eq!(
        scene.metrics.dead_lettered(DeadLetterReason::MaxDeliveries),
        1
    );
    scene.assert_balance();
}

/// A processor that panics before there is a future.
struct Eager(Arc<AtomicUsize>);

impl BatchProcessor for Eager {
    // Not an async function: that panics only once it is polled.
    fn process(&self, batch: &Batch, _: &CancellationToken) -> impl Future<Output = Answer> + Send {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 0, "the first time");
        let len = batch.len();
        async move { Ok(ProcessingResult::ack_all(len)) }
    }
}

#[tokio::test]
async fn a_panic_before_there_is_a_future_is_a_failure_as_well() {
    let scene = Scene::shared("eager").await;
    scene.publish(numbers(0..10)).await;
    let running = scene.start_with(together(10), Eager(Arc::default())).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!((scene.metrics.nakked(), scene.metrics.acked()), (10, 10));
}

#[tokio::test]
async fn a_wrong_number_of_dispositions_acks_nothing() {
    let scene = Scene::shared("miscounts").await;
    let script = Script::new(|call| async move {
        match call.messages[0].deliveries {
            1 => Ok(ProcessingResult::ack_all(call.messages.len() - 1)),
            2 => Ok(ProcessingResult::ack_all(call.messages.len() + 1)),
            _ => call.ack_all(),
        }
    });
    scene.publish(numbers(0..10)).await;
    let settings = BatchSettings {
        alone_from_delivery: 10,
        ..together(10)
    };
    let running = scene.start(settings, &script).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.sizes(), [10, 10, 10]);
    assert_eq!((scene.metrics.nakked(), scene.metrics.acked()), (20, 10));
    scene.assert_balance();
}
