//! The table of a pipeline as it is declared, without a server.

use ponix_clickhouse::table::{Ddl, DeclaredRows};
use ponix_pipeline::{LoadError, Pipeline, Sink};
use ponix_sink::Record;
use serde_json::{Map, Value};

use crate::pipelines::table_config;

/// Columns that the sink fills: here they would show what is made up.
const OWN_COLUMNS: [&str; 3] = ["event_id", "published_at", "stream_sequence"];

/// What a table makes of records, as far as its document tells.
pub(super) struct Table {
    /// None where the columns are those of a table that only a server knows.
    rows: Option<DeclaredRows>,
    declared: Vec<String>,
}

impl Table {
    /// Takes the columns that a document declares.
    pub(super) fn new(pipeline: &Pipeline) -> Result<Self, LoadError> {
        let columns = match &pipeline.sink {
            Sink::Clickhouse(table) => table.columns.as_ref().map(|columns| (table, columns)),
            _ => None,
        };
        let Some((table, columns)) = columns else {
            let (rows, declared) = (None, Vec::new());
            return Ok(Self { rows, declared });
        };
        let rows = DeclaredRows::new(&table_config(pipeline, table));
        Ok(Self {
            rows: Some(rows.map_err(|err| pipeline.sink_error(err.to_string()))?),
            declared: columns.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// The statements that make the table, where its columns are declared.
    pub(super) fn ddl(pipeline: &Pipeline) -> Option<Ddl> {
        match &pipeline.sink {
            Sink::Clickhouse(table) => table_config(pipeline, table).ddl().ok(),
            _ => None,
        }
    }

    /// The row of a record, or why it would be a dead letter.
    pub(super) fn row(&self, record: &Record) -> Result<Map<String, Value>, String> {
        let Some(rows) = &self.rows else {
            return Ok(record.fields.clone());
        };
        let mut row = rows.row(record)?;
        let is_declared = |name: &String| self.declared.contains(name);
        row.retain(|name, _| is_declared(name) || !OWN_COLUMNS.contains(&name.as_str()));
        Ok(row)
    }
}
