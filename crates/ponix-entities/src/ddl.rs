//! SQL that creates the tables, for people to read.

use std::fmt::Write as _;

use time::format_description::well_known::Rfc3339;

use crate::catalog::{Catalog, Entity};
use crate::load::NAME_BYTES_MAX;
use crate::table::{FieldType, Table, Value};

impl FieldType {
    /// Returns the type of PostgreSQL that holds it.
    pub fn sql(self) -> String {
        match self {
            Self::String {
                max_length: Some(most),
            } => format!("varchar({most})"),
            Self::String { max_length: None } => "text".to_owned(),
            Self::Integer => "bigint".to_owned(),
            Self::Float => "double precision".to_owned(),
            Self::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
            Self::Boolean => "boolean".to_owned(),
            Self::Date => "date".to_owned(),
            Self::DateTime => "timestamptz".to_owned(),
            Self::Json => "jsonb".to_owned(),
        }
    }
}

/// Quotes a name.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// Returns the statements that create all tables, in an order that works.
pub fn ddl(catalog: &Catalog) -> String {
    catalog.entities().iter().map(create_table).collect()
}

fn create_table(entity: &Entity) -> String {
    let table = &entity.table;
    let mut lines = vec![format!("{} uuid PRIMARY KEY", quoted(&table.id_column))];
    for field in &entity.fields {
        let column = &field.column;
        let null = if column.nullable { "" } else { " NOT NULL" };
        // Lets the column be added to a table that has rows.
        let default = field.default.as_ref().map(literal);
        let default = default.map_or_else(String::new, |value| format!(" DEFAULT {value}"));
        lines.push(format!(
            "{} {}{null}{default}",
            quoted(&column.name),
            column.field_type.sql()
        ));
    }
    for unique in &table.unique {
        lines.push(format!("UNIQUE ({})", quoted_list(unique)));
    }
    for key in &table.foreign_keys {
        lines.push(format!(
            "FOREIGN KEY ({}) REFERENCES {} ({})",
            quoted_list(&key.columns),
            quoted(&key.table),
            quoted_list(&key.references)
        ));
    }
    let mut sql = String::new();
    for line in table.doc.iter().flat_map(|doc| doc.lines()) {
        let _ = writeln!(sql, "-- {}", line.replace(char::is_control, " ").trim());
    }
    let name = quoted(&table.name);
    let _ = writeln!(
        sql,
        "CREATE TABLE IF NOT EXISTS {name} (\n    {}\n);",
        lines.join(",\n    ")
    );
    for index in &table.indexes {
        let _ = writeln!(
            sql,
            "CREATE INDEX IF NOT EXISTS {} ON {name} ({});",
            quoted(&index_name(table, index)),
            quoted_list(index)
        );
    }
    sql.push('\n');
    sql
}

/// Writes a value as SQL.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) | Value::Json(text) => quoted_text(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => quoted_text(&number.to_string()),
        Value::Decimal(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Date(date) => quoted_text(&date.to_string()),
        Value::DateTime(time) => quoted_text(&time.format(&Rfc3339).unwrap_or_default()),
    }
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name of an index: the table's and its columns', cut to what PostgreSQL takes. One that is
/// cut ends in a hash of the whole, so that it stays a name of its own.
pub(crate) fn index_name(table: &Table, columns: &[String]) -> String {
    let mut name = format!("{}_{}_idx", table.name, columns.join("_"));
    if name.len() > NAME_BYTES_MAX {
        let hash = format!("_{:08x}", fnv1a(name.as_bytes()));
        name.truncate(NAME_BYTES_MAX - hash.len());
        name.push_str(&hash);
    }
    name
}

/// A hash that is the same for ever.
///
/// # Source
/// FNV-1a of 32 bits, RFC 9923.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
