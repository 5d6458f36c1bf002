//! Entities from files, messages by them.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod declaring;
mod deriving;
mod reading;
mod round_trip;

use std::path::Path;
use std::sync::LazyLock;

use ponix_entities::Catalog;

/// The example.
static TPCH: LazyLock<Catalog> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch");
    Catalog::load(&folder).unwrap_or_else(|err| panic!("{err}"))
});
