#![doc = include_str!("../README.md")]

mod catalog;
mod ddl;
mod document;
mod field;
mod json;
mod load;
mod sample;
mod table;

pub use crate::catalog::{Catalog, Entity, Format, MessageError, ParsedMessage};
pub use crate::ddl::{ddl, quoted};
pub use crate::document::{EntityType, schema};
pub use crate::load::{LoadError, LoadErrors};
pub use crate::sample::{Sample, sample};
pub use crate::table::{Column, FieldType, ForeignKey, Row, Table, TableIndex, Value};
