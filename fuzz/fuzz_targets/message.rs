//! Any bytes as message: never a panic, and rows have the values that their columns can hold.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ponix_entities::{Catalog, FieldType, Format, Row, Value};

/// The example, and an entity with a field of each type.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let files = [
        include_str!("../../examples/tpch/order.yaml"),
        include_str!("../../examples/tpch/order_line_item.yaml"),
        include_str!("../seeds/entity_file/every_type"),
    ];
    let files = files.iter().enumerate();
    let files = files.map(|(index, text)| (format!("{index}.yaml").into(), (*text).to_owned()));
    Catalog::from_files(files).unwrap_or_else(|errors| panic!("{errors}"))
});

fuzz_target!(|payload: &[u8]| {
    for format in [Format::Line, Format::Json] {
        let hint = (format == Format::Json).then_some("Everything");
        for hint in [None, hint] {
            match CATALOG.parse(format, payload, hint) {
                Ok(parsed) => {
                    assert_eq!(CATALOG.identify(format, payload, hint).ok(), Some(&*parsed.entity));
                    parsed.rows.iter().for_each(check);
                }
                Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
            }
        }
    }
});

fn check(row: &Row) {
    let columns = &CATALOG.table(row.table).columns;
    assert_eq!(row.values.len(), columns.len());
    for (column, value) in columns.iter().zip(&row.values) {
        let fits = match (column.field_type, value) {
            (_, Value::Null) => column.nullable,
            (FieldType::String { max_length }, Value::Text(text)) => {
                let most = max_length.map_or(usize::MAX, |most| most as usize);
                !text.contains('\0') && text.chars().count() <= most
            }
            (FieldType::Integer, Value::Integer(_)) | (FieldType::Boolean, Value::Boolean(_)) => true,
            (FieldType::Float, Value::Float(number)) => number.is_finite(),
            (FieldType::Decimal { precision, scale }, Value::Decimal(number)) => {
                let number = number.normalize();
                let whole = number.trunc().abs().to_string();
                number.scale() <= u32::from(scale)
                    && whole.trim_start_matches('0').len() <= usize::from(precision - scale)
            }
            (FieldType::Date, Value::Date(date)) => (1..=9999).contains(&date.year()),
            (FieldType::DateTime, Value::DateTime(time)) => {
                time.offset().is_utc() && (1..=9999).contains(&time.year())
            }
            (FieldType::Json, Value::Json(text)) => {
                serde_json::from_str::<serde_json::Value>(text).is_ok() && !text.contains('\0')
            }
            _ => false,
        };
        assert!(fits, "{value:?} in {column:?}");
    }
}
