//! Where the rows go.

use serde_saphyr::Spanned;

use super::Check;
use crate::spec::document::{self, Clickhouse, Postgres};
use crate::spec::{ClickhouseSink, PostgresSink, Schema, Sink, UnknownFields};

/// The column of the fields that no other takes.
const DATA: &str = "data";
/// Longest name of a table or column.
const NAME_BYTES_MAX: usize = 127;

impl Check<'_> {
    pub(super) fn sink(&mut self, spec: &document::Spec) -> Sink {
        match (&spec.sink.clickhouse, &spec.sink.postgres) {
            (Some(table), None) => Sink::Clickhouse(self.clickhouse(&table.value)),
            (None, Some(tables)) => Sink::Postgres(self.postgres(tables)),
            (Some(one), Some(_)) => {
                self.complaints
                    .at(one, "sink needs just one of clickhouse, postgres");
                Sink::Clickhouse(self.clickhouse(&one.value))
            }
            (None, None) => {
                self.complaints.at(
                    &spec.decode.format,
                    "sink needs one of clickhouse, postgres",
                );
                Sink::Postgres(PostgresSink::Entities { dir: None })
            }
        }
    }

    fn clickhouse(&mut self, table: &Clickhouse) -> ClickhouseSink {
        for name in table.database.iter().chain([&table.table]) {
            self.identifier(name, "table");
        }
        let schema = table
            .schema
            .as_ref()
            .map(|schema| schema.value)
            .unwrap_or_default();
        if let Some(at) = &table.schema
            && schema != Schema::Require
            && table.columns.is_none()
        {
            self.complaints
                .at(at, "schema: create and evolve need columns");
        }
        if let Some(columns) = &table.columns
            && columns.value.0.is_empty()
        {
            self.complaints.at(columns, "columns are missing");
        }
        let columns = table
            .columns
            .as_ref()
            .map(|columns| self.columns(table, &columns.value.0));
        self.identity(table, columns.as_deref());
        ClickhouseSink {
            database: table.database.as_ref().map(|name| name.value.clone()),
            table: table.table.value.clone(),
            identity: table
                .identity
                .iter()
                .map(|name| name.value.clone())
                .collect(),
            partition_by: table.partition_by.clone(),
            unknown_fields: table.unknown_fields,
            schema,
            columns,
        }
    }

    fn columns(
        &mut self,
        table: &Clickhouse,
        columns: &[(Spanned<String>, Spanned<String>)],
    ) -> Vec<(String, String)> {
        for (name, column_type) in columns {
            self.identifier(name, "column");
            let text = column_type.value.trim();
            let is_json = text == "JSON" || text.starts_with("JSON(");
            if text.is_empty() {
                self.complaints
                    .at(column_type, format!("column {:?} has no type", name.value));
            } else if table.unknown_fields == UnknownFields::JsonColumn
                && name.value == DATA
                && !is_json
            {
                self.complaints.at(
                    column_type,
                    format!("with unknown_fields: json_column, column {DATA:?} must be JSON"),
                );
            }
        }
        pairs(columns)
    }

    fn identity(&mut self, table: &Clickhouse, columns: Option<&[(String, String)]>) {
        for (index, name) in table.identity.iter().enumerate() {
            if table.identity[..index]
                .iter()
                .any(|other| other.value == name.value)
            {
                self.complaints
                    .at(name, format!("identity: {:?} is there twice", name.value));
            }
            let Some(columns) = columns else {
                continue;
            };
            match columns.iter().find(|(column, _)| *column == name.value) {
                Some((_, column_type)) if column_type.contains("Nullable(") => self.complaints.at(
                    name,
                    format!(
                        "identity: {:?} is {column_type}: NULL is no identity",
                        name.value
                    ),
                ),
                Some(_) => {}
                None => {
                    let known = columns.iter().map(|(column, _)| column.as_str());
                    let meant = ponix_entities::loader::nearest(&name.value, known);
                    let hint = meant.map(|meant| format!(", did you mean {meant:?}?"));
                    self.complaints.at(
                        name,
                        format!(
                            "identity: {:?} is no column{}",
                            name.value,
                            hint.unwrap_or_default()
                        ),
                    );
                }
            }
        }
    }

    fn postgres(&mut self, tables: &Spanned<Postgres>) -> PostgresSink {
        let Postgres {
            entities, table, ..
        } = &tables.value;
        match (entities, table) {
            (Some(dir), None) => PostgresSink::Entities {
                dir: Some(self.file(dir)),
            },
            (None, None) if self.is_built_in => PostgresSink::Entities { dir: None },
            (None, Some(name)) => {
                for part in name.value.split('.') {
                    let part = Spanned::new(part.to_owned(), name.referenced, name.defined);
                    self.identifier(&part, "table");
                }
                self.postgres_columns(&tables.value);
                let columns = tables
                    .value
                    .columns
                    .as_ref()
                    .map(|columns| pairs(&columns.value.0));
                PostgresSink::Table {
                    table: name.value.clone(),
                    columns,
                    unknown_fields: tables.value.unknown_fields,
                }
            }
            _ => {
                self.complaints
                    .at(tables, "postgres needs just one of entities, table");
                PostgresSink::Entities { dir: None }
            }
        }
    }

    fn postgres_columns(&mut self, table: &Postgres) {
        if let Some(schema) = &table.schema {
            let wrong = match schema.value {
                Schema::Evolve => {
                    "a table of PostgreSQL is not evolved by what comes: add the columns to the document, with schema: create"
                }
                Schema::Create if table.columns.is_none() => "schema: create needs columns",
                _ => "",
            };
            if !wrong.is_empty() {
                self.complaints.at(schema, wrong);
            }
        }
        let is_required = table
            .schema
            .as_ref()
            .is_none_or(|schema| schema.value == Schema::Require);
        if let Some(columns) = table.columns.as_ref().filter(|_| is_required) {
            let wrong =
                "columns are those of the table; say schema: create to have it made from these";
            self.complaints.at(columns, wrong);
        }
        for (name, column_type) in table.columns.iter().flat_map(|columns| &columns.value.0) {
            self.identifier(name, "column");
            if column_type.value.trim().is_empty() {
                let complaint = format!("column {:?} has no type", name.value);
                self.complaints.at(column_type, complaint);
            }
        }
    }

    fn identifier(&mut self, name: &Spanned<String>, what: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let text = &name.value;
        let is_right = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(plain)
            && text.len() <= NAME_BYTES_MAX;
        if !is_right {
            self.complaints.at(
                name,
                format!("{what} {text:?} must be 1 to {NAME_BYTES_MAX} letters, digits or '_', no digit first"),
            );
        }
    }
}

/// Returns names and types without their places.
fn pairs(columns: &[(Spanned<String>, Spanned<String>)]) -> Vec<(String, String)> {
    let plain = |(name, text): &(Spanned<String>, Spanned<String>)| {
        (name.value.clone(), text.value.trim().to_owned())
    };
    columns.iter().map(plain).collect()
}
