//! The readings of the machine that a newcomer sees first.

use anyhow::ensure;
use ponix_stack::eventually;
use serde_json::Value;

use crate::support::{SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn rows_grow_by_themselves() {
    let world = World::new("sample_producer").await;
    let service = world
        .service()
        .env("PONIX_INTERVAL_SECS", 0.1)
        .env("PONIX_MESSAGE", "a reading of ours")
        .env("PONIX_LOG_LEVEL", "debug")
        .start_ready()
        .await;
    eventually("five readings", SOON, || async {
        let rows = world.number("SELECT count() FROM envelopes").await?;
        ensure!(rows >= 5, "{rows} readings");
        Ok(())
    })
    .await
    .unwrap();
    // What is published until the end is stored, now or by the next run.
    service.stop().await;
    let published = service.log_lines("a reading of ours").len() as u64;
    // At info there is a line now and then, and one at the end.
    let at_work = service.log_lines("at work");
    let last = at_work.last().unwrap();
    assert!(
        last.contains("INFO") && last.contains("pipeline=\"envelopes\""),
        "{last}"
    );
    let next = world.service().start_ready().await;
    world.stored(published).await;
    next.stop().await;

    let ids = "SELECT toString((groupUniqArray(organization_id), uniqExact(end_device_id), \
               uniqExact(occurred_at) = count())) FROM envelopes";
    assert_eq!(world.text(ids).await, "(['example-org'],1,1)");
    let data = world
        .text("SELECT toString(data) FROM envelopes LIMIT 1")
        .await;
    let data: Value = serde_json::from_str(&data).unwrap();
    for reading in [
        "cpu_percent",
        "memory_used_bytes",
        "network_received_bytes",
        "uptime_secs",
    ] {
        assert!(data[reading].is_number(), "{reading} in {data}");
    }
}
