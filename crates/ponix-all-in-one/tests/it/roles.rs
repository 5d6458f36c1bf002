//! A NATS user for each role (`docker/nats-roles.conf`): it can do its work whole, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use ponix_nats::async_nats::{Client, ConnectOptions};
use ponix_stack::{ClickHouse, Nats, eventually};

use crate::support::{SOON, Service, ServiceBuilder, World, http};

const ROLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/nats-roles.conf");
const STREAM: &str = "processed_envelopes";

async fn world() -> World {
    let roles = ["API", "WORKER", "OPERATOR"].iter().fold(
        std::fs::read_to_string(ROLES).unwrap(),
        |text, role| {
            let password = format!("\"{}\"", role.to_lowercase());
            text.replace(&format!("$PONIX_NATS_{role}_PASSWORD"), &password)
        },
    );
    let nats = Nats::builder().config(&roles).start().await.unwrap();
    let clickhouse = ClickHouse::start().await.unwrap();
    World::on(STREAM, Arc::new(nats), Arc::new(clickhouse))
}

/// A service with the user of a role.
fn service(world: &World, role: &str) -> ServiceBuilder {
    let service = world.service();
    let service = service
        .env("PONIX_NATS_USER", role)
        .env("PONIX_NATS_PASSWORD", role)
        .env("PONIX_NATS_INBOX_PREFIX", format!("_INBOX_{role}"))
        .env("PONIX_NATS_REQUEST_TIMEOUT_SECS", 1)
        .env("PONIX_NATS_REPLAY_WINDOW_SECS", 0)
        .env("PONIX_NATS_JANITOR_INTERVAL_SECS", 0.2);
    match role {
        "api" => service.env("PONIX_PIPELINES_MODE", "off"),
        "worker" => service.env("PONIX_INGEST_ENABLED", false),
        _ => service
            .env("PONIX_PIPELINES_MODE", "keep")
            .env("PONIX_INGEST_ENABLED", false),
    }
}

async fn client(world: &World, role: &str) -> Client {
    let options = ConnectOptions::with_user_and_password(role.to_owned(), role.to_owned());
    let options = options.custom_inbox_prefix(format!("_INBOX_{role}"));
    let options = options.request_timeout(Some(Duration::from_millis(500)));
    options.connect(world.nats.url()).await.unwrap()
}

/// What the server said of rights that were missing.
fn violations(world: &World) -> Vec<String> {
    let log = std::fs::read_to_string(world.nats.log_path()).unwrap();
    let lines = log.lines().filter(|line| line.contains(" Violation - "));
    lines.map(str::to_owned).collect()
}

async fn post(service: &Service, body: &str) -> u16 {
    let addr = service.api_addr().unwrap();
    let headers = "Content-Type: application/x-ndjson\r\n";
    http::post(addr, "/v1/envelopes", headers, body)
        .await
        .unwrap()
        .0
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_work_whole() {
    let world = world().await;
    let operator = service(&world, "operator").start_ready().await;
    operator.stop().await;

    let api = service(&world, "api").start_ready().await;
    let worker = service(&world, "worker").start_ready().await;
    let line = |n| {
        let at = "2026-03-01T12:00:00Z";
        format!(r#"{{"end_device_id":"d{n}","occurred_at":"{at}","data":{{"n":{n}}}}}"#)
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    assert_eq!(post(&api, &lines.join("\n")).await, 202);
    let all = client(&world, "operator").await;
    let bad = "not an event".into();
    all.publish("processed_envelopes.d1", bad).await.unwrap();
    world.stored(100).await;

    // Settled to the last, a dead letter among them, and purged by the janitor.
    let jetstream = ponix_nats::async_nats::jetstream::new(all);
    let messages = async |stream: &str| {
        let mut stream = jetstream.get_stream(stream).await?;
        anyhow::Ok(stream.info().await?.state.messages)
    };
    eventually("all is settled and purged", SOON, || async {
        let (events, letters) = (
            messages(STREAM).await?,
            messages("processed_envelopes_dlq").await?,
        );
        ensure!(
            (events, letters) == (0, 1),
            "{events} events, {letters} dead letters"
        );
        Ok(())
    })
    .await
    .unwrap();
    api.stop().await;
    worker.stop().await;
    assert_eq!(violations(&world), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_does_the_work_of_another() {
    let world = world().await;
    service(&world, "operator").start_ready().await.stop().await;
    let next = "$JS.API.CONSUMER.MSG.NEXT.processed_envelopes.ponix-all-in-one";
    for (role, subjects) in [
        (
            "api",
            vec![
                next,
                "$JS.ACK.processed_envelopes.ponix-all-in-one.1.1.1.1.1",
                "processed_envelopes_dlq.x",
                "$JS.API.STREAM.PURGE.processed_envelopes",
                "$JS.API.STREAM.DELETE.processed_envelopes",
                "$JS.API.STREAM.CREATE.other",
                "$JS.API.STREAM.MSG.GET.processed_envelopes",
                "$JS.API.DIRECT.GET.processed_envelopes",
                "$JS.API.CONSUMER.CREATE.processed_envelopes.spy",
            ],
        ),
        (
            "worker",
            vec![
                "processed_envelopes.d1",
                "messages.ingest.order",
                "$JS.API.CONSUMER.MSG.NEXT.processed_envelopes.other",
                "$JS.API.STREAM.DELETE.processed_envelopes",
                "$JS.API.STREAM.UPDATE.processed_envelopes",
                "$JS.API.STREAM.PURGE.processed_envelopes_dlq",
                "$JS.API.STREAM.MSG.DELETE.processed_envelopes",
                "$JS.API.CONSUMER.DELETE.processed_envelopes.ponix-all-in-one",
                "$JS.API.CONSUMER.CREATE.processed_envelopes.spy",
            ],
        ),
    ] {
        let client = client(&world, role).await;
        let before = violations(&world).len();
        for subject in &subjects {
            client
                .publish(subject.to_string(), "{}".into())
                .await
                .unwrap();
        }
        // What others are answered or delivered.
        for subject in [
            "_INBOX_operator.>",
            "_INBOX.>",
            "processed_envelopes.>",
            ">",
        ] {
            let _subscriber = client.subscribe(subject).await.unwrap();
        }
        client.flush().await.unwrap();
        eventually("each is refused", SOON, || async {
            let refused = violations(&world).split_off(before);
            for subject in &subjects {
                let of_this = |line: &&String| line.contains(&format!("\"{subject}\""));
                ensure!(
                    refused.iter().any(|line| of_this(&line)),
                    "{role} may use {subject}"
                );
            }
            ensure!(refused.len() == subjects.len() + 4, "{refused:#?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_the_user_of_the_api_is_told_which_right_is_missing() {
    let world = world().await;
    service(&world, "operator").start_ready().await.stop().await;
    let (code, log) = service(&world, "worker")
        .env("PONIX_NATS_USER", "api")
        .env("PONIX_NATS_PASSWORD", "api")
        .env("PONIX_NATS_INBOX_PREFIX", "_INBOX_api")
        .env("PONIX_STARTUP_TIMEOUT_SECS", 10)
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    assert!(
        told.contains("$JS.API.STREAM.INFO.processed_envelopes_dlq")
            || told.contains("$JS.API.CONSUMER.INFO"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_go_where_the_user_may_not_read_are_told() {
    let world = world().await;
    let (code, log) = service(&world, "api")
        .env("PONIX_NATS_INBOX_PREFIX", "_INBOX")
        .env("PONIX_STARTUP_TIMEOUT_SECS", 10)
        .run()
        .await;
    assert_eq!(code, 1, "{log}");
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    assert!(told.contains("PONIX_NATS_INBOX_PREFIX"), "{told}");
}
