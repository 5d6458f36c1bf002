//! A record as a line of `COPY … FROM STDIN`, text format.
//!
//! PostgreSQL reads each value as its column's type does, whatever type that is.
//!
//! # Source
//! PostgreSQL documentation, "COPY", section "Text Format", and "Array Input and Output Syntax".

use ponix_sink::Record;
use serde_json::{Map, Value};

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
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) if column.is_array => Some(array(items)),
        Value::Array(_) | Value::Object(_) => {
            let Column { name, sql_type, .. } = column;
            return Err(format!("{name}: {} does not fit {sql_type}", shown(value)));
        }
    })
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
