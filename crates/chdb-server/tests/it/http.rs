//! The protocol: paths, where a statement may be, parameters, headers, exceptions.

use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use crate::server::server_or_skip;

#[tokio::test]
async fn it_says_that_it_is_there() {
    let server = server_or_skip!("--user", "a", "--password", "b");
    for path in ["/ping", "/", "/replicas_status"] {
        let request = Request::builder()
            .uri(path)
            .header("host", "x")
            .body(Full::default())
            .unwrap();
        let reply = server.send(request).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (StatusCode::OK, "Ok.\n"),
            "{path}"
        );
    }
    let request = Request::builder()
        .uri("/nowhere")
        .header("host", "x")
        .body(Full::default())
        .unwrap();
    assert_eq!(server.send(request).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_statement_may_be_in_the_url_in_the_body_or_in_both() {
    let server = server_or_skip!();
    let get = server
        .request(Method::GET, &[("query", "SELECT 1")], &[], "")
        .await;
    assert_eq!((get.status, get.text().as_str()), (StatusCode::OK, "1\n"));
    assert_eq!(server.post(&[], "SELECT 2").await.text(), "2\n");
    assert_eq!(server.post(&[("query", "SELECT")], "3").await.text(), "3\n");
    let head = server
        .request(Method::HEAD, &[("query", "SELECT 1")], &[], "")
        .await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    server.post(&[], "SELECT 1; SELECT 2").await.assert_code(62);
    assert_eq!(server.sql("SELECT 1;").await, "1");
    server.post(&[], "1 + 1").await.assert_code(62);
}

#[tokio::test]
async fn a_get_changes_nothing() {
    let server = server_or_skip!();
    for statement in [
        "CREATE TABLE t (a UInt8) ENGINE = Memory",
        "INSERT INTO t VALUES (1)",
        "DROP DATABASE default",
    ] {
        let reply = server
            .request(Method::GET, &[("query", statement)], &[], "")
            .await;
        reply.assert_code(164);
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    server
        .request(Method::GET, &[("query", "SELEC 1")], &[], "")
        .await
        .assert_code(62);
    assert_eq!(
        server
            .request(Method::GET, &[("query", "SHOW TABLES")], &[], "")
            .await
            .text(),
        ""
    );
}

#[tokio::test]
async fn parameters_hold_for_their_statement_alone() {
    let server = server_or_skip!();
    server.sql("CREATE DATABASE x").await;
    server
        .sql("CREATE TABLE x.t (a UInt8) ENGINE = Memory")
        .await;
    assert_eq!(
        server
            .post(
                &[("database", "x")],
                "SELECT currentDatabase(), count() FROM t"
            )
            .await
            .text(),
        "x\t0\n"
    );
    let in_header = server.request(
        Method::POST,
        &[],
        &[("x-clickhouse-database", "x")],
        "SELECT currentDatabase()",
    );
    assert_eq!(in_header.await.text(), "x\n");
    assert_eq!(server.sql("SELECT currentDatabase()").await, "default");
    let unknown = server.post(&[("database", "nosuch")], "SELECT 1").await;
    unknown.assert_code(81);
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);

    let set = server
        .post(
            &[("max_block_size", "7")],
            "SELECT getSetting('max_block_size')",
        )
        .await;
    assert_eq!(set.text(), "7\n");
    assert_ne!(server.sql("SELECT getSetting('max_block_size')").await, "7");
    let unknown = server.post(&[("nosuch", "1")], "SELECT 1").await;
    unknown.assert_code(115);
    assert!(
        unknown.text().contains("Unknown setting 'nosuch'"),
        "{}",
        unknown.text()
    );
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    for name in ["a`b", "a' = 1, b", "a = 1 --"] {
        assert_eq!(
            server.post(&[(name, "1")], "SELECT 1").await.status,
            StatusCode::NOT_FOUND,
            "{name}"
        );
    }
    let text = r"it's \ a `text`";
    let reply = server
        .post(
            &[("log_comment", text)],
            "SELECT getSetting('log_comment') FORMAT JSONCompact",
        )
        .await;
    assert_eq!(
        serde_json::from_slice::<Value>(&reply.body).unwrap()["data"][0][0],
        text
    );
}

#[tokio::test]
async fn placeholders_take_their_values_from_the_url_or_from_a_form() {
    let server = server_or_skip!();
    let statement = "SELECT {a:UInt8} + 1, {s:String}";
    let reply = server
        .post(&[("param_a", "4"), ("param_s", "x';--")], statement)
        .await;
    assert_eq!(reply.text(), "5\tx\\';--\n");
    server.post(&[], "SELECT {a:UInt8}").await.assert_code(456);

    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n{statement}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\n4\r\n\
         --b\r\nContent-Disposition: form-data; name=\"param_s\"\r\n\r\nx\r\n--b--\r\n"
    );
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    assert_eq!(
        server
            .request(Method::POST, &[], &headers, form)
            .await
            .text(),
        "5\tx\n"
    );
    server
        .request(Method::POST, &[], &headers, "--b\r\nnonsense")
        .await
        .assert_code(36);
}

#[tokio::test]
async fn headers_tell_about_the_statement() {
    let server = server_or_skip!();
    server
        .sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let insert = server
        .post(&[], "INSERT INTO t SELECT number FROM numbers(100)")
        .await;
    let summary: Value = serde_json::from_str(insert.header("x-clickhouse-summary")).unwrap();
    assert_eq!(summary["written_rows"], "100");

    let select = server
        .post(
            &[("query_id", "mine"), ("default_format", "JSON")],
            "SELECT a FROM t",
        )
        .await;
    assert_eq!(select.header("x-clickhouse-query-id"), "mine");
    assert_eq!(select.header("x-clickhouse-format"), "JSON");
    assert_eq!(
        select.header("x-clickhouse-timezone"),
        server.sql("SELECT timezone()").await
    );
    assert_eq!(
        select.header("content-type"),
        "application/json; charset=UTF-8"
    );
    let summary: Value = serde_json::from_str(select.header("x-clickhouse-summary")).unwrap();
    assert_eq!(
        (&summary["read_rows"], &summary["result_rows"]),
        (&"100".into(), &"100".into())
    );
    assert!(
        summary["elapsed_ns"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );

    let failed = server
        .post(&[("query_id", "mine too")], "SELECT nosuch")
        .await;
    failed.assert_code(47);
    assert_eq!(failed.header("x-clickhouse-query-id"), "mine too");
    assert_eq!(failed.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_failure_soon_enough_has_its_status_and_a_later_one_its_block() {
    let server = server_or_skip!();
    let early = server
        .post(&[], "SELECT throwIf(number = 100000) FROM numbers(200000)")
        .await;
    early.assert_code(395);
    assert_eq!(early.status, StatusCode::INTERNAL_SERVER_ERROR);

    let statement = "SELECT toString(number), throwIf(number = 3000000) FROM numbers(4000000)";
    let late = server.post(&[("max_threads", "1")], statement).await;
    assert_eq!(late.status, StatusCode::OK);
    assert!(late.cut, "the body has an end that looks whole");
    let tag = late.header("x-clickhouse-exception-tag").to_owned();
    assert_eq!(tag.len(), 16);
    let text = late.text();
    let (rows, block) = text
        .split_once(&format!("\r\n__exception__\r\n{tag}\r\n"))
        .expect("an exception block");
    assert!(rows.starts_with("0\t0\n1\t0\n"));
    assert!(block.starts_with("Code: 395. DB::Exception: "), "{block}");
    let block = block
        .strip_suffix(&format!(" {tag}\r\n__exception__\r\n"))
        .unwrap();
    let (message, length) = block.rsplit_once('\n').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), message.len() + 1);

    let held = server
        .post(
            &[("max_threads", "1"), ("wait_end_of_query", "1")],
            statement,
        )
        .await;
    held.assert_code(395);
}

#[tokio::test]
async fn files_of_the_client_are_refused() {
    let server = server_or_skip!();
    server
        .post(&[], "SELECT 1 INTO OUTFILE '/tmp/x'")
        .await
        .assert_code(358);
    server
        .post(&[], "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV")
        .await
        .assert_code(78);
}
