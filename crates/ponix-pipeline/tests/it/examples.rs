//! The examples, with their own tests.

use std::path::Path;

use ponix_pipeline::{Pipeline, RecordDecoder, from_files, load, run_tests};

/// Runs the tests of the documents of a folder, and returns how many there are.
fn tests_of(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(folder);
    run_all(&load(&folder).unwrap_or_else(|errors| panic!("{errors}")))
}

/// Runs the tests of documents, and returns how many there are.
fn run_all(pipelines: &[Pipeline]) -> usize {
    let mut tests = 0;
    for pipeline in pipelines {
        let decoder = RecordDecoder::new(pipeline).unwrap();
        for report in run_tests(pipeline, &decoder, &|record| Ok(record.fields.clone())) {
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

#[test]
fn the_documents_of_the_bench_are_as_their_tests_say() {
    assert_eq!(tests_of("../bench/pipelines"), 1);
}

#[cfg(feature = "vrl")]
#[test]
fn the_document_of_the_bench_with_a_program_is_as_its_test_says() {
    assert_eq!(tests_of("../bench/pipelines/vrl"), 1);
}

#[test]
fn the_document_of_the_first_ten_minutes_is_right() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pipelines.md");
    let page = std::fs::read_to_string(page).unwrap();
    let document = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let pipelines = from_files([("pipelines.md".into(), document.unwrap().to_owned())]);
    let pipelines = pipelines.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(run_all(&pipelines), 1);
}
