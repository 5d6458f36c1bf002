//! Events of declared pipelines into a table of any shape.

mod check;
mod ddl;
mod default;
mod described;
mod evolve;
mod offline;
mod plan;
mod presence;
mod rows;
mod sink;
mod time;
mod types;
mod value;
mod wide;

pub use self::ddl::Ddl;
pub use self::offline::DeclaredRows;
pub use self::presence::Identities;
pub use self::sink::{TableRows, TableSink};
pub use self::types::{ColumnType, TypeError};
use crate::error::{ErrorKind, RequestError};
use crate::layout::{LayoutError, quoted};

/// The column that the message's identity goes into.
pub(crate) const EVENT_ID: &str = "event_id";
/// The column for the time of publishing.
pub(crate) const PUBLISHED_AT: &str = "published_at";
/// The column for the sequence in the stream.
pub(crate) const STREAM_SEQUENCE: &str = "stream_sequence";
/// The column that takes what no other does.
pub(crate) const DATA: &str = "data";
/// The column by which the earliest publish wins.
pub(crate) const VERSION: &str = "version";

/// What a pipeline's document says of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// The table's database, that of the client without.
    pub database: Option<String>,
    /// The table's name.
    pub table: String,
    /// Names and types of the columns to write; without them those that the table has. Needed to
    /// create a table.
    pub columns: Option<Vec<(String, String)>>,
    /// What makes two events the same.
    pub identity: Identity,
    /// The partitions of a table that is created; without it the month of the first column of a
    /// date or time, of the identity if that has one.
    pub partition_by: Option<String>,
    /// What becomes of fields that no column takes.
    pub unknown_fields: UnknownFields,
    /// What may be done to the table.
    pub schema: Schema,
    /// What is promised.
    pub delivery: Delivery,
}

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// These fields, which are columns of the table; an event without one of them is rejected.
    Fields(Vec<String>),
    /// The message's identity, in column `event_id UUID`.
    Message,
}

/// What becomes of fields that no column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// They go into column `data JSON`.
    JsonColumn,
    /// The event is rejected.
    Reject,
    /// They are dropped.
    Ignore,
}

/// What may be done to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Nothing: it must be there.
    Require,
    /// It is created if it is missing, with a view for readers.
    Create,
    /// As `Create`, and columns are added for fields that have none.
    Evolve,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Copies of an event become one; a table that cannot do that is refused.
    ExactlyOnce,
    /// Copies may stay.
    AtLeastOnce,
}

/// A table that rows cannot be written into as declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The server refused, or did not answer.
    #[error("table {table} cannot be looked at")]
    Request {
        /// The table.
        table: String,
        /// What happened.
        #[source]
        source: RequestError,
    },
    /// The table cannot lie as the cluster is configured.
    #[error("the table cannot lie as configured")]
    Layout {
        /// Why not.
        #[source]
        source: LayoutError,
    },
    /// There is no such table, and none is to be created.
    #[error("there is no table {table}; declare `schema: create`, or create it{}", hint(.ddl.as_ref()))]
    Missing {
        /// The table.
        table: String,
        /// What would create one, if the columns are declared.
        ddl: Option<Ddl>,
    },
    /// A table cannot be created without columns.
    #[error("table {table} cannot be created: declare its columns")]
    NoColumns {
        /// The table.
        table: String,
    },
    /// A declared column is not in the table.
    #[error("table {table} has no column {column}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column is not one that rows can be written into.
    #[error("column {column} of table {table} {complaint}")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong with it.
        complaint: String,
    },
    /// Copies of an event would stay in the table.
    #[error(
        "table {table} does not make copies of an event one: {}; declare `delivery: at_least_once`, or use a table like this:\n{ddl}",
        problems.join("; ")
    )]
    KeepsCopies {
        /// The table.
        table: String,
        /// Why, in sentences.
        problems: Vec<String>,
        /// A table that does.
        ddl: Ddl,
    },
}

impl TableError {
    /// Tells what the failure asks for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request { source, .. } => source.kind(),
            Self::Layout { source } => source.kind(),
            _ => ErrorKind::Fatal,
        }
    }
}

fn hint(ddl: Option<&Ddl>) -> String {
    ddl.map_or(String::new(), |ddl| format!(":\n{ddl}"))
}

impl TableConfig {
    /// Returns the statements that create a table as declared and a view of it for readers.
    ///
    /// # Errors
    /// [`TableError::NoColumns`], and [`TableError::Column`] for a type that is none or an identity
    /// that is no column or Nullable.
    pub fn ddl(&self) -> Result<Ddl, TableError> {
        let columns = self
            .columns
            .as_deref()
            .filter(|columns| !columns.is_empty());
        let columns = columns.ok_or_else(|| TableError::NoColumns {
            table: self.table.clone(),
        })?;
        for (name, type_text) in columns {
            let read = type_text.parse::<ColumnType>();
            let is_identity = check::identity(self).contains(&name.as_str());
            let complaint = match read {
                Err(error) => error.to_string(),
                Ok(read) if is_identity && read.is_nullable() => {
                    "is part of the identity and must not be Nullable".into()
                }
                Ok(_) => continue,
            };
            return Err(self.column_error(name, complaint));
        }
        for name in check::identity(self) {
            let declared = columns.iter().any(|(known, _)| known == name);
            if !declared && self.identity != Identity::Message {
                return Err(self.column_error(name, "is part of the identity, but not declared"));
            }
        }
        Ok(ddl::ddl(self, columns))
    }

    /// The table's name as SQL takes it.
    fn quoted_table(&self) -> String {
        self.quoted_name(&self.table)
    }

    /// The view's name as SQL takes it.
    fn quoted_view(&self) -> String {
        self.quoted_name(&format!("{}_final", self.table))
    }

    fn quoted_name(&self, name: &str) -> String {
        match &self.database {
            Some(database) => format!("{}.{}", quoted(database), quoted(name)),
            None => quoted(name),
        }
    }

    fn column_error(&self, column: &str, complaint: impl Into<String>) -> TableError {
        TableError::Column {
            table: self.table.clone(),
            column: column.into(),
            complaint: complaint.into(),
        }
    }
}
