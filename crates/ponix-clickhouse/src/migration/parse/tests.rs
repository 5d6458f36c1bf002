use proptest::prelude::*;

use super::*;

fn sql(statements: &[Statement]) -> Vec<(&str, usize)> {
    statements
        .iter()
        .map(|statement| (statement.sql.as_str(), statement.line))
        .collect()
}

fn kind(text: &str) -> (ParseErrorKind, usize) {
    let error = parse("x.sql", text).expect_err("the file is wrong");
    (error.kind, error.line)
}

#[test]
fn statements_end_at_a_closing_semicolon() {
    let text = "\
-- a comment before everything

-- +goose Up
-- ignored
CREATE TABLE a (x UInt8) -- with a comment;
ENGINE = Memory; -- and another

ALTER TABLE a
  ADD COLUMN y String DEFAULT 'a;b' ;
-- +goose Down
DROP TABLE a;
";
    let section = parse("x.sql", text).expect("a good file");
    let up = [
        (
            "CREATE TABLE a (x UInt8) -- with a comment;\nENGINE = Memory; -- and another",
            5,
        ),
        ("ALTER TABLE a\n  ADD COLUMN y String DEFAULT 'a;b'", 8),
    ];
    assert_eq!(sql(&section.up), up);
    assert_eq!(sql(&section.down), [("DROP TABLE a", 11)]);
}

#[test]
fn a_block_is_one_statement_whatever_is_in_it() {
    let text = "\
-- +goose NO TRANSACTION
-- +goose up
-- +goose StatementBegin
SELECT 1;
-- inside
SELECT 2;
-- +goose StatementEnd
SELECT 3;
-- +goose ENVSUB OFF
";
    let section = parse("x.sql", text).expect("a good file");
    assert_eq!(
        sql(&section.up),
        [("SELECT 1;\n-- inside\nSELECT 2", 4), ("SELECT 3", 8)]
    );
    assert_eq!(section.down, []);
}

#[test]
fn line_ends_of_either_kind_are_read() {
    let section = parse("x.sql", "-- +goose Up\r\nSELECT 1;\r\n").expect("a good file");
    assert_eq!(sql(&section.up), [("SELECT 1", 2)]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    use ParseErrorKind as Kind;
    let cases = [
        ("", Kind::UpMissing, 1),
        ("-- just a comment\n", Kind::UpMissing, 1),
        ("SELECT 1;\n-- +goose Up\n", Kind::UpMissing, 1),
        ("-- +goose Up\n-- +goose Up\n", Kind::UpRepeated, 2),
        (
            "-- +goose Up\n-- +goose Down\n-- +goose Up\n",
            Kind::UpRepeated,
            3,
        ),
        ("-- +goose Down\n", Kind::DownMisplaced, 1),
        (
            "-- +goose Up\n-- +goose Down\n-- +goose Down\n",
            Kind::DownMisplaced,
            3,
        ),
        ("-- +goose StatementBegin\n", Kind::BeginMisplaced, 1),
        (
            "-- +goose Up\nSELECT 1\n-- +goose StatementBegin\n",
            Kind::BeginMisplaced,
            3,
        ),
        (
            "-- +goose Up\n-- +goose StatementEnd\n",
            Kind::EndMisplaced,
            2,
        ),
        (
            "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n",
            Kind::EndMissing,
            2,
        ),
        (
            "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\n",
            Kind::EmptyStatement,
            3,
        ),
        ("-- +goose Up\n\nSELECT 1\n", Kind::SemicolonMissing, 3),
        (
            "-- +goose Up\nSELECT 1\n-- +goose Down\n",
            Kind::SemicolonMissing,
            3,
        ),
        ("-- +goose Up\n ;\n", Kind::EmptyStatement, 2),
        (
            "-- +goose Up\n-- +goose Sideways\n",
            Kind::UnknownAnnotation,
            2,
        ),
        ("-- +goose\n", Kind::UnknownAnnotation, 1),
        (" -- +goose Up\n", Kind::IndentedAnnotation, 1),
        (
            "-- +goose Up\n-- +goose ENVSUB ON\n",
            Kind::EnvironmentSubstitution,
            2,
        ),
    ];
    for (text, expected, line) in cases {
        assert_eq!(kind(text), (expected, line), "{text:?}");
    }
    let error = parse("1_x.sql", "").expect_err("an empty file");
    assert_eq!(error.to_string(), "1_x.sql:1: -- +goose Up must come first");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = parse("x.sql", &text);
    }

    #[test]
    fn no_order_of_lines_makes_it_panic(lines in prop::collection::vec(prop::sample::select(vec![
        "-- +goose Up", "-- +goose Down", "-- +goose StatementBegin", "-- +goose StatementEnd",
        "-- +goose NO TRANSACTION", "-- +goose", "--", ";", "SELECT 1;", "SELECT", "", "\t", "ü;",
    ]), 0..12)) {
        let text = lines.join("\n");
        if let Ok(section) = parse("x.sql", &text) {
            for statement in section.up.iter().chain(&section.down) {
                prop_assert!(!statement.sql.is_empty());
                prop_assert!(statement.line >= 1 && statement.line <= lines.len());
            }
        }
    }
}
