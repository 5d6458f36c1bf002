//! `/scale`, and the modes in which a service runs no pipeline.

use anyhow::ensure;
use ponix_stack::{Mode, Proxy, eventually};
use serde_json::{Value, json};

use crate::support::{SOON, Service, World, http, numbered};

const BATCH: u64 = 10;

async fn scale(service: &Service) -> Value {
    let (status, body) = service.get("/scale/envelopes").await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn scales_to(service: &Service, batches: u64) -> Value {
    let what = format!("{batches} batches");
    let scaled = eventually(&what, SOON, || async {
        let scale = scale(service).await;
        ensure!(scale["batches"] == batches, "{scale}");
        Ok(scale)
    });
    scaled.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_workers_are_asked_for_only_while_they_help() {
    let world = World::with_own_clickhouse("scaling").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    let keeper = world.service().env("PONIX_NATS_BATCH_SIZE", BATCH);
    let keeper = keeper
        .env("PONIX_PIPELINES_MODE", "keep")
        .start_ready()
        .await;
    assert_eq!(
        scale(&keeper).await,
        json!({"pipeline": "envelopes", "batches": 0, "pending": 0, "ack_pending": 0})
    );

    // Without a worker: one is asked for, and what it makes of it shows whether more would help.
    world.publish(numbered(100)).await;
    let alone = scale(&keeper).await;
    assert_eq!(
        (&alone["batches"], &alone["pending"]),
        (&json!(1), &json!(100)),
        "{alone}"
    );
    assert_eq!(alone["held"], "nothing is settled");
    let worker = world.service().env("PONIX_NATS_BATCH_SIZE", BATCH);
    let worker = worker.env("PONIX_CLICKHOUSE_URL", proxy.url("http"));
    let worker = worker.start_ready().await;
    scales_to(&keeper, 0).await;
    scales_to(&worker, 0).await;

    // It has settled something just now, so what is there counts.
    proxy.set(Mode::Refuse).await;
    proxy.cut();
    world.publish(numbered(300).skip(100)).await;
    let busy = scale(&keeper).await;
    assert_eq!(
        (&busy["batches"], &busy["held"]),
        (&json!(20), &Value::Null),
        "{busy}"
    );
    // Now it holds: another one would hold as well. It knows that itself, the keeper sees it.
    let held = scales_to(&worker, 1).await;
    assert_ne!(held["held"], "nothing is settled", "{held}");
    let held = scales_to(&keeper, 1).await;
    assert_eq!(held["held"], "nothing is settled", "{held}");

    proxy.set(Mode::Pass).await;
    scales_to(&keeper, 0).await;
    world.assert_events(300).await;
    let (_, all) = keeper.get("/scale").await.unwrap();
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["envelopes"], scale(&keeper).await);
    worker.stop().await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_no_number() {
    let world = World::with_own_nats("scaling_errors").await;
    let service = world.service().start_ready().await;
    let (status, body) = service.get("/scale/nothing").await.unwrap();
    assert_eq!(status, 404, "{body}");
    world.nats.kill().await.unwrap();
    let (status, body) = service.get("/scale/envelopes").await.unwrap();
    assert_eq!(status, 503, "{body}");
    assert_eq!(service.get("/scale").await.unwrap().0, 503);
}

/// An API for messages alone neither makes the stream of the events nor takes any.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_envelopes_makes_no_stream_of_them() {
    let world = World::with_own_nats("scaling_api").await;
    let service = world
        .service()
        .env("PONIX_PIPELINES_MODE", "off")
        .env("PONIX_INGEST_ENVELOPES_ENABLED", "false");
    let service = service.start_ready().await;
    let named = world.context().await.get_stream(&world.name).await;
    assert!(named.is_err(), "{named:?}");
    assert_eq!(service.get("/scale").await.unwrap(), (200, "{}".to_owned()));
    let addr = service.api_addr().unwrap();
    let (_, api) = http::get(addr, "/openapi.json").await.unwrap();
    assert!(!api.contains("/v1/envelopes"), "{api}");
    service.stop().await;
}
