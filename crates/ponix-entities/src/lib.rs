#![doc = include_str!("../README.md")]

mod catalog;
mod ddl;
mod derivation;
mod document;
mod field;
mod load;
pub mod loader;
mod message;
mod sample;
mod scalar;
mod table;

pub use ponix_wire::message::Format;

pub use crate::catalog::{Catalog, Entity};
pub use crate::ddl::{ddl, quoted};
pub use crate::document::{EntityType, schema};
pub use crate::loader::{LoadError, LoadErrors};
pub use crate::message::{FieldError, MessageError, ParsedMessage};
pub use crate::sample::{Sample, sample};
pub use crate::table::{Column, FieldType, ForeignKey, Row, Table, TableIndex, Value};
