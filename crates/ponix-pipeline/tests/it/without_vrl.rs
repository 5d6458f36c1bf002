//! A binary without VRL says so of a document that needs it.

use std::path::Path;

use ponix_pipeline::load;

#[test]
fn a_document_with_a_program_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/meters/vrl");
    let told = load(&folder).unwrap_err().to_string();
    assert!(
        told.contains(
            "raw-readings.yaml:14:7: transform needs VRL, which this binary was built without"
        ),
        "{told}"
    );
}
