//! A record as a line of `COPY … FROM STDIN`, text format.
//!
//! PostgreSQL reads each value as its column's type does, whatever type that is.
//!
//! # Source
//! PostgreSQL documentation, "COPY", section "Text Format", and "Array Input and Output Syntax".

use ponix_sink::Record;
use ponix_wire::{is_beyond_double, may_have_lost_digits};
use serde_json::{Map, Number, Value};

use super::UnknownFields;
use super::columns::{Column, Table};

const NULL: &[u8] = b"\\N";

/// The line of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Which columns it has a value for; the others take their defaults.
    pub(super) columns: Vec<bool>,
    pub(super) bytes: Vec<u8>,
}

impl Table {
    /// Returns the line of a record, or why it has none.
    pub(super) fn line(&self, record: &Record) -> Result<Line, String> {
        let data = self.unknown(&record.fields)?;
        let mut bytes = Vec::with_capacity(256);
        let mut present = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let value = if Some(index) == self.data {
                Some(&data)
            } else {
                record.fields.get(&column.name)
            };
            let takes_default = value.is_none() && column.has_default;
            present.push(!takes_default);
            if takes_default {
                continue;
            }
            if value.is_none_or(Value::is_null) && !column.optional {
                let Column { name, sql_type, .. } = column;
                return Err(format!(
                    "{name}: nothing does not fit {sql_type}: the field is missing, and the column has neither NULL nor a default"
                ));
            }
            if !bytes.is_empty() {
                bytes.push(b'\t');
            }
            match value
                .map(|value| text(column, value))
                .transpose()?
                .flatten()
            {
                Some(text) => escape(&text, &mut bytes),
                None => bytes.extend_from_slice(NULL),
            }
        }
        bytes.push(b'\n');
        Ok(Line {
            columns: present,
            bytes,
        })
    }

    /// Returns what no column takes, as one object.
    fn unknown(&self, fields: &Map<String, Value>) -> Result<Value, String> {
        let is_column = |name: &String| {
            let place = self.columns.iter().position(|column| column.name == *name);
            place.is_some() && place != self.data
        };
        if self.config.unknown_fields == UnknownFields::Ignore {
            return Ok(Value::Null);
        }
        let rest = fields.iter().filter(|(name, _)| !is_column(name));
        let rest: Map<_, _> = rest
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        match (self.data, rest.keys().next()) {
            (None, Some(name)) => Err(format!(
                "{name}: table {} has no such column",
                self.config.table
            )),
            _ => Ok(Value::Object(rest)),
        }
    }

    /// Returns the statement for lines with these columns.
    pub(super) fn statement(&self, present: &[bool]) -> String {
        let columns = self
            .columns
            .iter()
            .zip(present)
            .filter(|(_, present)| **present);
        let columns: Vec<_> = columns
            .map(|(column, _)| ponix_entities::quoted(&column.name))
            .collect();
        format!("COPY {} ({}) FROM STDIN", self.name, columns.join(", "))
    }
}

/// Returns the text of a value, `None` for NULL.
pub(super) fn text(column: &Column, value: &Value) -> Result<Option<String>, String> {
    if column.is_json {
        return Ok(Some(value.to_string()).filter(|_| !value.is_null() || !column.optional));
    }
    Ok(match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            exact(column, number)?;
            Some(value.to_string())
        }
        Value::Bool(_) => Some(value.to_string()),
        Value::Array(items) if column.is_array => {
            for number in items.iter().filter_map(Value::as_number) {
                exact(column, number)?;
            }
            Some(array(items))
        }
        Value::Array(_) | Value::Object(_) => {
            let Column { name, sql_type, .. } = column;
            return Err(format!("{name}: {} does not fit {sql_type}", shown(value)));
        }
    })
}

fn exact(column: &Column, number: &Number) -> Result<(), String> {
    let lost = loses_digits(&column.sql_type, number);
    lost.map_or(Ok(()), |why| {
        Err(format!("{}: {number} {why}", column.name))
    })
}

/// Tells why a column would not hold a number as it was sent, and what to do.
fn loses_digits(sql_type: &str, number: &Number) -> Option<&'static str> {
    let is = |names: &[&str]| names.iter().any(|name| sql_type.starts_with(name));
    if is(&["double precision", "real"]) && is_beyond_double(number) {
        return Some(
            "is an integer beyond ±2^53 and would lose digits: send a text, or make the column bigint or numeric",
        );
    }
    let lost = is(&["numeric"]) && may_have_lost_digits(number);
    lost.then_some("has more than 15 digits, of which some may be lost: send a text")
}

/// Returns a value for a message, not the whole of a long one.
pub(super) fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 100;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn array(items: &[Value]) -> String {
    let items = items.iter().map(|item| match item {
        Value::Null => "NULL".to_owned(),
        Value::Array(items) => array(items),
        Value::String(text) => quoted_item(text),
        Value::Object(_) => quoted_item(&item.to_string()),
        _ => item.to_string(),
    });
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}

fn quoted_item(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn escape(text: &str, bytes: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => bytes.extend_from_slice(b"\\\\"),
            b'\n' => bytes.extend_from_slice(b"\\n"),
            b'\r' => bytes.extend_from_slice(b"\\r"),
            b'\t' => bytes.extend_from_slice(b"\\t"),
            other => bytes.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept_or_refused() {
        let lost = |sql_type, number: &str| {
            let number: Number = serde_json::from_str(number).expect("a number");
            loses_digits(sql_type, &number).is_some()
        };
        for sql_type in ["double precision", "real", "double precision[]"] {
            assert!(lost(sql_type, "9007199254740993"), "{sql_type}");
            assert!(lost(sql_type, "-9007199254740993"), "{sql_type}");
            assert!(!lost(sql_type, "9007199254740992"), "{sql_type}");
            assert!(!lost(sql_type, "0.1234567890123456789"), "{sql_type}");
        }
        assert!(!lost("bigint", "9007199254740993"));
        assert!(!lost("text", "9007199254740993"));
        assert!(!lost("numeric(38,2)", "9007199254740993"));
        assert!(!lost("numeric(38,2)", "123456789012.25"));
        assert!(lost("numeric(38,2)", "12345678901234567890.12"));
    }
}
