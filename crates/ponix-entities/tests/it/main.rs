//! Entities from files, messages by them.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod declaring;
mod reading;

use std::path::{Path, PathBuf};

use ponix_entities::Catalog;

/// The folder of the example.
fn tpch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch")
}

fn tpch_catalog() -> Catalog {
    Catalog::load(&tpch()).unwrap_or_else(|err| panic!("{err}"))
}
