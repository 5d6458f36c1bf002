//! Any text as migration file: the parser never panics, and what it read it reads again.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The parser alone, so that the target builds without the ClickHouse client.
#[path = "../../crates/ponix-clickhouse/src/migration/parse.rs"]
#[allow(dead_code, unreachable_pub)]
mod parse;

use parse::{Section, Statement, parse};

fuzz_target!(|text: &str| {
    let Ok(section) = parse("20260301120000_fuzz.sql", text) else { return };
    for statements in [&section.up, &section.down] {
        check(statements, text);
    }

    let written = format!(
        "-- +goose Up\n{}-- +goose Down\n{}",
        blocks(&section.up),
        blocks(&section.down)
    );
    let again = parse("20260301120000_fuzz.sql", &written)
        .unwrap_or_else(|error| panic!("{error} in {written:?}, from {text:?}"));
    assert_eq!(texts(&section), texts(&again), "written as {written:?}, from {text:?}");
});

/// Statements are not empty, stand in the file, and come in its order.
fn check(statements: &[Statement], text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let mut last = 0;
    for Statement { sql, line } in statements {
        assert!(*line > last, "line {line} after line {last} in {text:?}");
        last = *line;
        let first = sql.lines().next().unwrap_or_default().trim();
        assert!(!first.is_empty() && lines[line - 1].contains(first), "{sql:?} in {text:?}");
    }
}

fn blocks(statements: &[Statement]) -> String {
    let block = |Statement { sql, .. }: &Statement| {
        format!("-- +goose StatementBegin\n{sql}\n;\n-- +goose StatementEnd\n")
    };
    statements.iter().map(block).collect()
}

/// The statements without what two ways of writing them may differ in: carriage returns, and
/// semicolons at the end.
fn texts(section: &Section) -> [Vec<String>; 2] {
    let text = |Statement { sql, .. }: &Statement| {
        let end = |char: char| char.is_whitespace() || char == ';';
        sql.replace('\r', "").trim_end_matches(end).to_owned()
    };
    [&section.up, &section.down].map(|statements| statements.iter().map(text).collect())
}
