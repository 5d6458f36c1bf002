//! What becomes of an event, field by field.

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{EnvelopeBuilder, json_to_struct, timestamp_from_ns};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{START_NS, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_an_event_is_in_its_row() {
    let world = World::new("rows_fields").await;
    let service = world.service().start_ready().await;
    let event_id = Uuid::now_v7();
    let data = json!({
        "temperature": 21.25,
        "whole": 72,
        "on": true,
        "text": "2026-01-01T00:00:00Z ü \"quoted\"",
        "nested": { "deeper": { "value": -0.5 } },
        "list": [1, 2.5, 3],
        "objects": [{ "a": 1 }, { "a": 2 }],
        "dotted.key": 7,
    });
    world
        .publish([EnvelopeBuilder::new(
            "Örg 1",
            "sensor.1/a b",
            timestamp_from_ns(START_NS + 123_456_789),
            json_to_struct(data.as_object().unwrap()).unwrap(),
        )
        .event_id(event_id)
        .build(timestamp_from_ns(START_NS + 1_000_000_001))
        .unwrap()])
        .await;
    world.stored(1).await;

    let fields = "SELECT concat(organization_id, '|', end_device_id, '|', toString(occurred_at), \
                  '|', toString(processed_at), '|', toString(event_id)) FROM envelopes";
    assert_eq!(
        world.text(fields).await,
        format!(
            "Örg 1|sensor.1/a b|2025-01-01 00:00:00.123456789|2025-01-01 00:00:01.000000001|{event_id}"
        )
    );
    let stored: Value =
        serde_json::from_str(&world.text("SELECT toString(data) FROM envelopes").await).unwrap();
    assert_eq!(as_doubles(&stored), as_doubles(&data));
    for (path, kind) in [
        ("data.temperature", "Float64"),
        ("data.whole", "Float64"),
        ("data.on", "Bool"),
        ("data.text", "String"),
        ("data.nested.deeper.value", "Float64"),
        // Escaped, so that it cannot clash with an object of the name `dotted`.
        ("data.`dotted%2Ekey`", "Float64"),
    ] {
        let found = world
            .text(&format!("SELECT dynamicType({path}) FROM envelopes"))
            .await;
        assert_eq!(found, kind, "{path}");
    }

    // Where and when JetStream took the message.
    let message = world.context().await.get_stream(&world.name).await.unwrap();
    let message = message.get_raw_message(1).await.unwrap();
    let stored =
        "SELECT toString((stream_sequence, toUnixTimestamp64Nano(published_at))) FROM envelopes";
    assert_eq!(
        world.text(stored).await,
        format!("(1,{})", message.time.unix_timestamp_nanos())
    );
    assert_eq!(
        message.subject.as_str(),
        format!("{}.sensor%2E1%2Fa%20b", world.name)
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_an_id_gets_one_and_published_twice_is_one_event() {
    let world = World::new("rows_identity").await;
    let service = world.service().start_ready().await;
    let anonymous = ProcessedEnvelope {
        event_id: String::new(),
        ..crate::support::numbered(1).next().unwrap()
    };
    let body = ponix_wire::Message::encode_to_vec(&anonymous);
    // Two messages without any id are two events, however alike they are.
    world.publish_bodies([body.clone(), body]).await;
    world.stored(2).await;
    let versions =
        "SELECT toString(groupUniqArray(substring(toString(event_id), 15, 1))) FROM envelopes";
    assert_eq!(world.text(versions).await, "['8']");

    // The same envelope twice, past the stream's own deduplication, is one event.
    let twice = crate::support::numbered(2).last().unwrap();
    let body = ponix_wire::Message::encode_to_vec(&twice);
    world.publish_bodies([body.clone(), body]).await;
    world.settled().await;
    world.assert_events(3).await;
    service.stop().await;
}

/// Numbers as the doubles that a Struct holds.
fn as_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(as_doubles).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), as_doubles(value)))
            .collect(),
        other => other.clone(),
    }
}
