//! Records that fit come back as they were sent, whatever the form; what is near to them is told.

use std::sync::LazyLock;

use ponix_entities::{Catalog, Format, Value, sample};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use crate::TPCH;

/// One field of each type.
static EVERY_TYPE: LazyLock<Catalog> = LazyLock::new(|| {
    let text = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Everything}
spec:
  type: root
  prefix: E
  fields:
    - {name: text, type: String, nullable: true, constraints: {max_length: 20}}
    - {name: whole, type: Integer}
    - {name: float, type: Float}
    - {name: decimal, type: Decimal, precision: 28, scale: 10}
    - {name: is_so, type: Boolean}
    - {name: day, type: Date}
    - {name: instant, type: DateTime}
    - {name: tree, type: Json}
  persistence: {table: everything}
";
    Catalog::from_files([("everything.yaml".into(), text.to_owned())]).unwrap()
});

fn everything() -> impl Strategy<Value = Vec<Value>> {
    let text = "[^|\r\n\0]{1,20}".prop_map(Value::Text);
    let seconds = -62_135_596_800_i64..=253_402_300_799;
    let day = (-719_162_i32..=2_932_896).prop_map(|days| {
        let julian = days + 2_440_588;
        Value::Date(Date::from_julian_day(julian).unwrap())
    });
    let instant = (seconds, 0_i64..1_000_000).prop_map(|(seconds, micros)| {
        let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        Value::DateTime(at + time::Duration::microseconds(micros))
    });
    let decimal = (-(10_i128.pow(28) - 1)..10_i128.pow(28))
        .prop_map(|digits| Value::Decimal(Decimal::from_i128_with_scale(digits, 10)));
    let tree = prop_oneof![
        any::<i64>().prop_map(|number| json!({"a": [number, null, true]})),
        "[^|\r\n\0]{0,20}".prop_map(|text| json!([text, {"b\\u0000": text}])),
    ];
    let float = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    (
        prop_oneof![text, Just(Value::Null)],
        any::<i64>().prop_map(Value::Integer),
        float.prop_map(Value::Float),
        decimal,
        any::<bool>().prop_map(Value::Boolean),
        day,
        instant,
        tree.prop_filter("no bar on a line", |tree| !tree.to_string().contains('|'))
            .prop_map(|tree| Value::Json(tree.to_string())),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| vec![a, b, c, d, e, f, g, h])
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:e}"),
        Value::Decimal(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Date(date) => date.to_string(),
        Value::DateTime(time) => time.format(&Rfc3339).unwrap(),
    }
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Boolean(value) => json!(value),
        Value::Json(text) => serde_json::from_str(text).unwrap(),
        other => json!(as_text(other)),
    }
}

proptest! {
    #[test]
    fn what_fits_comes_back(values in everything()) {
        let catalog = &*EVERY_TYPE;
        let texts: Vec<String> = values.iter().map(as_text).collect();
        let line = format!("E|{}", texts.join("|"));
        let parsed = catalog.parse(Format::Line, line.as_bytes(), None).unwrap();
        prop_assert_eq!(&parsed.rows[0].values, &values);

        let columns = &catalog.entities()[0].table().columns;
        let members = columns.iter().zip(&values);
        let members = members.map(|(column, value)| (column.name.clone(), as_json(value)));
        let object = serde_json::Value::Object(members.collect()).to_string();
        let parsed = catalog.parse(Format::Json, object.as_bytes(), Some("Everything")).unwrap();
        prop_assert_eq!(&parsed.rows[0].values, &values);
    }

    #[test]
    fn a_sample_with_some_bytes_of_another_never_panics(
        at in any::<prop::sample::Index>(),
        cut in 0_usize..10,
        bytes in prop::collection::vec(any::<u8>(), 0..10),
        json: bool,
    ) {
        let catalog = &*TPCH;
        let messages = sample(catalog, catalog.entity("Order").unwrap());
        let (format, text) = if json {
            (Format::Json, messages.json)
        } else {
            (Format::Line, messages.line.unwrap())
        };
        let mut message = text.into_bytes();
        let start = at.index(message.len());
        let end = (start + cut).min(message.len());
        message.splice(start..end, bytes);
        if let Ok(parsed) = catalog.parse(format, &message, None) {
            for row in &parsed.rows {
                prop_assert_eq!(row.values.len(), catalog.table(row.table).columns.len());
            }
            let named = catalog.identify(format, &message, None).ok();
            prop_assert_eq!(named, Some(parsed.entity.as_str()));
        }
    }
}

#[test]
fn what_no_column_can_hold_is_told_by_field() {
    let values: Vec<&str> = "x|1|1.5|1.5|true|2026-03-01|2026-03-01T12:00:00Z|{}"
        .split('|')
        .collect();
    for (field, value, told) in [
        (1, "9223372036854775808", "is not a whole number"),
        (1, "1.0", "is not a whole number"),
        (2, "NaN", "is not a finite number"),
        (2, "-inf", "is not a finite number"),
        (2, "1e400", "is not a finite number"),
        (3, "0.12345678901", "more than 10 digits behind the point"),
        (
            3,
            "1234567890123456789",
            "more than 18 digits before the point",
        ),
        (
            3,
            "0.00000000000000000000000000000000001",
            "is not a decimal number",
        ),
        (3, "1e400", "is not a decimal number"),
        (4, "yes", "is not true or false"),
        (5, "0000-12-31", "is not a day"),
        (5, "10000-01-01", "is not a day"),
        (6, "0001-01-01T00:00:00+01:00", "is not a time"),
        (6, "9999-12-31T23:59:59-01:00", "is not a time"),
        (6, "2026-03-01 12:00:00", "is not a time"),
        (7, "{\"a\":1,\"a\":2}", "is there twice"),
        (7, "{\"a\":\"\\u0000\"}", "NUL"),
        (7, "{\"a\":1e400}", "is not JSON"),
        (7, "{\"a\":\"\\ud800\"}", "is not JSON"),
    ] {
        let mut values = values.clone();
        values[field] = value;
        let line = format!("E|{}", values.join("|"));
        let err = EVERY_TYPE.parse(Format::Line, line.as_bytes(), None);
        let err = err.unwrap_err();
        let column = &EVERY_TYPE.entities()[0].table().columns[field].name;
        assert_eq!(
            (err.entity.as_deref(), err.field.as_ref()),
            (Some("Everything"), Some(column))
        );
        assert!(err.reason.contains(told), "{value}: {err}");
    }
    for more in ["\nE|", "\n "] {
        let two = format!("E|{}{more}", values.join("|"));
        let err = EVERY_TYPE.parse(Format::Line, two.as_bytes(), None);
        assert_eq!(
            err.unwrap_err().to_string(),
            "Everything: has more than one line"
        );
    }
}

#[test]
fn a_number_of_which_digits_would_be_lost_is_refused() {
    let catalog = &*EVERY_TYPE;
    let told = |field: &str, number: &str| {
        let message = sample(catalog, catalog.entity("Everything").unwrap()).json;
        let mut object: serde_json::Value = serde_json::from_str(&message).unwrap();
        object[field] = serde_json::from_str(number).unwrap();
        let parsed = catalog.parse(Format::Json, object.to_string().as_bytes(), None);
        parsed.err().map(|err| err.to_string()).unwrap_or_default()
    };
    for large in [
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551615",
    ] {
        let text = told("float", large);
        assert!(text.contains("beyond ±2^53"), "{large}: {text}");
    }
    assert_eq!(told("float", "9007199254740992"), "");
    assert_eq!(told("whole", "9007199254740993"), "");
    assert_eq!(told("decimal", "9007199254740993"), "");
    assert!(told("decimal", "9007199254740993.25").contains("send it as a text"));
}
