//! What [`inspect`] makes of statements, odd ones first of all.

use super::{Insert, Output, Refusal, Statement, inspect};

fn insert(sql: &str, format: &str, data: &str) -> (Statement, String) {
    let text = format!("{sql}{data}");
    (
        Statement::Insert(Insert {
            sql: sql.as_bytes().to_vec(),
            format: format.to_owned(),
            data_at: sql.len(),
        }),
        text,
    )
}

#[track_caller]
fn assert_insert(text: &str, sql: &str, format: &str, data: &str) {
    match inspect(text.as_bytes()) {
        Statement::Insert(insert) => {
            assert_eq!(String::from_utf8_lossy(&insert.sql).trim_end(), sql);
            assert_eq!(insert.format, format);
            assert_eq!(&text[insert.data_at..], data);
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn an_insert_is_taken_apart() {
    assert_insert(
        "INSERT INTO t FORMAT CSV\n1,2",
        "INSERT INTO t",
        "CSV",
        "1,2",
    );
    assert_insert(
        "insert into t (a, b) values (1, 'x')",
        "insert into t (a, b)",
        "Values",
        " (1, 'x')",
    );
    assert_insert(
        "INSERT INTO t FORMAT RowBinary \r\n\n",
        "INSERT INTO t",
        "RowBinary",
        "\n",
    );
    assert_insert(
        "INSERT INTO t FORMAT JSONEachRow {\"a\":1}",
        "INSERT INTO t",
        "JSONEachRow",
        "{\"a\":1}",
    );
    assert_insert("INSERT INTO t FORMAT CSV;\n1", "INSERT INTO t", "CSV", "1");
    assert_insert(
        "INSERT INTO t SETTINGS async_insert=0 FORMAT TSV\n",
        "INSERT INTO t SETTINGS async_insert=0",
        "TSV",
        "",
    );
    assert_insert(
        "INSERT INTO t FORMAT CSV SETTINGS a = 1, b='x y'\n1",
        "INSERT INTO t SETTINGS a = 1, b='x y'",
        "CSV",
        "1",
    );
    assert_insert(
        "/* why */ INSERT INTO FUNCTION file('a', 'CSV') VALUES (1)",
        "/* why */ INSERT INTO FUNCTION file('a', 'CSV')",
        "Values",
        " (1)",
    );
}

#[test]
fn names_that_look_like_keywords_are_names() {
    assert_insert(
        "INSERT INTO values VALUES (1)",
        "INSERT INTO values",
        "Values",
        " (1)",
    );
    assert_insert(
        "INSERT INTO db.format (format, `values`) FORMAT CSV 1",
        "INSERT INTO db.format (format, `values`)",
        "CSV",
        "1",
    );
    assert_insert(
        "INSERT INTO TABLE format FORMAT CSV 1",
        "INSERT INTO TABLE format",
        "CSV",
        "1",
    );
}

#[test]
fn binary_data_after_the_head_does_not_matter() {
    let mut text = b"INSERT INTO t FORMAT RowBinary\n".to_vec();
    let head = text.len();
    text.extend([0, 255, b'\'', b'(', b'\n', 0]);
    let Statement::Insert(insert) = inspect(&text) else {
        panic!("an insert")
    };
    assert_eq!(insert.data_at, head);
}

#[test]
fn an_insert_select_is_no_insert_of_data() {
    for text in [
        "INSERT INTO t SELECT 1 FORMAT CSV",
        "INSERT INTO t (a) SELECT values FROM s",
        "INSERT INTO t WITH 1 AS x SELECT x",
        "INSERT INTO t (SELECT 1)",
        "INSERT INTO t",
    ] {
        assert_eq!(
            inspect(text.as_bytes()),
            Statement::Other(Output::default()),
            "{text}"
        );
    }
}

#[test]
fn the_format_of_a_query_is_its_last_clause() {
    let format = |text: &str| match inspect(text.as_bytes()) {
        Statement::Select(output) | Statement::Other(output) => output.format,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(format("SELECT 1 FORMAT JSON").as_deref(), Some("JSON"));
    assert_eq!(format("select 1 format `CSV` ;").as_deref(), Some("CSV"));
    assert_eq!(
        format("SELECT 1 FORMAT JSON SETTINGS max_threads = 1, a = 'FORMAT x'").as_deref(),
        Some("JSON")
    );
    assert_eq!(
        format("SELECT 1 SETTINGS max_threads = 1 FORMAT JSON -- FORMAT CSV").as_deref(),
        Some("JSON")
    );
    assert_eq!(format("SHOW TABLES FORMAT TSV").as_deref(), Some("TSV"));
    assert_eq!(format("SELECT format FROM t"), None);
    assert_eq!(format("SELECT 'FORMAT JSON'"), None);
    assert_eq!(format("SELECT $x$ FORMAT JSON $x$"), None);
    assert_eq!(format("SELECT formatRow('CSV', 1), format('{}', 1)"), None);
    assert_eq!(format(""), None);
}

#[test]
fn queries_are_told_from_the_rest() {
    for text in [
        "SELECT 1",
        " -- c\n select 1",
        "WITH 1 AS x SELECT x",
        "(SELECT 1)",
        "FROM t SELECT 1",
        "/*a*/SELECT 1",
    ] {
        assert!(
            matches!(inspect(text.as_bytes()), Statement::Select(_)),
            "{text}"
        );
    }
    for text in [
        "CREATE TABLE t (a UInt8) ENGINE=Memory",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "",
        "SELEC 1",
        "'",
        "/*",
    ] {
        assert!(
            matches!(inspect(text.as_bytes()), Statement::Other(_)),
            "{text}"
        );
    }
    let Statement::Select(output) = inspect(b"SELECT a, sum(b) FROM t GROUP BY a WITH TOTALS")
    else {
        panic!("a query")
    };
    assert!(output.totals);
}

#[test]
fn files_of_the_client_are_refused() {
    assert_eq!(
        inspect(b"SELECT 1 INTO OUTFILE 'x' FORMAT CSV"),
        Statement::Refused(Refusal::Outfile)
    );
    assert_eq!(
        inspect(b"INSERT INTO t FROM INFILE 'x' FORMAT CSV"),
        Statement::Refused(Refusal::Infile)
    );
    assert_eq!(
        inspect(b"INSERT INTO t SELECT * FROM input('a UInt8') FORMAT CSV 1"),
        Statement::Refused(Refusal::Input)
    );
    let (expected, text) = insert("INSERT INTO t VALUES", "Values", "(1)");
    let Statement::Insert(expected) = expected else {
        unreachable!()
    };
    let Statement::Insert(found) = inspect(text.as_bytes()) else {
        panic!("an insert")
    };
    assert_eq!(found.data_at, expected.data_at);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        inspect(&text);
    }

    #[test]
    fn no_tokens_make_it_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "INSERT", "INTO", "t", "FORMAT", "VALUES", "SELECT", "SETTINGS", "a", "=", "1", ",", "(", ")", "'", "`",
                "--", "/*", "*/", "$", "$x$", "\n", ";", ".", "\\", "input", "INFILE", "OUTFILE", "\0",
            ]),
            0..20,
        ),
        space in proptest::sample::select(vec!["", " "]),
    ) {
        let text = words.join(space);
        if let Statement::Insert(insert) = inspect(text.as_bytes()) {
            assert!(insert.data_at <= text.len());
        }
    }
}
