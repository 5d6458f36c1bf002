//! The examples, with their own tests.

use std::path::Path;

use ponix_pipeline::{RecordDecoder, load, run_tests};

/// Runs the tests of the documents of a folder, and returns how many there are.
fn tests_of(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(folder);
    let pipelines = load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let mut tests = 0;
    for pipeline in &pipelines {
        let decoder = RecordDecoder::new(pipeline).unwrap();
        for report in run_tests(pipeline, &decoder) {
            assert!(
                report.is_passed(),
                "{}: {:#?}",
                report.name,
                report.differences
            );
            tests += 1;
        }
    }
    tests
}

#[test]
fn the_meters_are_as_their_tests_say() {
    assert_eq!(tests_of("meters"), 7);
}

#[cfg(feature = "vrl")]
#[test]
fn the_meters_with_a_program_are_as_their_tests_say() {
    assert_eq!(tests_of("meters/vrl"), 5);
}
