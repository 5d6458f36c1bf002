use serde_json::json;
use uuid::Uuid;

use super::*;

const LIMITS: BatchLimits = BatchLimits {
    rows_max: 1_000,
    bytes_max: 1 << 20,
    months_max: 50,
};

fn column(name: &str, type_text: &str, source: Source, missing: Missing) -> Column {
    Column {
        name: name.into(),
        type_text: type_text.into(),
        value_type: type_text.parse().expect(type_text),
        source,
        missing,
    }
}

fn meters(unknown: UnknownFields) -> Rows {
    let mut columns = vec![
        column("meter", "String", Source::Field, Missing::Reject),
        column(
            "note",
            "Nullable(String)",
            Source::Field,
            Missing::Value(Bytes::from_static(&[1])),
        ),
        column("unit", "String", Source::Field, Missing::Omit),
    ];
    if unknown == UnknownFields::JsonColumn {
        columns.push(column("data", "JSON", Source::Rest, Missing::Reject));
    }
    Rows::new(columns, unknown)
}

fn record(fields: Value) -> Record {
    let Value::Object(fields) = fields else {
        panic!("{fields} is no object")
    };
    Record {
        fields,
        identity: Uuid::from_u128(7),
        published_at_ns: 1_500_000_000,
        stream_sequence: 9,
    }
}

fn bytes(rows: &Rows, fields: Value) -> Result<Vec<u8>, String> {
    let mut encoded = rows.encode(&[record(fields)], LIMITS);
    match encoded.misfits.pop() {
        Some((_, misfit)) => Err(misfit.to_string()),
        None => Ok(encoded.groups[0].batches[0].bytes().to_vec()),
    }
}

#[test]
fn a_missing_field_is_null_or_the_default_or_wrong() {
    let rows = meters(UnknownFields::Reject);
    let all = json!({"meter": "m", "note": "n", "unit": "u"});
    assert_eq!(bytes(&rows, all), Ok(b"\x01m\x00\x01n\x01u".to_vec()));
    for missing in [
        json!({"meter": "m"}),
        json!({"meter": "m", "note": null, "unit": null}),
    ] {
        assert_eq!(bytes(&rows, missing), Ok(b"\x01m\x01".to_vec()));
    }
    assert_eq!(
        bytes(&rows, json!({"note": "n"})),
        Err(
            "meter: nothing does not fit String: the field is missing, and the column has neither \
             NULL nor a default"
                .into()
        )
    );
}

#[test]
fn what_no_column_takes_is_kept_refused_or_dropped() {
    let event = || json!({"meter": "m", "x": 1, "data": {"y": [2.5]}});
    assert_eq!(
        bytes(&meters(UnknownFields::JsonColumn), event()),
        Ok(b"\x01m\x01\x1a{\"data\":{\"y\":[2.5]},\"x\":1}".to_vec())
    );
    assert_eq!(
        bytes(&meters(UnknownFields::JsonColumn), json!({"meter": "m"})),
        Ok(b"\x01m\x01\x02{}".to_vec())
    );
    assert_eq!(
        bytes(&meters(UnknownFields::Reject), event()),
        Err(r#"data: {"y":[2.5]} does not fit the table: no column takes it"#.into())
    );
    assert_eq!(
        bytes(&meters(UnknownFields::Ignore), event()),
        Ok(b"\x01m\x01".to_vec())
    );
}

#[test]
fn rows_that_leave_out_the_same_columns_share_an_insert() {
    let rows = meters(UnknownFields::Reject);
    let records = [
        json!({"meter": "a"}),
        json!({"meter": "b", "unit": "u"}),
        json!({"unit": "nobody's"}),
        json!({"meter": "c"}),
    ];
    let Encoded {
        groups, misfits, ..
    } = rows.encode(&records.map(record), LIMITS);
    let found: Vec<_> = groups
        .iter()
        .map(|group| {
            let columns = rows.target(group.omitted).columns.to_string();
            (columns, group.indexes.clone())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("`meter`, `note`".to_owned(), vec![0, 3]),
            ("`meter`, `note`, `unit`".to_owned(), vec![1])
        ]
    );
    assert_eq!((misfits.len(), misfits[0].0), (1, 2));
    assert_eq!(
        &*rows.target(groups[0].omitted).head,
        b"\x02\x05meter\x04note\x06String\x10Nullable(String)"
    );
}

#[test]
fn the_sink_fills_what_the_event_does_not_say() {
    let rows = Rows::new(
        vec![
            column("event_id", "UUID", Source::FieldOrIdentity, Missing::Reject),
            column(
                "published_at",
                "DateTime64(3)",
                Source::FieldOrPublishedAt(3),
                Missing::Reject,
            ),
            column(
                "stream_sequence",
                "UInt64",
                Source::FieldOrSequence,
                Missing::Reject,
            ),
        ],
        UnknownFields::Reject,
    );
    let filled = [0, 7, 1_500, 9_u64].map(u64::to_le_bytes).concat();
    assert_eq!(bytes(&rows, json!({})), Ok(filled));
    let id = Uuid::from_u128(8);
    let said = json!({"event_id": id, "published_at": 3, "stream_sequence": 4});
    let said = bytes(&rows, said);
    assert_eq!(said, Ok([0, 8, 3, 4_u64].map(u64::to_le_bytes).concat()));
}

#[test]
fn the_messages_identity_cannot_be_another() {
    let rows = Rows::new(
        vec![column(
            "event_id",
            "UUID",
            Source::MessageIdentity,
            Missing::Reject,
        )],
        UnknownFields::Reject,
    );
    let filled = [0, 7_u64].map(u64::to_le_bytes).concat();
    assert_eq!(bytes(&rows, json!({})), Ok(filled.clone()));
    assert_eq!(
        bytes(&rows, json!({"event_id": Uuid::from_u128(7)})),
        Ok(filled)
    );
    let other = bytes(&rows, json!({"event_id": "x"})).expect_err("another");
    assert_eq!(
        other,
        "event_id: \"x\" does not fit UUID: the message's identity is \
         00000000-0000-0000-0000-000000000007"
    );
}

#[test]
fn objects_are_spread_over_the_columns_of_a_nested() {
    let rows = Rows::new(
        vec![
            column("n.a", "Array(UInt8)", Source::Nested, Missing::Reject),
            column(
                "n.b",
                "Array(Nullable(String))",
                Source::Nested,
                Missing::Reject,
            ),
        ],
        UnknownFields::Reject,
    );
    let expected = Ok(b"\x02\x01\x02\x02\x00\x01x\x01".to_vec());
    for form in [
        json!({"n": [{"a": 1, "b": "x"}, {"a": 2}]}),
        json!({"n": {"a": [1, 2], "b": ["x", null]}}),
        json!({"n.a": [1, 2], "n.b": ["x", null]}),
    ] {
        assert_eq!(bytes(&rows, form.clone()), expected, "{form}");
    }
    for (wrong, message) in [
        (
            json!({"n": [{"a": 300}]}),
            "n.a[0]: 300 does not fit UInt8: it is out of range",
        ),
        (
            json!({"n": [{"a": 1, "c": 2}]}),
            "n.c: 2 does not fit the table: no column takes it",
        ),
        (
            json!({"n": []  , "x": 1}),
            "x: 1 does not fit the table: no column takes it",
        ),
    ] {
        assert_eq!(bytes(&rows, wrong), Err(message.into()));
    }
    assert!(bytes(&rows, json!({"n": 1})).is_err() && bytes(&rows, json!({})).is_err());
}

#[test]
fn batches_end_at_the_limits_and_never_without_a_row() {
    let rows = meters(UnknownFields::Reject);
    let records: Vec<_> = (0..10)
        .map(|n| record(json!({"meter": "x".repeat(if n == 4 { 100 } else { 8 })})))
        .collect();
    let cut = |rows_max, bytes_max| {
        let limits = BatchLimits {
            rows_max,
            bytes_max,
            ..LIMITS
        };
        rows.encode(&records, limits).groups[0]
            .batches
            .iter()
            .map(EncodedBatch::rows)
            .collect::<Vec<_>>()
    };
    assert_eq!(cut(1_000, 1 << 20), [10]);
    assert_eq!(cut(4, 1 << 20), [4, 4, 2]);
    assert_eq!(cut(1_000, 30), [3, 1, 1, 3, 2]);
}
