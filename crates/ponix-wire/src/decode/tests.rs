use super::{OCCURRED_AT_AHEAD_MAX_NS, decode_envelope};
use crate::envelope::v1::ProcessedEnvelope;
use crate::value::Kind;
use crate::{
    DATA_DEPTH_MAX, DecodeError, DecodeErrorKind, ID_BYTES_MAX, Message, Struct, Timestamp, Value,
    WireError, json_to_struct, timestamp_from_ns,
};

const PUBLISHED_AT_NS: i64 = 1_772_366_400_123_456_789;
const EVENT_ID: &str = "0195517c-2d5c-7d2a-8f5e-3b1d2c4a5e6f";

fn data(json: &str) -> Struct {
    json_to_struct(&serde_json::from_str(json).unwrap()).unwrap()
}

fn envelope() -> ProcessedEnvelope {
    ProcessedEnvelope {
        organization_id: "org".to_owned(),
        end_device_id: "dev".to_owned(),
        occurred_at: Some(timestamp_from_ns(PUBLISHED_AT_NS - 5)),
        data: Some(data(r#"{"temperature": 72}"#)),
        processed_at: Some(timestamp_from_ns(PUBLISHED_AT_NS - 1)),
        event_id: EVENT_ID.to_owned(),
    }
}

fn with_data(data: Struct) -> ProcessedEnvelope {
    ProcessedEnvelope {
        data: Some(data),
        ..envelope()
    }
}

fn with_number(number: f64) -> ProcessedEnvelope {
    let value = Value {
        kind: Some(Kind::NumberValue(number)),
    };
    with_data(Struct {
        fields: [("n".to_owned(), value)].into(),
    })
}

fn data_json(payload: &[u8]) -> String {
    decode_envelope(payload, PUBLISHED_AT_NS).unwrap().data_json
}

fn refused(payload: &[u8]) -> DecodeError {
    decode_envelope(payload, PUBLISHED_AT_NS).unwrap_err()
}

/// A length-delimited field with a number below 16 and at most 127 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// An envelope without data, then the given bytes.
fn followed_by(bytes: &[u8]) -> Vec<u8> {
    let mut payload = ProcessedEnvelope {
        data: None,
        ..envelope()
    }
    .encode_to_vec();
    payload.extend_from_slice(bytes);
    payload
}

/// An envelope whose data is the given wire bytes of a Struct.
fn with_struct(bytes: &[u8]) -> Vec<u8> {
    followed_by(&field(4, bytes))
}

/// A map entry of a Struct, its value given as wire bytes of a Value.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

#[test]
fn every_field_arrives() {
    let decoded = decode_envelope(&envelope().encode_to_vec(), PUBLISHED_AT_NS).unwrap();
    assert_eq!(decoded.organization_id, "org");
    assert_eq!(decoded.end_device_id, "dev");
    assert_eq!(decoded.occurred_at_ns, PUBLISHED_AT_NS - 5);
    assert_eq!(decoded.processed_at_ns, PUBLISHED_AT_NS - 1);
    assert_eq!(decoded.data_json, r#"{"temperature":72.0}"#);
    assert_eq!(decoded.event_id.unwrap().to_string(), EVENT_ID);
}

#[test]
fn nested_data_and_odd_names_arrive() {
    let json = r#"{"":null,"a":{"b":[1.5,"x",[],{}]},"a.b":true,"é\"\\\n\u0001":"\u0000\t/"}"#;
    assert_eq!(data_json(&with_data(data(json)).encode_to_vec()), json);
}

#[test]
fn numbers_always_have_a_fraction_or_an_exponent() {
    for (number, text) in [
        (72.0, "72.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (9_007_199_254_740_992.0, "9007199254740992.0"),
        (1e300, "1e+300"),
        (-2.5e-9, "-2.5e-9"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::from_bits(1), "5e-324"),
    ] {
        let expected = format!("{{\"n\":{text}}}");
        assert_eq!(data_json(&with_number(number).encode_to_vec()), expected);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_name() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = refused(&with_number(number).encode_to_vec());
        assert_eq!(
            error,
            DecodeError::NotFinite {
                field: "data.n".to_owned()
            }
        );
        assert_eq!(error.kind(), DecodeErrorKind::Value);
    }
}

#[test]
fn empty_and_absent_data_are_stored() {
    assert_eq!(
        data_json(&with_data(Struct::default()).encode_to_vec()),
        "{}"
    );
    assert_eq!(data_json(&followed_by(&[])), "{}");
}

#[test]
fn absent_fields_are_refused_by_name() {
    let complete = envelope();
    let cases = [
        (
            "organization_id",
            ProcessedEnvelope {
                organization_id: String::new(),
                ..complete.clone()
            },
        ),
        (
            "end_device_id",
            ProcessedEnvelope {
                end_device_id: String::new(),
                ..complete.clone()
            },
        ),
        (
            "occurred_at",
            ProcessedEnvelope {
                occurred_at: None,
                ..complete.clone()
            },
        ),
        (
            "processed_at",
            ProcessedEnvelope {
                processed_at: None,
                ..complete
            },
        ),
    ];
    for (field, envelope) in cases {
        let error = refused(&envelope.encode_to_vec());
        assert_eq!(error, DecodeError::Missing { field });
        assert_eq!(error.kind(), DecodeErrorKind::MissingField);
    }
    assert_eq!(
        refused(&[]),
        DecodeError::Missing {
            field: "organization_id"
        }
    );
}

#[test]
fn long_identifiers_are_refused_by_name() {
    let mut envelope = envelope();
    envelope.organization_id = "o".repeat(ID_BYTES_MAX);
    assert!(decode_envelope(&envelope.encode_to_vec(), PUBLISHED_AT_NS).is_ok());
    envelope.end_device_id = "d".repeat(ID_BYTES_MAX + 1);
    let too_long = DecodeError::TooLong {
        field: "end_device_id",
        bytes: 257,
        bytes_max: 256,
    };
    assert_eq!(refused(&envelope.encode_to_vec()), too_long);
}

#[test]
fn occurred_at_may_be_from_1970_to_one_day_after_the_publish_time() {
    let decoded_at = |occurred_at_ns| {
        let occurred_at = Some(timestamp_from_ns(occurred_at_ns));
        let payload = ProcessedEnvelope {
            occurred_at,
            ..envelope()
        }
        .encode_to_vec();
        decode_envelope(&payload, PUBLISHED_AT_NS).map(|decoded| decoded.occurred_at_ns)
    };
    let latest = PUBLISHED_AT_NS + OCCURRED_AT_AHEAD_MAX_NS;
    for fine in [0, PUBLISHED_AT_NS, latest] {
        assert_eq!(decoded_at(fine), Ok(fine));
    }
    let ahead = decoded_at(latest + 1).unwrap_err();
    assert!(matches!(
        ahead,
        DecodeError::TooFarAhead {
            field: "occurred_at",
            ..
        }
    ));
    let before = decoded_at(-1).unwrap_err();
    assert!(matches!(
        before,
        DecodeError::TimeOutOfRange {
            field: "occurred_at",
            ..
        }
    ));
}

#[test]
fn times_that_datetime64_cannot_hold_are_refused_by_name() {
    let times = [
        (9_223_372_036, 854_775_808),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1 << 30),
    ];
    for (seconds, nanos) in times {
        let mut envelope = envelope();
        envelope.processed_at = Some(Timestamp { seconds, nanos });
        let error = refused(&envelope.encode_to_vec());
        let field = "processed_at";
        assert_eq!(
            error,
            DecodeError::TimeOutOfRange {
                field,
                seconds,
                nanos
            }
        );
        assert_eq!(error.kind(), DecodeErrorKind::Value);
    }
}

#[test]
fn event_id_is_empty_or_a_uuid() {
    let decoded_id = |event_id: &str| {
        let payload = ProcessedEnvelope {
            event_id: event_id.to_owned(),
            ..envelope()
        };
        decode_envelope(&payload.encode_to_vec(), PUBLISHED_AT_NS).map(|decoded| decoded.event_id)
    };
    assert_eq!(decoded_id(""), Ok(None));
    assert_eq!(decoded_id("00000000-0000-0000-0000-000000000000"), Ok(None));
    assert_eq!(
        decoded_id(&EVENT_ID.replace('-', "").to_uppercase()),
        decoded_id(EVENT_ID)
    );
    for text in [
        "0",
        "0195517c-2d5c-7d2a-8f5e-3b1d2c4a5e6",
        "not a uuid",
        " ",
    ] {
        assert_eq!(
            decoded_id(text),
            Err(DecodeError::NotUuid { field: "event_id" })
        );
    }
}

#[test]
fn data_is_refused_below_the_depth_cap() {
    let nested = |levels: u32| {
        (1..levels).fold(Struct::default(), |inner, _| Struct {
            fields: [(
                "x".to_owned(),
                Value {
                    kind: Some(Kind::StructValue(inner)),
                },
            )]
            .into(),
        })
    };
    let deepest = data_json(&with_data(nested(DATA_DEPTH_MAX)).encode_to_vec());
    assert_eq!(deepest.matches('{').count(), 32);
    let error = refused(&with_data(nested(DATA_DEPTH_MAX + 1)).encode_to_vec());
    let field = format!("data{}", ".x".repeat(32));
    assert_eq!(
        error,
        DecodeError::TooDeep {
            field,
            depth_max: DATA_DEPTH_MAX
        }
    );
    assert_eq!(error.kind(), DecodeErrorKind::Value);
}

#[test]
fn names_that_differ_only_in_the_dot_are_refused() {
    let error = refused(&with_data(data(r#"{"x":[{"a.b":1,"a%2Eb":2}]}"#)).encode_to_vec());
    assert_eq!(
        error,
        DecodeError::NameClash {
            field: r#"data.x[0]["a.b"]"#.to_owned()
        }
    );
    let text = field(3, b"x");
    let twice = [entry("a%2Eb", &text), entry("a%2Eb", &text)].concat();
    assert_eq!(data_json(&with_struct(&twice)), r#"{"a%2Eb":"x"}"#);
    let json = r#"{"50%":"x","a%2e":"x","a.":"x"}"#;
    assert_eq!(data_json(&with_data(data(json)).encode_to_vec()), json);
}

#[test]
fn of_a_repeated_key_the_last_one_wins() {
    let (one, two) = (field(3, b"one"), field(3, b"two"));
    let few = [entry("a", &one), entry("b", &one), entry("a", &two)].concat();
    assert_eq!(data_json(&with_struct(&few)), r#"{"b":"one","a":"two"}"#);

    let first = [entry("a", &two), entry("a", &one)].concat();
    assert_eq!(data_json(&with_struct(&first)), r#"{"a":"one"}"#);

    let mut many = Vec::new();
    for index in 0..40 {
        many.extend(field(
            4,
            &entry(&format!("k{}", index % 20), &[0x20, u8::from(index >= 20)]),
        ));
    }
    let json = data_json(&followed_by(&many));
    assert_eq!(
        (json.matches("true").count(), json.matches("false").count()),
        (20, 0)
    );
}

#[test]
fn sub_messages_in_pieces_merge() {
    let (one, two) = (field(3, b"one"), field(3, b"two"));
    let pieces = [field(4, &entry("a", &one)), field(4, &entry("b", &two))].concat();
    assert_eq!(data_json(&followed_by(&pieces)), r#"{"a":"one","b":"two"}"#);

    let object = [field(5, &entry("x", &one)), field(5, &entry("y", &two))].concat();
    assert_eq!(
        data_json(&with_struct(&entry("a", &object))),
        r#"{"a":{"x":"one","y":"two"}}"#
    );

    let list = [field(6, &field(1, &one)), field(6, &field(1, &two))].concat();
    assert_eq!(
        data_json(&with_struct(&entry("a", &list))),
        r#"{"a":["one","two"]}"#
    );

    let split_value = field(
        1,
        &[field(2, &object), field(1, b"k"), field(2, &two)].concat(),
    );
    assert_eq!(data_json(&with_struct(&split_value)), r#"{"k":"two"}"#);

    let nanos_apart = followed_by(&[field(4, b""), field(3, &[0x10, 7])].concat());
    let decoded = decode_envelope(&nanos_apart, PUBLISHED_AT_NS).unwrap();
    assert_eq!(
        decoded.occurred_at_ns,
        PUBLISHED_AT_NS - PUBLISHED_AT_NS % 1_000_000_000 + 7
    );
}

#[test]
fn entries_without_key_or_value_have_the_empty_key_and_null() {
    let neither = data_json(&with_struct(&field(1, b"")));
    assert_eq!(neither, r#"{"":null}"#);
    let no_value = data_json(&with_struct(&field(1, &field(1, b"k"))));
    assert_eq!(no_value, r#"{"k":null}"#);
}

#[test]
fn unknown_fields_and_groups_are_skipped() {
    let unknown = [
        0x78, 0x96, 0x01, // 15: varint
        0x79, 1, 2, 3, 4, 5, 6, 7, 8, // 15: 64 bits
        0x7a, 2, 0xff, 0xff, // 15: bytes
        0x7b, 0x0b, 0x0c, 0x08, 1, 0x7c, // 15: group with a group and a varint in it
        0x7d, 1, 2, 3, 4, // 15: 32 bits
    ];
    let payload = [&unknown, with_struct(&unknown).as_slice(), &unknown].concat();
    assert_eq!(data_json(&payload), "{}");
}

#[test]
fn bytes_that_are_no_envelope_are_refused_by_field() {
    let cases: [(&[u8], &str, WireError); 8] = [
        (&[0x00], "envelope", WireError::FieldKey { key: 0 }),
        (
            &[0x0f],
            "envelope",
            WireError::UnknownWireType { wire_type: 7 },
        ),
        (
            &[0x0c],
            "organization_id",
            WireError::UnexpectedWireType {
                number: 1,
                wire_type: 4,
            },
        ),
        (&[0x12, 5, b'd'], "end_device_id", WireError::Truncated),
        (&[0x0a, 1, 0xff], "organization_id", WireError::NotUtf8),
        (&[0x1a, 1, 0x08], "occurred_at", WireError::Truncated),
        (&[0x7c], "envelope", WireError::UnexpectedGroupEnd),
        (
            &[0x78, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            "envelope",
            WireError::VarintTooLong,
        ),
    ];
    for (payload, field, source) in cases {
        let error = refused(payload);
        assert_eq!(
            error,
            DecodeError::Malformed {
                field: field.to_owned(),
                source
            }
        );
        assert_eq!(error.kind(), DecodeErrorKind::Decode);
    }
}

#[test]
fn map_entries_of_another_wire_type_are_refused() {
    // prost reads it as an entry of two bytes.
    let error = refused(&with_struct(&[0x08, 2, 0x0a, 0]));
    let source = WireError::UnexpectedWireType {
        number: 1,
        wire_type: 0,
    };
    assert_eq!(
        error,
        DecodeError::Malformed {
            field: "data".to_owned(),
            source
        }
    );
}

#[test]
fn malformed_data_is_refused_by_path() {
    let list = field(6, &[field(1, &[]), field(1, &field(3, b"\xff"))].concat());
    let error = refused(&with_struct(&entry("k", &list)));
    let field = "data.k[1]".to_owned();
    assert_eq!(
        error,
        DecodeError::Malformed {
            field,
            source: WireError::NotUtf8
        }
    );
}

#[test]
fn what_a_later_value_replaces_is_judged_all_the_same() {
    let nan = [&[0x11_u8][..], &f64::NAN.to_le_bytes(), &[0x20, 1]].concat();
    assert!(matches!(
        refused(&with_struct(&entry("k", &nan))),
        DecodeError::NotFinite { .. }
    ));
    let broken = [field(5, &[0x0a]), field(3, b"x")].concat();
    assert!(matches!(
        refused(&with_struct(&entry("k", &broken))),
        DecodeError::Malformed { .. }
    ));
}
