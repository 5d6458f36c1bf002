//! What a service that cannot start says, and that it starts by itself once it can.

use std::net::TcpListener;

use ponix_stack::{Mode, Nats, Proxy};

use crate::support::World;

/// An address where nobody listens, reserved as long as it is kept.
async fn nobody() -> Proxy {
    let proxy = Proxy::start(([127, 0, 0, 1], 1).into()).await.unwrap();
    proxy.set(Mode::Refuse).await;
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_is_not_there_is_awaited_and_then_told() {
    let world = World::new("starting_no_clickhouse").await;
    let nobody = nobody().await;
    let (code, log) = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", nobody.url("http"))
        .env("PONIX_STARTUP_TIMEOUT_SECS", 4)
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    let waiting = log.lines().filter(|line| line.contains("trying again"));
    assert!((1..=4).contains(&waiting.count()), "{log}");
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    for part in [
        &nobody.url("http"),
        "gave up after",
        "attempts in",
        "no connection",
        "nothing listens there: start ClickHouse, or set its host and port in PONIX_CLICKHOUSE_URL",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_not_there_is_awaited_and_then_told() {
    let world = World::new("starting_no_nats").await;
    let nobody = nobody().await;
    let (code, log) = world
        .service()
        .env(
            "PONIX_NATS_URL",
            format!("nats://ann:geheim@{}", nobody.addr()),
        )
        .env("PONIX_STARTUP_TIMEOUT_SECS", 4)
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    let waiting = log.lines().filter(|line| line.contains("trying again"));
    assert!((1..=4).contains(&waiting.count()), "{log}");
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    let servers = format!("no NATS server answered at {}", nobody.addr());
    let remedy =
        "nothing listens there: start nats-server, or set its host and port in PONIX_NATS_URL";
    for part in [servers.as_str(), "attempts", remedy] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!log.contains("geheim"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hang_are_told() {
    let world = World::new("starting_hang").await;
    for (variable, scheme, server) in [
        ("PONIX_CLICKHOUSE_URL", "http", world.clickhouse.addr()),
        ("PONIX_NATS_URL", "nats", world.nats.addr()),
    ] {
        let proxy = Proxy::start(server).await.unwrap();
        proxy.set(Mode::Stall).await;
        let url = proxy.url(scheme);
        let (code, log) = world
            .service()
            .env(variable, &url)
            .env("PONIX_STARTUP_TIMEOUT_SECS", 3)
            .run()
            .await;
        assert_eq!(code, 1, "{log}");
        let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
        assert!(told.contains(&url), "{told}");
        assert!(told.contains("timeout_ms=3000"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_may_come_later() {
    let world = World::new("starting_later").await;
    let clickhouse = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let nats = Proxy::start(world.nats.addr()).await.unwrap();
    clickhouse.set(Mode::Refuse).await;
    nats.set(Mode::Refuse).await;
    let service = world
        .service()
        .env("PONIX_CLICKHOUSE_URL", clickhouse.url("http"))
        .env("PONIX_NATS_URL", nats.url("nats"))
        .start();
    service.logged("migrations: not ready yet").await;
    service.logged("admin endpoint listens").await;
    assert_eq!(
        service.reasons().await.unwrap(),
        ["the service is starting"]
    );
    assert_eq!(
        service.get("/livez").await.unwrap(),
        (200, "ok\n".to_owned())
    );
    clickhouse.set(Mode::Pass).await;
    service.logged("no connection to nats yet").await;
    assert_eq!(
        service.reasons().await.unwrap(),
        ["the service is starting"]
    );
    nats.set(Mode::Pass).await;
    service.ready().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_without_jetstream_is_told() {
    let world = World::new("starting_no_jetstream").await;
    let nats = Nats::builder().jetstream(false).start().await.unwrap();
    let (code, log) = world
        .service()
        .env("PONIX_NATS_URL", nats.url())
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("JetStream is not enabled on NATS at"), "{log}");
    assert!(log.contains("start nats-server with -js"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_told_at_once() {
    let world = World::new("starting_passwords").await;
    let nats = Nats::builder()
        .user_password("ann", "right")
        .start()
        .await
        .unwrap();
    let (code, log) = world
        .service()
        .env("PONIX_NATS_URL", nats.url())
        .env("PONIX_NATS_USER", "ann")
        .env("PONIX_NATS_PASSWORD", "geheim")
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("refused the login (user and password)"),
        "{log}"
    );
    assert!(
        !log.contains("geheim") && !log.contains("trying again"),
        "{log}"
    );

    let (code, log) = world
        .service()
        .env("PONIX_CLICKHOUSE_PASSWORD", "geheim")
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("code 516") && log.contains("Authentication failed"),
        "{log}"
    );
    assert!(log.contains(&world.clickhouse.url()), "{log}");
    assert!(
        !log.contains("geheim") && !log.contains("trying again"),
        "{log}"
    );

    // With the right ones it starts.
    let service = world
        .service()
        .env("PONIX_NATS_URL", nats.url())
        .env("PONIX_NATS_USER", "ann")
        .env("PONIX_NATS_PASSWORD", "right")
        .start_ready()
        .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_create_streams_is_told() {
    let world = World::new("starting_privileges").await;
    let nats = Nats::builder()
        .config(
            r#"authorization { users: [ { user: ann, password: pw, permissions: {
                publish: { deny: "$JS.API.STREAM.CREATE.>" } } } ] }"#,
        )
        .start()
        .await
        .unwrap();
    let (code, log) = world
        .service()
        .env("PONIX_NATS_URL", nats.url())
        .env("PONIX_NATS_USER", "ann")
        .env("PONIX_NATS_PASSWORD", "pw")
        .env("PONIX_NATS_REQUEST_TIMEOUT_SECS", 0.5)
        .env("PONIX_STARTUP_TIMEOUT_SECS", 4)
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    let what = format!("stream {} cannot be created", world.name);
    assert!(told.contains(&what), "{told}");
    assert!(told.contains("$JS.API.STREAM.CREATE"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_port_that_is_taken_is_told() {
    let world = World::new("starting_admin_port").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (code, log) = world.service().env("PONIX_ADMIN_ADDR", addr).run().await;
    assert_eq!(code, 1, "{log}");
    let told = format!("cannot listen on {addr} (PONIX_ADMIN_ADDR)");
    assert!(log.contains(&told), "{log}");
}
