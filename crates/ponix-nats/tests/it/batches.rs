//! How batches fill and close, and that every message of one gets what its disposition says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use ponix_nats::{BatchSettings, DeadLetterReason, ProcessingResult, RebuildReason};
use ponix_stack::{Mode, Nats, Proxy, eventually};
use tokio::sync::Semaphore;

use crate::support::{SOON, Scene, Script, config, dead, numbers, quick, together};

/// Longer than any test: a batch that closes did so for another reason.
const NEVER: Duration = Duration::from_mins(10);

#[tokio::test]
async fn each_message_of_a_batch_gets_what_its_own_disposition_says() {
    let scene = Scene::shared("dispositions").await;
    let script = Script::new(|call| async move {
        let len = call.messages.len();
        let mut result = ProcessingResult::ack_all(len);
        if let Some(index) = call.position("later")
            && call.messages[index].deliveries == 1
        {
            result = result.with_nak(index, Some(Duration::from_millis(300)));
        }
        if let Some(index) = call.position("bad") {
            result = result.with_dead_letter(index, dead(DeadLetterReason::Decode, "no envelope"));
        }
        Ok(result)
    });
    scene.publish(["good", "later", "bad", "good too"]).await;
    let running = scene.start(together(4), &script).await;
    script.has_stored(3).await;
    scene.settled().await;
    running.stop().await;

    assert_eq!(script.calls()[0].len(), 4, "one batch holds all four");
    let stored = script.stored();
    assert_eq!(stored.len(), 3);
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
    let seen = |text: &str| -> Vec<u32> {
        let calls = script.calls().into_iter().flatten();
        calls
            .filter(|m| m.text() == text)
            .map(|m| m.deliveries)
            .collect()
    };
    assert_eq!(seen("good"), [1]);
    assert_eq!(seen("later"), [1, 2]);
    assert_eq!(seen("bad"), [1]);
    let kept = scene.kept().await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].payload, "bad");
    assert_eq!(scene.metrics.acked(), 3);
    assert_eq!(scene.metrics.nakked(), 1);
    assert_eq!(scene.metrics.dead_lettered(DeadLetterReason::Decode), 1);
    scene.assert_balance();
}

#[tokio::test]
async fn a_backlog_comes_in_whole_batches() {
    let scene = Scene::shared("by-count").await;
    scene.publish(numbers(0..3_000)).await;
    let script = Script::ack();
    let settings = BatchSettings {
        linger: NEVER,
        ..quick()
    };
    let running = scene.start(settings, &script).await;
    script.has_stored(3_000).await;
    running.stop().await;
    assert_eq!(script.sizes(), [1_000, 1_000, 1_000]);
    scene.settled().await;
    scene.assert_balance();
}

#[tokio::test]
async fn a_batch_closes_before_it_has_too_many_bytes() {
    let scene = Scene::shared("by-bytes").await;
    scene.publish((0..40).map(|_| vec![b'x'; 10_000])).await;
    let script = Script::ack();
    let settings = BatchSettings {
        linger: NEVER,
        bytes_max: 100_000,
        ..quick()
    };
    let running = scene.start(settings, &script).await;
    script.has_seen(27).await;
    running.stop().await;
    for size in script.sizes().iter().take(3) {
        assert_eq!(*size, 9, "{:?}", script.sizes());
    }
}

#[tokio::test]
async fn messages_that_trickle_in_wait_for_each_other() {
    let scene = Scene::shared("trickle").await;
    let script = Script::ack();
    let settings = BatchSettings {
        linger: Duration::from_secs(4),
        ..quick()
    };
    let running = scene.start(settings, &script).await;
    for body in numbers(0..20) {
        scene.publish([body]).await;
    }
    script.has_stored(20).await;
    running.stop().await;
    // One, or a few on a slow machine; each alone with a one-shot fetch.
    assert!(script.sizes().len() <= 4, "{:?}", script.sizes());
}

#[tokio::test]
async fn a_message_over_the_limit_of_bytes_comes_alone_and_the_next_batch_is_whole_again() {
    let scene = Scene::shared("oversized").await;
    let big = |letter: u8| vec![letter; 50_000];
    scene.publish(["small"]).await;
    scene.publish([big(b'a'), big(b'b')]).await;
    scene.publish(numbers(0..10)).await;
    let script = Script::ack();
    let settings = BatchSettings {
        bytes_max: 20_000,
        linger: Duration::from_secs(2),
        ..quick()
    };
    let running = scene.start(settings, &script).await;
    script.has_stored(13).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.sizes(), [1, 1, 1, 10]);
    assert!(script.stored().values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_batch_that_crawls_over_a_slow_link_is_not_taken_for_silence() {
    let nats = Nats::start().await.unwrap();
    let filled = Scene::at(&nats.url(), "crawling").await;
    filled
        .publish((0..30_u8).map(|n| vec![b'a' + n; 20_000]))
        .await;
    let proxy = Proxy::start(nats.addr()).await.unwrap();
    let mut config = config(&proxy.url("nats"));
    // The answer to a ping waits behind the messages.
    config.ping_interval = NEVER;
    config.request_timeout = Duration::from_secs(30);
    let scene = Scene::with(config, "crawling").await;
    let script = Script::ack();
    let running = scene.start(quick(), &script).await;
    proxy.set(Mode::Rate(120_000)).await;
    script.has_stored(30).await;
    running.stop().await;
    assert_eq!(scene.metrics.pull_rebuilds(RebuildReason::Silent), 0);
    assert_eq!(script.seen(), 30, "{:?}", script.sizes());
}

/// Counts the progress reports that the server gets for each message.
async fn progress_reports(scene: &Scene, consumer: &str) -> tokio::sync::watch::Receiver<usize> {
    let acks = format!("$JS.ACK.*.*.{}.{consumer}.>", scene.source.name);
    let short = format!("$JS.ACK.{}.{consumer}.>", scene.source.name);
    let client = scene.client.clone();
    let both = [
        client.subscribe(acks).await.unwrap(),
        client.subscribe(short).await.unwrap(),
    ];
    client.flush().await.unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    let mut answers = futures::stream::select_all(both);
    tokio::spawn(async move {
        while let Some(answer) = answers.next().await {
            if answer.payload == "+WPI" {
                count.send_modify(|count| *count += 1);
            }
        }
    });
    counted
}

#[tokio::test]
async fn work_that_takes_longer_than_the_ack_wait_is_not_given_to_others() {
    let mut scene = Scene::shared("long-work").await;
    scene.consumer.ack_wait = Duration::from_secs(3);
    scene.create_source().await;
    let progress = progress_reports(&scene, "worker").await;
    scene.publish(numbers(0..10)).await;
    let script = Script::new(move |call| {
        let mut progress = progress.clone();
        async move {
            // Five rounds of reports, one every third of the ack wait.
            progress.wait_for(|count| *count >= 50).await.unwrap();
            call.ack_all()
        }
    });
    let running = scene.start(quick(), &script).await;
    script.has_stored(10).await;
    scene.settled().await;
    running.stop().await;
    assert_eq!(script.seen(), 10, "a message was delivered twice");
}

#[tokio::test]
async fn metrics_add_up_while_batches_are_in_work() {
    let scene = Scene::shared("in-work").await;
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
    let running = scene.start(together(10), &script).await;
    script.has_seen(30).await;
    eventually("thirty in flight", SOON, || async {
        scene.metrics.in_flight() == 30
    })
    .await
    .unwrap();
    scene.assert_balance();
    let info = scene.consumer_info().await.unwrap();
    assert_eq!(info.num_ack_pending, 30, "no more than what is in flight");
    gate.add_permits(1);
    scene.settled().await;
    running.stop().await;
    assert_eq!(scene.metrics.in_flight(), 0);
    assert_eq!(scene.metrics.acked(), 100);
    scene.assert_balance();
}
