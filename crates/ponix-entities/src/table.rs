//! The tables that entities are kept in, and what a row holds.

use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};

/// The position of a table in [`Catalog::tables`](crate::Catalog::tables).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableIndex(pub usize);

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldType {
    /// Text, of so many characters at most.
    String {
        /// Characters; no limit without.
        max_length: Option<u32>,
    },
    /// 64 bits with sign.
    Integer,
    /// A finite double.
    Float,
    /// A number of so many digits, so many of them behind the point.
    Decimal {
        /// Digits in all, 1 to 28.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// A day, year 1 to 9999.
    Date,
    /// An instant, microseconds are kept.
    DateTime,
    /// Any JSON.
    Json,
}

/// One column besides the row's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub field_type: FieldType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What it stands for.
    pub doc: Option<String>,
}

/// Columns that refer to unique columns of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The columns here.
    pub columns: Vec<String>,
    /// The other table.
    pub table: String,
    /// Its columns.
    pub references: Vec<String>,
}

/// The table of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The column of the row's own id, a UUID and the primary key.
    pub id_column: String,
    /// The other columns, in the order of a row's values.
    pub columns: Vec<Column>,
    /// Lists of columns that together occur once.
    pub unique: Vec<Vec<String>>,
    /// References to other tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// Lists of columns with an index.
    pub indexes: Vec<Vec<String>>,
    /// What the entity stands for.
    pub doc: Option<String>,
}

/// One value of a row; it fits its column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// None.
    Null,
    /// Text without NUL.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A finite double.
    Float(f64),
    /// A decimal number with the column's scale at most.
    Decimal(Decimal),
    /// True or false.
    Boolean(bool),
    /// A day.
    Date(Date),
    /// An instant.
    DateTime(OffsetDateTime),
    /// JSON text without NUL.
    Json(String),
}

/// One row, without its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The table it goes to.
    pub table: TableIndex,
    /// As many values as the table has columns, in their order.
    pub values: Vec<Value>,
}
