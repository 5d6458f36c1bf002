//! Events of declared pipelines into a table of any shape.

mod types;

pub use self::types::{ColumnType, TypeError};
