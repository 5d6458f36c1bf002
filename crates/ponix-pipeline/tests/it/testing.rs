//! The tests of a document say what is not as expected.

use ponix_pipeline::{RecordDecoder, from_files, run_tests};
use ponix_sink::Record;

/// The differences of one test.
fn differences(test: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: ponix.dev/v1\nkind: Pipeline\nmetadata: {{name: a}}\nspec:\n  source: {{stream: A, subjects: [a.>]}}\n  decode: {{format: json}}\n  sink: {{clickhouse: {{table: t}}}}\n  tests:\n    - {{name: one, {test}}}\n"
    );
    let pipelines = from_files([("a.yaml".into(), text)]).unwrap_or_else(|told| panic!("{told}"));
    let decoder = RecordDecoder::new(&pipelines[0]).unwrap();
    let store = |record: &Record| match record.fields.get("misfit") {
        Some(_) => Err("misfit: true does not fit String".to_owned()),
        None => Ok(record.fields.clone()),
    };
    let mut reports = run_tests(&pipelines[0], &decoder, &store);
    assert_eq!((reports.len(), reports[0].place), (1, Some((9, 14))));
    reports.remove(0).differences
}

#[test]
fn what_is_as_expected_passes() {
    for test in [
        "input: {a: 1, b: [1.0, {c: x}]}, expect: {row: {a: 1.0, b: [1, {c: x}]}}",
        "input: '{', expect: {dead_letter: decode}",
        "input: '{', expect: {dead_letter: EOF while parsing}",
        "input: {misfit: true}, expect: {dead_letter: misfit}",
    ] {
        assert_eq!(differences(test), [] as [String; 0], "{test}");
    }
}

#[test]
fn what_is_not_is_told_field_by_field() {
    assert_eq!(
        differences("input: {a: 1, c: 2, d: 4}, expect: {row: {a: 2, b: x, d: 4}}"),
        ["- a: 2", "+ a: 1", "- b: \"x\"", "+ c: 2"]
    );
    assert_eq!(
        differences("input: '{', expect: dropped"),
        [
            "- dropped",
            "+ a dead letter: decode: EOF while parsing an object at line 1 column 1"
        ]
    );
    assert_eq!(
        differences("input: {a: 1}, expect: {dead_letter: value}"),
        ["- a dead letter: value", "+ a row: {\"a\":1}"]
    );
    assert_eq!(
        differences("input: '{', expect: {dead_letter: value}").len(),
        2,
        "another reason is another"
    );
}
