//! Events of declared pipelines into a table of any shape.

mod time;
mod types;
mod value;
mod wide;

pub use self::types::{ColumnType, TypeError};
