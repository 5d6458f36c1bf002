//! Strategies for payloads: well-formed envelopes, and the odd encodings protobuf allows.

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::value::Kind;
use ponix_wire::{ListValue, Message, Struct, Timestamp, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

/// 2026-03-01T12:00:00Z.
pub(crate) const PUBLISHED_AT_NS: i64 = 1_772_366_400_000_000_000;

type Bytes = Vec<u8>;

/// Envelopes that are accepted, with any data.
pub(crate) fn envelope() -> impl Strategy<Value = ProcessedEnvelope> {
    let data = btree_map(name(), value(), 0..24).prop_map(|fields| Struct { fields });
    let event_id = prop_oneof![Just(String::new()), any::<u128>().prop_map(uuid_text)];
    (
        "[a-z]{1,9}",
        ".{1,9}",
        timestamp(),
        data,
        timestamp(),
        event_id,
    )
        .prop_map(
            |(organization_id, end_device_id, occurred_at, data, processed_at, event_id)| {
                ProcessedEnvelope {
                    organization_id,
                    end_device_id,
                    occurred_at: Some(occurred_at),
                    data: Some(data),
                    processed_at: Some(processed_at),
                    event_id,
                }
            },
        )
}

fn uuid_text(bits: u128) -> String {
    uuid::Uuid::from_u128(bits).to_string()
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    let seconds = 0..PUBLISHED_AT_NS / 1_000_000_000;
    (seconds, 0..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-z_.%]{0,12}", any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    let number = any::<f64>().prop_filter("finite", |number| number.is_finite());
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        number.prop_map(Kind::NumberValue),
        (-1000..1000).prop_map(|whole| Kind::NumberValue(f64::from(whole))),
        any::<String>().prop_map(Kind::StringValue),
        any::<bool>().prop_map(Kind::BoolValue),
    ];
    leaf.prop_map(|kind| Value { kind: Some(kind) })
        .prop_recursive(8, 48, 6, |inner| {
            let object = btree_map(name(), inner.clone(), 0..6)
                .prop_map(|fields| Kind::StructValue(Struct { fields }));
            let list = vec(inner, 0..6).prop_map(|values| Kind::ListValue(ListValue { values }));
            prop_oneof![object, list].prop_map(|kind| Value { kind: Some(kind) })
        })
}

/// Objects and lists inside one another around the depth cap; true opens an object, false a list.
pub(crate) fn nested_envelope() -> impl Strategy<Value = ProcessedEnvelope> {
    (envelope(), vec(any::<bool>(), 28..36)).prop_map(|(mut envelope, levels)| {
        let innermost = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        let nested = levels.into_iter().fold(innermost, |inner, is_object| {
            let kind = if is_object {
                Kind::StructValue(Struct {
                    fields: [("x".to_owned(), inner)].into(),
                })
            } else {
                Kind::ListValue(ListValue {
                    values: vec![inner],
                })
            };
            Value { kind: Some(kind) }
        });
        envelope.data = Some(Struct {
            fields: [("x".to_owned(), nested)].into(),
        });
        envelope
    })
}

/// Envelopes with repeated, split, replaced, unknown and now and then broken fields.
pub(crate) fn odd_payload() -> impl Strategy<Value = Bytes> {
    let sound = envelope().prop_map(|envelope| envelope.encode_to_vec());
    let field = prop_oneof![
        3 => object(3).prop_map(|bytes| delimited(4, &bytes)),
        1 => time_piece().prop_map(|bytes| delimited(3, &bytes)),
        1 => time_piece().prop_map(|bytes| delimited(5, &bytes)),
        1 => "[a-z]{0,3}".prop_map(|text| delimited(1, text.as_bytes())),
        1 => "[a-z]{0,3}".prop_map(|text| delimited(2, text.as_bytes())),
        1 => Just(delimited(6, b"")),
        2 => unknown(),
    ];
    (
        fields(field, 0..4),
        sound,
        fields(
            prop_oneof![object(3).prop_map(|bytes| delimited(4, &bytes)), unknown()],
            0..3,
        ),
    )
        .prop_map(|(before, sound, after)| [before, sound, after].concat())
}

/// Bytes with a few of them set, inserted, removed or repeated.
pub(crate) fn mutated_payload() -> impl Strategy<Value = Bytes> {
    let payload = prop_oneof![
        envelope().prop_map(|envelope| envelope.encode_to_vec()),
        odd_payload()
    ];
    let edits = vec(
        (any::<proptest::sample::Index>(), 0..6_u8, any::<u8>()),
        1..6,
    );
    (payload, edits).prop_map(|(mut payload, edits)| {
        for (index, edit, byte) in edits {
            let at = index.index(payload.len() + 1);
            let end = (at + usize::from(byte % 16)).min(payload.len());
            match edit {
                0 if at < payload.len() => payload[at] = byte,
                1 if at < payload.len() => payload[at] ^= 1 << (byte % 8),
                2 => payload.insert(at, byte),
                3 => drop(payload.drain(at..end)),
                4 => payload.extend_from_within(at..end),
                _ => payload.truncate(at.max(payload.len() / 2)),
            }
        }
        payload
    })
}

fn object(levels: u32) -> BoxedStrategy<Bytes> {
    let entry = fields(
        prop_oneof![
            4 => r"[a-c]|\.|%2E".prop_map(|name| delimited(1, name.as_bytes())),
            6 => odd_value(levels).prop_map(|bytes| delimited(2, &bytes)),
            1 => unknown(),
        ],
        0..4,
    );
    let field = prop_oneof![9 => entry.prop_map(|bytes| delimited(1, &bytes)), 1 => unknown()];
    fields(field, 0..5).boxed()
}

fn odd_value(levels: u32) -> BoxedStrategy<Bytes> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|any| [&[0x08][..], &varint(any)].concat()),
        any::<f32>().prop_map(|number| [&[0x11][..], &f64::from(number).to_le_bytes()].concat()),
        "[a-z\"]{0,3}".prop_map(|text| delimited(3, text.as_bytes())),
        any::<u64>().prop_map(|any| [&[0x20][..], &varint(any)].concat()),
        unknown(),
    ];
    if levels == 0 {
        return fields(leaf, 0..3).boxed();
    }
    let element = prop_oneof![
        9 => odd_value(levels - 1).prop_map(|bytes| delimited(1, &bytes)),
        1 => unknown(),
    ];
    let field = prop_oneof![
        2 => leaf,
        2 => object(levels - 1).prop_map(|bytes| delimited(5, &bytes)),
        2 => fields(element, 0..4).prop_map(|bytes| delimited(6, &bytes)),
    ];
    fields(field, 0..3).boxed()
}

fn time_piece() -> impl Strategy<Value = Bytes> {
    let part = prop_oneof![
        3 => (0..1_000_000_u64).prop_map(|seconds| [&[0x08][..], &varint(seconds)].concat()),
        3 => (0..1_000_000_u64).prop_map(|nanos| [&[0x10][..], &varint(nanos)].concat()),
        1 => any::<u64>().prop_map(|any| [&[0x10][..], &varint(any)].concat()),
        1 => unknown(),
    ];
    fields(part, 0..3)
}

/// A field with a number no message of ours has, sometimes cut short.
fn unknown() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => any::<u64>().prop_map(|any| [&[0x78][..], &varint(any)].concat()),
        2 => any::<[u8; 8]>().prop_map(|any| [&[0x79][..], &any].concat()),
        2 => any::<[u8; 4]>().prop_map(|any| [&[0x7d][..], &any].concat()),
        4 => vec(any::<u8>(), 0..9).prop_map(|any| delimited(15, &any)),
        4 => vec(any::<u64>(), 0..3).prop_map(group),
        1 => (1..110_usize).prop_map(groups),
        1 => any::<u8>().prop_map(|any| vec![any]),
    ]
}

/// Empty groups inside one another.
pub(crate) fn groups(levels: usize) -> Bytes {
    [vec![0x7b; levels], vec![0x7c; levels]].concat()
}

/// An envelope that is accepted, as bytes.
pub(crate) fn complete_envelope() -> Bytes {
    let time = delimited(3, &[]);
    let processed_at = delimited(5, &[]);
    [
        delimited(1, b"org"),
        delimited(2, b"dev"),
        time,
        delimited(4, &[]),
        processed_at,
    ]
    .concat()
}

fn group(varints: Vec<u64>) -> Bytes {
    let inside = varints
        .into_iter()
        .flat_map(|any| [vec![0x08], varint(any)].concat());
    std::iter::once(0x7b).chain(inside).chain([0x7c]).collect()
}

fn fields(
    field: impl Strategy<Value = Bytes>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Bytes> {
    vec(field, count).prop_map(|fields| fields.concat())
}

pub(crate) fn delimited(number: u64, bytes: &[u8]) -> Bytes {
    [
        varint(number << 3 | 2),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

fn varint(mut value: u64) -> Bytes {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
