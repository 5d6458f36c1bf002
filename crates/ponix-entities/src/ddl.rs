//! SQL that creates the tables, for people to read.

use std::fmt::Write as _;

use crate::catalog::Catalog;
use crate::table::{FieldType, Table};

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
    catalog.tables().map(create_table).collect()
}

fn create_table(table: &Table) -> String {
    let mut lines = vec![format!("{} uuid PRIMARY KEY", quoted(&table.id_column))];
    for column in &table.columns {
        let null = if column.nullable { "" } else { " NOT NULL" };
        lines.push(format!(
            "{} {}{null}",
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
        let _ = writeln!(sql, "-- {}", line.trim());
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

/// The name of an index: the table's and its columns', cut to what PostgreSQL takes.
fn index_name(table: &Table, columns: &[String]) -> String {
    let mut name = format!("{}_{}_idx", table.name, columns.join("_"));
    name.truncate(crate::load::NAME_BYTES_MAX);
    name
}
