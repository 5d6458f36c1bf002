//! Events of declared pipelines into a table of any shape.

mod default;
mod rows;
mod time;
mod types;
mod value;
mod wide;

pub use self::types::{ColumnType, TypeError};

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
