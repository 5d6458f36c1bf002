//! Pipelines from documents, rows by them.

mod declaring;
mod decoding;
