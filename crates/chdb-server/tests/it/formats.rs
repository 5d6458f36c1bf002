//! Results, whole and by block, in formats with and without a header.

use serde_json::Value;

use crate::server::server_or_skip;

/// More than three blocks of the engine.
const ROWS: usize = 200_000;

#[tokio::test]
async fn a_large_result_is_one_document_in_every_format() {
    let server = server_or_skip!();
    let reply = async |format: &str| {
        let statement =
            format!("SELECT number AS n, toString(number) AS `a \"b\"\nc` FROM numbers({ROWS})");
        let reply = server
            .post(
                &[("default_format", format), ("max_threads", "1")],
                statement,
            )
            .await;
        assert!(
            reply.status.is_success() && !reply.cut,
            "{format}: {}",
            reply.text()
        );
        reply.body
    };
    let lines = |body: &[u8]| body.iter().filter(|byte| **byte == b'\n').count();

    assert_eq!(lines(&reply("TabSeparated").await), ROWS);
    assert_eq!(lines(&reply("TSVWithNames").await), ROWS + 1);
    assert_eq!(lines(&reply("TSVWithNamesAndTypes").await), ROWS + 2);
    assert_eq!(lines(&reply("CSV").await), ROWS);
    // The second column's name holds a line end, which CSV keeps.
    assert_eq!(lines(&reply("CSVWithNames").await), ROWS + 2);
    assert_eq!(lines(&reply("JSONEachRow").await), ROWS);
    assert_eq!(
        lines(&reply("JSONCompactEachRowWithNamesAndTypes").await),
        ROWS + 2
    );
    let plain = reply("RowBinary").await;
    let with_header = reply("RowBinaryWithNamesAndTypes").await;
    assert!(with_header.ends_with(&plain) && with_header.len() < plain.len() + 100);

    let json: Value = serde_json::from_slice(&reply("JSON").await).unwrap();
    assert_eq!(
        (
            json["rows"].as_u64(),
            json["data"].as_array().unwrap().len()
        ),
        (Some(ROWS as u64), ROWS)
    );
    let parquet = reply("Parquet").await;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    assert!(reply("Null").await.is_empty());
}

#[tokio::test]
async fn an_empty_result_still_has_its_document() {
    let server = server_or_skip!();
    let body = async |format: &str| {
        server
            .sql(&format!("SELECT 1 AS a WHERE 0 FORMAT {format}"))
            .await
    };
    assert_eq!(body("TabSeparated").await, "");
    assert_eq!(body("TSVWithNames").await, "a");
    assert_eq!(
        body("RowBinaryWithNamesAndTypes").await,
        "\u{1}\u{1}a\u{5}UInt8"
    );
    let json: Value = serde_json::from_str(&body("JSON").await).unwrap();
    assert_eq!(json["rows"], 0);
}

#[tokio::test]
async fn totals_and_extremes_follow_the_rows() {
    let server = server_or_skip!();
    let totals = server
        .sql("SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k")
        .await;
    assert_eq!(totals, "0\t5\n1\t5\n\n0\t10");
    let extremes = server
        .post(&[("extremes", "1")], "SELECT number FROM numbers(3)")
        .await;
    assert_eq!(extremes.text(), "0\n1\n2\n\n0\n2\n");
}

#[tokio::test]
async fn statements_that_show_something_have_a_format_too() {
    let server = server_or_skip!();
    server.sql("CREATE TABLE t (a UInt8) ENGINE = Memory").await;
    assert_eq!(server.sql("SHOW TABLES").await, "t");
    assert_eq!(
        server.sql("EXISTS TABLE t FORMAT JSONEachRow").await,
        r#"{"result":1}"#
    );
    assert!(server.sql("DESCRIBE t").await.starts_with("a\tUInt8"));
    assert!(
        server
            .sql("EXPLAIN SYNTAX SELECT a FROM t")
            .await
            .contains("SELECT a")
    );
    let none = server.post(&[], "DROP TABLE t").await;
    assert_eq!(
        (none.text().as_str(), none.header("x-clickhouse-format")),
        ("", "")
    );
}

#[tokio::test]
async fn native_is_given_in_the_revision_the_client_knows() {
    let server = server_or_skip!();
    let columns = [
        "toInt8(1)",
        "toUInt256(2)",
        "toFloat32(1.5)",
        "toDecimal128(1, 3)",
        "toDate32('2026-01-02')",
        "toDateTime64('2026-01-02 03:04:05', 9, 'Europe/Berlin')",
        "toFixedString('abc', 5)",
        "CAST('b, (' AS Enum16('a' = 1, 'b, (' = 2))",
        "generateUUIDv4()",
        "toIPv6('::1')",
        "toIntervalDay(3)",
        "NULL",
        "toNullable('x')",
        "toLowCardinality('x')",
        "toLowCardinality(toNullable('x'))",
        "[toLowCardinality('x'), 'y']",
        "[]::Array(LowCardinality(String))",
        "[[1, 2], []]",
        "map('a', [toLowCardinality('b')])",
        "(1, 'x')::Tuple(a UInt8, `b c` Nullable(String))",
        "tuple()",
        "'{\"a\":{\"b\":1}}'::JSON",
        "[('{}'::JSON, 1)]",
        "(1., 2.)::Point",
        "[[(1., 2.)]]::Polygon",
        "true",
        "toBFloat16(1)",
    ];
    let statement = format!(
        "SELECT {}, 'last' FROM numbers(3) FORMAT Native",
        columns.join(", ")
    );
    let reply = async |revision: &str| {
        let text = "output_format_native_write_json_as_string";
        let parameters = [("client_protocol_version", revision), (text, "1")];
        server.post(&parameters, statement.clone()).await
    };
    let (old, with_info, with_byte) =
        (reply("0").await, reply("54405").await, reply("54460").await);
    for reply in [&old, &with_info, &with_byte] {
        assert!(
            reply.status.is_success() && reply.body.ends_with(b"\x04last\x04last\x04last"),
            "{}",
            reply.text()
        );
    }
    assert!(
        with_info
            .body
            .starts_with(b"\x01\x00\x02\xff\xff\xff\xff\x00")
    );
    assert_eq!(
        with_byte.body.len(),
        with_info.body.len() + columns.len() + 1
    );

    let large = server.post(
        &[("client_protocol_version", "54405")],
        "SELECT number FROM numbers(200000) FORMAT Native",
    );
    let blocks = large
        .await
        .body
        .windows(8)
        .filter(|bytes| bytes == b"\x01\x00\x02\xff\xff\xff\xff\x00")
        .count();
    assert!(blocks > 1, "{blocks} blocks");
    // JSON as clickhouse-connect reads it: an object; as clickhouse-go reads it: a text.
    let json = "SELECT '{\"a\":1}'::JSON AS j, 2 AS n FORMAT Native";
    let version = async |revision: &str| {
        let body = server
            .post(&[("client_protocol_version", revision)], json)
            .await
            .body;
        let name_end = body
            .windows(6)
            .position(|bytes| bytes == b"\x01j\x04JSO")
            .unwrap()
            + 7;
        body[name_end + usize::from(revision == "54460")]
    };
    assert_ne!(version("54405").await, 1);
    assert_eq!(version("54460").await, 1);
    let variant = "SELECT 1::Dynamic AS d, 2 AS n FORMAT Native";
    assert!(
        server
            .post(&[("client_protocol_version", "54405")], variant)
            .await
            .status
            .is_success()
    );
    server
        .post(&[("client_protocol_version", "54460")], variant)
        .await
        .assert_code(48);
}
