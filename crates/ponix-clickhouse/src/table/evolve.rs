//! Columns for fields that have none.
//!
//! Only texts, numbers and booleans make columns, and they are Nullable: other events have no such
//! field. Numbers become Float64, as one device says 5 and the next 5.5; an integer that no double
//! is becomes Int64 or UInt64.

use std::collections::BTreeMap;

use ponix_sink::Record;
use serde_json::Value;

use super::rows::Rows;
use crate::layout::quoted;

/// The most columns of a table that are still added to.
const COLUMNS_MAX: usize = 500;

/// The longest name that becomes a column, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Up to here each integer is a double of its own.
const DOUBLE_INTEGERS: u64 = 1 << 53;

/// Returns names and types of columns for the fields of records that the table does not have.
pub(super) fn new_columns(rows: &Rows, records: &[Record]) -> BTreeMap<String, &'static str> {
    let mut columns: BTreeMap<String, &'static str> = BTreeMap::new();
    let room = COLUMNS_MAX.saturating_sub(rows.columns().len());
    for record in records {
        for (name, value) in rows.unknown_fields(record) {
            let Some(column_type) = inferred(value).filter(|_| is_plain(name)) else {
                continue;
            };
            if let Some(known) = columns.get_mut(name) {
                *known = wider(known, column_type);
            } else if columns.len() < room {
                columns.insert(name.to_owned(), column_type);
            }
        }
    }
    columns
}

/// Writes the statement that adds columns to a quoted table; it is safe to repeat.
pub(super) fn add_columns(table: &str, columns: &BTreeMap<String, &'static str>) -> String {
    let add = columns.iter().map(|(name, column_type)| {
        format!("ADD COLUMN IF NOT EXISTS {} {column_type}", quoted(name))
    });
    let add: Vec<String> = add.collect();
    format!("ALTER TABLE {table} {}", add.join(", "))
}

const TEXT: &str = "Nullable(String)";
const BOOL: &str = "Nullable(Bool)";
const FLOAT: &str = "Nullable(Float64)";
const INT: &str = "Nullable(Int64)";
const UINT: &str = "Nullable(UInt64)";

fn inferred(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(_) => Some(TEXT),
        Value::Bool(_) => Some(BOOL),
        Value::Number(number) => Some(match (number.as_i64(), number.as_u64()) {
            (Some(int), _) if int.unsigned_abs() > DOUBLE_INTEGERS => INT,
            (None, Some(_)) => UINT,
            _ => FLOAT,
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The type that takes the values of both; of values that have nothing in common, a text does.
fn wider(one: &'static str, other: &'static str) -> &'static str {
    match (one, other) {
        _ if one == other => one,
        (INT, FLOAT) | (FLOAT, INT) => INT,
        (UINT, FLOAT) | (FLOAT, UINT) => UINT,
        _ => TEXT,
    }
}

/// Names that need no second thought in SQL and in paths.
fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '.' | '`' | '\\' | '\'' | '"');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(odd)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::table::UnknownFields;

    fn columns(events: &[Value]) -> Vec<(String, &'static str)> {
        let record = |event: &Value| Record {
            fields: event.as_object().expect("an object").clone(),
            identity: Uuid::nil(),
            published_at_ns: 0,
            stream_sequence: 0,
        };
        let records: Vec<_> = events.iter().map(record).collect();
        let rows = Rows::new(Vec::new(), UnknownFields::Reject);
        new_columns(&rows, &records).into_iter().collect()
    }

    fn type_of(values: &[Value]) -> Option<&'static str> {
        let events: Vec<_> = values.iter().map(|value| json!({"f": value})).collect();
        columns(&events).pop().map(|(_, column_type)| column_type)
    }

    #[test]
    fn types_take_all_the_values_that_were_seen() {
        let large = u64::MAX;
        for (values, column_type) in [
            (vec![json!(5)], Some(FLOAT)),
            (vec![json!(5), json!(5.5)], Some(FLOAT)),
            (vec![json!(1_i64 << 60), json!(5)], Some(INT)),
            (vec![json!(-1), json!(large)], Some(UINT)),
            (vec![json!(true), json!(5)], Some(TEXT)),
            (vec![json!("x"), json!(5)], Some(TEXT)),
            (vec![json!(true)], Some(BOOL)),
            (vec![json!(null), json!([1]), json!({})], None),
            (vec![json!(null), json!("x")], Some(TEXT)),
        ] {
            assert_eq!(type_of(&values), column_type, "{values:?}");
        }
    }

    #[test]
    fn odd_names_and_too_many_make_no_columns() {
        let long = "x".repeat(65);
        assert_eq!(
            columns(&[json!({"": 1, "a.b": 1, "a`b": 1, "a\n": 1, (long): 1})]),
            []
        );
        let many: serde_json::Map<_, _> = (0..10_000).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(columns(&[Value::Object(many)]).len(), COLUMNS_MAX);
    }

    #[test]
    fn the_statement_quotes_names() {
        let columns = BTreeMap::from([("a b".to_owned(), FLOAT), ("c".to_owned(), TEXT)]);
        assert_eq!(
            add_columns("`t`", &columns),
            "ALTER TABLE `t` ADD COLUMN IF NOT EXISTS `a b` Nullable(Float64), \
             ADD COLUMN IF NOT EXISTS `c` Nullable(String)"
        );
    }
}
