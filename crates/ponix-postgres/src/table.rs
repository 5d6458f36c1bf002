//! Any table as the sink of a declared pipeline: rows by COPY, copies kept out by claims.

mod columns;
mod line;
mod sink;

pub use self::columns::TableError;
pub use self::sink::TableSink;

use uuid::Uuid;

use crate::row_id::row_id;

/// What a document says of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name, perhaps behind that of its schema and a dot.
    pub table: String,
    /// Columns, name and type as PostgreSQL writes it, where the table is to be made or extended;
    /// `None` for a table that must be there.
    pub columns: Option<Vec<(String, String)>>,
    /// What becomes of fields that no column takes.
    pub unknown_fields: UnknownFields,
}

/// What becomes of fields that no column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// The event is rejected.
    Reject,
    /// They go into the column `data`, of type `json` or `jsonb`.
    JsonColumn,
    /// They are left out.
    Ignore,
}

impl TableConfig {
    /// Returns the id that a record is claimed by, which is its message's id in the statuses. Those
    /// of different tables, and of raw messages, never meet.
    pub fn claim_id(&self, identity: Uuid) -> Uuid {
        row_id(identity, &quoted_table(&self.table), 0)
    }

    /// Returns the statement that makes the table, where its columns are declared.
    pub fn ddl(&self) -> Option<String> {
        use std::fmt::Write as _;

        let columns = self.columns.as_ref()?;
        let mut ddl = format!("CREATE TABLE {} (", quoted_table(&self.table));
        for (index, (name, kind)) in columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(ddl, "{comma}\n    {} {kind}", ponix_entities::quoted(name));
        }
        ddl.push_str("\n);\n");
        Some(ddl)
    }
}

/// Quotes a table's name, and that of its schema.
fn quoted_table(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(ponix_entities::quoted).collect();
    parts.join(".")
}
