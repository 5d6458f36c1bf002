//! What cannot be stored is kept with its reason, and the rest of its batch is stored.

use ponix_nats::async_nats::HeaderValue;
use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::header;
use ponix_wire::{Message as _, Struct, Timestamp, Value, timestamp_from_ns, value};

use crate::support::{World, numbered};

/// A body, the reason it must get, and a word that its error must hold.
struct Bad {
    body: Vec<u8>,
    reason: &'static str,
    error: &'static str,
}

fn bad(reason: &'static str, error: &'static str, change: fn(&mut ProcessedEnvelope)) -> Bad {
    let mut envelope = numbered(1).next().unwrap();
    change(&mut envelope);
    let body = envelope.encode_to_vec();
    Bad {
        body,
        reason,
        error,
    }
}

fn every_kind() -> Vec<Bad> {
    let raw = |body: &[u8], reason, error| Bad {
        body: body.to_vec(),
        reason,
        error,
    };
    let (missing, value) = ("missing_field", "value");
    let mut cut = numbered(1).next().unwrap().encode_to_vec();
    cut.truncate(cut.len() - 3);
    vec![
        raw(b"no protobuf at all", "decode", "malformed"),
        raw(
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "decode",
            "malformed",
        ),
        raw(&cut, "decode", "event_id"),
        raw(b"", missing, "organization_id"),
        bad(missing, "organization_id", |e| e.organization_id.clear()),
        bad(missing, "end_device_id", |e| e.end_device_id.clear()),
        bad(missing, "occurred_at", |e| e.occurred_at = None),
        bad(missing, "processed_at", |e| e.processed_at = None),
        raw(b"{\"end_device_id\":", "decode", "EOF while parsing"),
        raw(b"{}", missing, "end_device_id"),
        bad(value, "organization_id", |e| {
            e.organization_id = "x".repeat(257);
        }),
        bad(value, "occurred_at", |e| e.occurred_at = Some(seconds(-1))),
        bad(value, "occurred_at", |e| {
            e.occurred_at = Some(seconds(10_000_000_000));
        }),
        // Far enough ahead of any clock, and still within DateTime64.
        bad(value, "ahead", |e| {
            e.occurred_at = Some(seconds(9_000_000_000));
        }),
        bad(value, "processed_at", |e| {
            e.processed_at = Some(Timestamp {
                seconds: 0,
                nanos: 1_000_000_000,
            });
        }),
        bad(value, "event_id", |e| e.event_id = "order-17".into()),
        bad(value, "data.x", |e| {
            e.data = Some(x(value::Kind::NumberValue(f64::NAN)));
        }),
        bad(value, "data.x", |e| {
            e.data = Some(x(value::Kind::NumberValue(f64::INFINITY)));
        }),
        bad(value, "nested deeper", |e| {
            let objects = (0..32).fold(Struct::default(), |inner, _| {
                x(value::Kind::StructValue(inner))
            });
            e.data = Some(objects);
        }),
    ]
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn x(kind: value::Kind) -> Struct {
    let fields = [("x".to_owned(), Value { kind: Some(kind) })];
    Struct {
        fields: fields.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_of_every_kind_are_kept_and_the_rest_of_the_batch_is_stored() {
    let world = World::new("dead_letters_kinds").await;
    world.create_stream().await;
    world.publish(numbered(50)).await;
    let bad = every_kind();
    world
        .publish_bodies(bad.iter().map(|bad| bad.body.clone()))
        .await;
    // Bodies at the edge of what is accepted.
    let deepest = |mut e: ProcessedEnvelope| {
        e.data = Some((0..31).fold(Struct::default(), |inner, _| {
            x(value::Kind::StructValue(inner))
        }));
        e.occurred_at = Some(timestamp_from_ns(0));
        e
    };
    world.publish(numbered(51).skip(50).map(deepest)).await;

    let service = world.service().start_ready().await;
    world.settled().await;
    world.assert_events(51).await;
    // A line for each reason, not for each message.
    let lines = service.log_lines("messages moved to the dead letters");
    assert!((3..=9).contains(&lines.len()), "{lines:#?}");
    let missing = lines.iter().find(|line| line.contains("missing_field"));
    let missing = missing.unwrap();
    for part in [
        "subject=\"dead_letters_kinds.",
        "is missing",
        "show=\"ponix dlq ls --reason missing_field\"",
    ] {
        assert!(missing.contains(part), "{part} is not in {missing}");
    }
    let count = bad.len() as u64;
    let metrics = service
        .metrics_when("all settled", |m| m.balance().1 == 51 + count)
        .await;
    assert_eq!(
        metrics.sum("ponix_nats_batches_total"),
        1,
        "the bad ones shared a batch"
    );
    assert_eq!(metrics.inserts(), 1);

    let kept = world.dead_letters().await;
    let stored_bodies = kept.len();
    assert_eq!(stored_bodies, bad.len());
    for letter in kept {
        let header = |name| {
            letter
                .headers
                .get(name)
                .map(HeaderValue::as_str)
                .unwrap_or_default()
        };
        let sequence: usize = header(header::SEQUENCE).parse().unwrap();
        let bad = &bad[sequence - 51];
        assert_eq!(letter.payload, bad.body);
        assert_eq!(
            header(header::REASON),
            bad.reason,
            "{}",
            header(header::ERROR)
        );
        assert!(
            header(header::ERROR).contains(bad.error),
            "{}",
            header(header::ERROR)
        );
        assert_eq!(header(header::STREAM), world.name);
        assert_eq!(header(header::SUBJECT), format!("{}.device", world.name));
        assert_eq!(header(header::DELIVERIES), "1");
    }
    for reason in ["decode", "missing_field", "value"] {
        let sample = format!(
            r#"ponix_nats_dead_lettered_messages_total{{pipeline="envelopes",stream="{}",reason="{reason}"}}"#,
            world.name
        );
        let expected = bad.iter().filter(|bad| bad.reason == reason).count();
        assert_eq!(metrics.get(&sample), expected as u64, "{reason}");
    }
    // Payloads and error texts that may quote them stay out of the log.
    assert!(!service.log().contains("order-17"), "{}", service.log());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_stay_in_the_stream_while_the_dead_letters_are_full() {
    let world = World::new("dead_letters_full").await;
    let service = world.service().start_ready().await;
    let dead_letters = format!("{}_dlq", world.name);
    let context = world.context().await;
    let mut stream = context.get_stream(&dead_letters).await.unwrap();
    let full = |max_messages| {
        let mut config = stream.cached_info().config.clone();
        config.max_messages = max_messages;
        config
    };
    let (one, unlimited) = (full(1), full(-1));
    context.update_stream(one).await.unwrap();

    world
        .publish_bodies([b"bad 1".to_vec(), b"bad 2".to_vec()])
        .await;
    world.publish(numbered(3)).await;
    // The one that does not fit is given back again and again.
    let metrics = service
        .metrics_when("naks", |m| m.sum("ponix_nats_nakked_messages_total") >= 2)
        .await;
    assert_eq!(metrics.sum("ponix_nats_dead_lettered_messages_total"), 1);
    world.stored(3).await;
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    service.not_ready("the dead letters take nothing").await;
    let gauge = format!(r#"ponix_nats_dead_letters_refused{{stream="{dead_letters}"}}"#);
    assert_eq!(service.metrics().await.get(&gauge), 1);

    context.update_stream(unlimited).await.unwrap();
    world.settled().await;
    assert_eq!(world.dead_letters().await.len(), 2);
    service.stop().await;
}
