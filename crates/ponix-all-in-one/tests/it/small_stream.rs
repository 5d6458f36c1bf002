//! A stream with little space.

use futures::{StreamExt as _, stream};
use ponix_nats::envelope_message;
use tokio_util::sync::CancellationToken;

use crate::support::{World, numbered};

const EVENTS: u32 = 8_000;
const STREAM_BYTES_MAX: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_full_of_settled_events_takes_more() {
    let world = World::new("small_stream").await;
    let service = world
        .service()
        .env("PONIX_NATS_STREAM_BYTES_MAX", STREAM_BYTES_MAX)
        .start_ready()
        .await;
    let (_, publisher) = world.jetstream().await;
    let never = CancellationToken::new();
    stream::iter(numbered(EVENTS))
        .map(|envelope| envelope_message(&world.name, envelope).unwrap())
        .for_each_concurrent(64, |message| {
            let never = &never;
            async move {
                let acked = publisher.publish_until_acked(&message, never).await;
                acked.unwrap();
            }
        })
        .await;
    world.stored(u64::from(EVENTS)).await;
    world.settled().await;
    world.assert_events(u64::from(EVENTS)).await;

    let metrics = service
        .metrics_when("space again", |m| {
            m.sum("ponix_nats_stream_bytes") < STREAM_BYTES_MAX * 9 / 10
        })
        .await;
    assert!(metrics.sum("ponix_nats_history_given_up_messages_total") > 0);
    assert_eq!(
        metrics.get(&format!(
            r#"ponix_nats_stream_bytes_max{{stream="{}"}}"#,
            world.name
        )),
        STREAM_BYTES_MAX
    );
    let (status, ready) = service.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "{ready}");
    assert!(ready.contains("is short of space"), "{ready}");
    service.logged("is short of space").await;
    service.stop().await;
}
