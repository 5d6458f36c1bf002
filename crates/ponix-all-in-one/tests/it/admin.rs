//! `/livez`, `/readyz`, `/metrics` and the subcommand `probe`.

use anyhow::ensure;
use ponix_stack::{Mode, Proxy, eventually};

use crate::support::{SOON, Service, ServiceBuilder, World, numbered};

/// Names that do not begin with `ponix_`; each has a successor that does.
const OLD_NAMES: [&str; 4] = [
    "messages_published",
    "messages_processed",
    "message_processing_latency_seconds",
    "nats_publish_latency_seconds",
];

async fn probe(service: &Service) -> (i32, String) {
    let probe = ServiceBuilder::new().args(&["probe"]);
    let addr = service.admin_addr();
    probe.env("PONIX_ADMIN_ADDR", addr).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers() {
    let world = World::new("admin_endpoints").await;
    let service = world.service().start_ready().await;
    assert_eq!(
        service.get("/livez").await.unwrap(),
        (200, "ok\n".to_owned())
    );
    let ready = r#"{"ready":true,"reasons":[]}"#;
    assert_eq!(
        service.get("/readyz").await.unwrap(),
        (200, ready.to_owned())
    );
    assert_eq!(service.get("/nothing").await.unwrap().0, 404);
    assert_eq!(probe(&service).await, (0, format!("{ready}\n")));
    let (status, metrics) = service.get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let version = format!(
        "ponix_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    assert!(metrics.lines().any(|line| line == version), "{metrics}");
    service.stop().await;
    assert_eq!(probe(&service).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_received_is_accounted_for() {
    let world = World::new("admin_balance").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .env("PONIX_NATS_BATCH_SIZE", 100)
        .start_ready()
        .await;
    world.publish(numbered(250)).await;
    world.publish_bodies([b"bad".to_vec(), Vec::new()]).await;
    world.settled().await;
    let metrics = service
        .metrics_when("252 settled", |m| m.balance().1 == 252)
        .await;
    assert_eq!(metrics.balance(), (252, 252));
    assert_eq!(metrics.acked(), 250);
    assert_eq!(metrics.sum("ponix_nats_dead_lettered_messages_total"), 2);
    assert_eq!(metrics.sum("ponix_nats_in_flight_messages"), 0);
    assert_eq!(metrics.sum("ponix_nats_in_flight_bytes"), 0);
    assert_eq!(metrics.sum("ponix_clickhouse_rows_total"), 250);
    assert_eq!(metrics.sum("ponix_clickhouse_inserts_in_progress"), 0);

    // While ClickHouse is gone, three batches and no more are in flight.
    proxy.set(Mode::Refuse).await;
    proxy.cut();
    world.publish(numbered(1_250).skip(250)).await;
    let metrics = service
        .metrics_when("retries, and nothing in between", |m| {
            let (received, settled) = m.balance();
            m.sum("ponix_clickhouse_retries_total") >= 10 && received == settled
        })
        .await;
    let in_flight = metrics.sum("ponix_nats_in_flight_messages");
    assert!((1..=300).contains(&in_flight), "{metrics:#?}");
    service
        .metrics_when("what waits, by the server's word", |m| {
            let waiting =
                m.sum("ponix_nats_pending_messages") + m.sum("ponix_nats_ack_pending_messages");
            waiting == 1_000 && m.sum("ponix_nats_consumer_lag_seconds") > 0
        })
        .await;
    proxy.set(Mode::Pass).await;
    world.settled().await;
    world.assert_events(1_250).await;
    service
        .metrics_when("all settled", |m| {
            m.sum("ponix_nats_in_flight_messages") == 0
        })
        .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_labels_are_in_snake_case() {
    let world = World::new("admin_labels").await;
    let service = world.service().start_ready().await;
    world.publish(numbered(1)).await;
    world.publish_bodies([b"bad".to_vec()]).await;
    world.settled().await;
    service
        .metrics_when("both settled", |m| m.balance().1 == 2)
        .await;
    let (_, text) = service.get("/metrics").await.unwrap();
    let is_snake_case = |word: &str| {
        word.bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    };
    let mut labels = 0;
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap();
        // The names of before are there for a version.
        let is_ours =
            name.starts_with("ponix_") || OLD_NAMES.iter().any(|old| name.starts_with(old));
        assert!(is_ours && is_snake_case(name), "{sample}");
        let inside = sample
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        for label in inside.into_iter().flat_map(|(inside, _)| inside.split(',')) {
            let (name, value) = label.split_once('=').unwrap();
            // Bounds of a histogram are numbers.
            assert!(
                ["le", "version"].contains(&name) || is_snake_case(value.trim_matches('"')),
                "{sample}"
            );
            labels += 1;
        }
    }
    assert!(labels > 3, "{text}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_is_gone_is_a_reason_until_it_is_back() {
    let world = World::new("admin_clickhouse").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .start_ready()
        .await;
    for mode in [Mode::Refuse, Mode::Stall] {
        proxy.set(mode).await;
        proxy.cut();
        service.not_ready("clickhouse cannot be used").await;
        let (code, printed) = probe(&service).await;
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains("clickhouse cannot be used"), "{printed}");
        assert_eq!(service.get("/livez").await.unwrap().0, 200);
        proxy.set(Mode::Pass).await;
        service.ready().await;
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_gone_is_a_reason_until_it_is_back() {
    let world = World::new("admin_nats").await;
    let proxy = Proxy::start(world.nats.addr()).await.unwrap();
    let service = world
        .service()
        .env("PONIX_NATS_URL", proxy.url("nats"))
        .start_ready()
        .await;
    proxy.set(Mode::Refuse).await;
    proxy.cut();
    service
        .not_ready("the nats connection for publishing is down")
        .await;
    service
        .not_ready("the nats connection for consuming is down")
        .await;
    proxy.set(Mode::Pass).await;
    service.ready().await;
    world.publish(numbered(1)).await;
    world.stored(1).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_a_reason_and_a_restart_reads_on() {
    let world = World::new("admin_consumer").await;
    let service = world.service().start_ready().await;
    world.publish(numbered(10)).await;
    world.stored(10).await;
    world.settled().await;
    let stream = world.context().await.get_stream(&world.name).await.unwrap();
    stream.delete_consumer("ponix-all-in-one").await.unwrap();
    let gone = format!("consumer ponix-all-in-one of stream {} is gone", world.name);
    service.not_ready(&gone).await;
    service.stop().await;

    // All that the stream still holds is read again, and is one event each all the same.
    world.publish(numbered(11).skip(10)).await;
    let service = world.service().start_ready().await;
    world.stored(11).await;
    world.settled().await;
    world.assert_events(11).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_a_reason() {
    let world = World::new("admin_stream").await;
    let service = world.service().start_ready().await;
    let context = world.context().await;
    context.delete_stream(&world.name).await.unwrap();
    let gone = format!("stream {} is gone", world.name);
    service.not_ready(&gone).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_do_not_shut_others_out() {
    let world = World::new("admin_silent").await;
    let service = world.service().start_ready().await;
    let addr = service.admin_addr();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(tokio::net::TcpStream::connect(addr).await.unwrap());
    }
    eventually("an answer", SOON, || async {
        let (status, _) = service.get("/livez").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    service.stop().await;
}
