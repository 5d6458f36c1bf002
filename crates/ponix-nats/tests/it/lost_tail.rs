//! A server that has lost the tail of a stream, and gives its sequences to other messages.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use ponix_nats::{BatchSettings, Janitor, Pack, RebuildReason, pack};
use ponix_stack::{Mode, Nats, NatsBuilder, Proxy, eventually, oldest_nats_server};
use ponix_wire::{PackFormat, PackLimits};
use tokio::sync::watch;

use crate::support::{SOON, Scene, Script, now_ns, numbers, plain_context, quick, together};

const MESSAGES: usize = 300;

/// The server that is found, and the oldest that Ponix works with, which leaves a consumer beyond
/// the end of its stream.
fn servers(test: &str) -> Vec<(&'static str, NatsBuilder)> {
    let oldest = oldest();
    if oldest.is_none() {
        println!("{test}: without the oldest nats-server (scripts/setup --with-oldest-nats)");
    }
    let current = Some(("current", Nats::builder()));
    current.into_iter().chain(oldest).collect()
}

fn oldest() -> Option<(&'static str, NatsBuilder)> {
    oldest_nats_server().map(|program| ("oldest", Nats::builder().program(program)))
}

/// Kills the server, takes a third of what the stream holds, and starts it again.
async fn lose_tail(nats: &Nats, stream: &str) {
    nats.kill().await.unwrap();
    nats.cut_tail(stream).unwrap();
    nats.start_again().await.unwrap();
}

/// Waits until the consumer's ack floor is on the disk, which is some time after the acks, and what
/// was delivered.
///
/// # Source
/// `encodeConsumerState` in nats-server's store.go: two bytes, then varints: the ack floor by
/// consumer sequence and by stream sequence, and both of what was delivered last.
async fn on_disk(nats: &Nats, stream: &str, floor: u64, delivered: u64) {
    let streams = nats.folder().join("store/jetstream/$G/streams");
    let file = streams.join(stream).join("obs/worker/o.dat");
    eventually("the ack floor on the disk", SOON, || async {
        let bytes = fs::read(&file)?;
        let mut rest = bytes.get(2..).unwrap_or_default();
        let [_, acked, _, sent] = std::array::from_fn(|_| varint(&mut rest));
        let on_disk = (acked, sent);
        anyhow::ensure!(
            on_disk == (floor, delivered),
            "{on_disk:?} of {floor}, {delivered}"
        );
        Ok(())
    })
    .await
    .unwrap();
}

async fn floor_on_disk(nats: &Nats, stream: &str, floor: u64) {
    on_disk(nats, stream, floor, floor).await;
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else {
            break;
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn assert_stored(script: &Script, bodies: Range<usize>, server: &str) {
    let stored = script.stored();
    let lost: Vec<_> = numbers(bodies)
        .filter(|body| !stored.contains_key(body))
        .collect();
    assert!(lost.is_empty(), "{server}: not delivered: {lost:?}");
}

#[tokio::test]
async fn what_gets_the_sequences_of_a_lost_tail_is_delivered_to_a_running_worker() {
    for rest in [true, false] {
        for (server, builder) in servers("running worker") {
            let nats = builder.start().await.unwrap();
            let scene = Scene::at_impatient(&nats.url(), "tail").await;
            let script = Script::ack();
            let running = scene.start(quick(), &script).await;
            scene.publish(numbers(0..MESSAGES)).await;
            scene.settled().await;
            if rest {
                floor_on_disk(&nats, "tail", MESSAGES as u64).await;
            }
            lose_tail(&nats, "tail").await;
            scene.publish(numbers(MESSAGES..2 * MESSAGES)).await;
            script.has_stored(2 * MESSAGES).await;
            running.stop().await;
            let set_back = scene.metrics.pull_rebuilds(RebuildReason::LostTail);
            if server == "current" {
                assert_eq!(set_back, 0, "the server puts it right by itself");
            }
            assert_stored(&script, 0..2 * MESSAGES, server);
        }
    }
}

#[tokio::test]
async fn a_stream_that_has_grown_past_the_lost_tail_is_noticed() {
    for (server, builder) in servers("grown past") {
        let nats = builder.start().await.unwrap();
        let proxy = Proxy::start(nats.addr()).await.unwrap();
        let scene = Scene::at_impatient(&format!("nats://{}", proxy.addr()), "past").await;
        let script = Script::ack();
        let running = scene.start(quick(), &script).await;
        scene.publish(numbers(0..MESSAGES)).await;
        scene.settled().await;
        floor_on_disk(&nats, "past", MESSAGES as u64).await;
        proxy.set(Mode::Refuse).await;
        lose_tail(&nats, "past").await;
        let context = plain_context(&nats.url()).await;
        for body in numbers(MESSAGES..2 * MESSAGES) {
            let ack = context.publish("past.d", body.into()).await.unwrap();
            ack.await.unwrap();
        }
        proxy.set(Mode::Pass).await;
        script.has_stored(2 * MESSAGES).await;
        running.stop().await;
        assert_stored(&script, 0..2 * MESSAGES, server);
    }
}

/// A batch may be full before what the server was asked for has been taken: that waits for the next
/// one, and the server may lose it meanwhile.
#[tokio::test]
async fn a_tail_is_lost_that_waits_for_its_batch() {
    const PACKS: u64 = 9;
    for (server, builder) in servers("waiting for its batch") {
        let nats = builder.start().await.unwrap();
        let proxy = Proxy::start(nats.addr()).await.unwrap();
        let scene = Scene::at_impatient(&format!("nats://{}", proxy.addr()), "rest").await;
        let (open, gate) = watch::channel(false);
        let script = Script::new(move |call| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|is_open| *is_open).await.unwrap();
                call.ack_all()
            }
        });
        let settings = BatchSettings {
            in_flight_max: 1,
            ..together(PACKS as usize)
        };
        let running = scene.start(settings, &script).await;
        let (line, lines) = ("x".repeat(100), PACKS as usize * 2);
        let limits = PackLimits {
            events_max: lines,
            bytes_max: 100_000,
        };
        for _ in 0..PACKS {
            let events = (0..lines).map(|_| scene.message("d", line.clone()));
            for Pack { message, .. } in pack(PackFormat::Lines, events, "none", limits) {
                scene.publisher.publish(message).await.unwrap();
            }
        }
        // The first is a batch, and all others have come with it.
        on_disk(&nats, "rest", 0, PACKS).await;
        assert_eq!(script.sizes(), [1]);
        proxy.set(Mode::Refuse).await;
        lose_tail(&nats, "rest").await;
        let context = plain_context(&nats.url()).await;
        for body in numbers(0..MESSAGES) {
            let ack = context.publish("rest.d", body.into()).await.unwrap();
            ack.await.unwrap();
        }
        let stream = context.get_stream("rest").await.unwrap();
        let held = stream.cached_info().state.last_sequence;
        assert!((3..PACKS).contains(&(held - MESSAGES as u64)), "{held}");
        proxy.set(Mode::Pass).await;
        // Before anything is settled, it is connected again.
        eventually("a connection", SOON, || scene.consumer_info())
            .await
            .unwrap();
        open.send_replace(true);
        script.has_stored(1 + MESSAGES).await;
        running.stop().await;
        assert_stored(&script, 0..MESSAGES, server);
    }
}

#[tokio::test]
async fn a_worker_that_starts_sets_the_consumer_back() {
    for (server, builder) in servers("starting worker") {
        let nats = builder.start().await.unwrap();
        let scene = Scene::at_impatient(&nats.url(), "begun").await;
        let script = Script::ack();
        let running = scene.start(quick(), &script).await;
        scene.publish(numbers(0..MESSAGES)).await;
        scene.settled().await;
        running.stop().await;
        floor_on_disk(&nats, "begun", MESSAGES as u64).await;
        lose_tail(&nats, "begun").await;

        let scene = Scene::at_impatient(&nats.url(), "begun").await;
        let running = scene.start(quick(), &script).await;
        scene.publish(numbers(MESSAGES..2 * MESSAGES)).await;
        script.has_stored(2 * MESSAGES).await;
        scene.settled().await;
        running.stop().await;
        // Set back, it is still the consumer that the settings ask for.
        scene.create_source().await;
        assert_stored(&script, 0..2 * MESSAGES, server);
    }
}

#[tokio::test]
async fn a_janitor_purges_nothing_where_floors_cannot_be_believed() {
    let Some((_, builder)) = oldest() else {
        println!("skipped: the oldest nats-server is not there (scripts/setup --with-oldest-nats)");
        return;
    };
    let nats = builder.start().await.unwrap();
    let scene = Scene::at_impatient(&nats.url(), "swept").await;
    let running = scene.start(quick(), &Script::ack()).await;
    scene.publish(numbers(0..MESSAGES)).await;
    scene.settled().await;
    running.stop().await;
    floor_on_disk(&nats, "swept", MESSAGES as u64).await;
    let stream = scene.stream().await;
    // A look at which nothing has left the replay window.
    let mut witness = Janitor::new(stream.clone(), Duration::from_hours(1), &scene.nats_metrics);
    witness.clean(now_ns(), true).await.unwrap();
    lose_tail(&nats, "swept").await;

    let purged_nothing = async |janitor: &mut Janitor| {
        let cleaning = janitor.clean(now_ns(), true).await.unwrap();
        assert_eq!(cleaning.purged, 0, "{cleaning:?}");
        assert!(
            cleaning
                .warnings
                .iter()
                .any(|w| w.contains("its tail was lost")),
            "{cleaning:?}"
        );
    };
    let mut fresh = Janitor::new(stream, Duration::ZERO, &scene.nats_metrics);
    purged_nothing(&mut fresh).await;
    // Once the stream has grown past the loss, only who has looked before can know.
    scene.publish(numbers(MESSAGES..2 * MESSAGES)).await;
    purged_nothing(&mut witness).await;
}
