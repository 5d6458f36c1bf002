//! Pipelines from documents, rows by them.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod declaring;
mod decoding;
mod examples;
mod testing;
#[cfg(feature = "vrl")]
mod transforming;
#[cfg(not(feature = "vrl"))]
mod without_vrl;
