//! An event to begin with.

use serde_json::{Map, Value as Json, json};

use crate::spec::{CsvType, DecodeFormat, Expect, Pipeline, Sink, TestInput};

/// Makes an event that a pipeline may take, the same every time: that of the first test that
/// expects a row, else one of the columns that are known.
pub fn sample(pipeline: &Pipeline) -> TestInput {
    let mut tests = pipeline.tests.iter();
    if let Some(test) = tests.find(|test| matches!(test.expect, Expect::Row(_))) {
        return test.input.clone();
    }
    let fields = match (&pipeline.decode, &pipeline.sink) {
        (DecodeFormat::Envelope, _) => json!({
            "organization_id": "example-org",
            "end_device_id": "sensor-1",
            "occurred_at": "2026-01-01T00:00:00Z",
            "processed_at": "2026-01-01T00:00:00Z",
            "data": {"temperature": 21.5},
        }),
        (DecodeFormat::Csv { columns, .. }, _) => {
            let fields = columns.iter().map(|column| {
                let value = match column.csv_type {
                    CsvType::Text => json!(column.name),
                    CsvType::Integer => json!(1),
                    CsvType::Number => json!(1.5),
                    CsvType::Boolean => json!(true),
                    CsvType::Json => json!({}),
                };
                (column.name.clone(), value)
            });
            Json::Object(fields.collect())
        }
        (DecodeFormat::Json { .. }, Sink::Clickhouse(table)) => {
            let columns = table.columns.iter().flatten();
            let fields = columns.map(|(name, column)| (name.clone(), value(name, column)));
            Json::Object(fields.collect())
        }
        _ => Json::Object(Map::new()),
    };
    TestInput::Fields(fields)
}

/// A value that fits a type of ClickHouse, by its name.
fn value(name: &str, column_type: &str) -> Json {
    let inner = ["Nullable(", "LowCardinality("]
        .iter()
        .find_map(|wrapper| column_type.strip_prefix(wrapper));
    if let Some(inner) = inner {
        return value(name, inner.strip_suffix(')').unwrap_or(inner));
    }
    let word = column_type.split('(').next().unwrap_or_default();
    match word {
        _ if word.starts_with("Int") || word.starts_with("UInt") => json!(1),
        _ if word.starts_with("Float") => json!(1.5),
        _ if word.starts_with("Decimal") => json!("1.5"),
        "Bool" => json!(true),
        "Date" | "Date32" => json!("2026-01-01"),
        "DateTime" | "DateTime64" => json!("2026-01-01T00:00:00Z"),
        "UUID" => json!("018f4e5c-0000-7000-8000-000000000001"),
        "IPv4" => json!("192.0.2.1"),
        "IPv6" => json!("2001:db8::1"),
        "Enum" | "Enum8" | "Enum16" => json!(column_type.split('\'').nth(1).unwrap_or_default()),
        "Array" | "Tuple" | "Nested" => json!([]),
        "Map" | "JSON" | "Object" => json!({}),
        _ => json!(name),
    }
}
