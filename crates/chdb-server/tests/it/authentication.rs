//! Who may send statements over the wire.

use hyper::{Method, StatusCode};

use crate::server::server_or_skip;

#[tokio::test]
async fn only_the_configured_user_gets_in() {
    let server = server_or_skip!("--user", "ponix", "--password", "secret");
    let ask = async |parameters: &[(&str, &str)], headers: &[(&str, &str)]| {
        server
            .request(Method::POST, parameters, headers, "SELECT 1")
            .await
    };
    assert_eq!(
        ask(&[("user", "ponix"), ("password", "secret")], &[])
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        ask(
            &[],
            &[
                ("x-clickhouse-user", "ponix"),
                ("x-clickhouse-key", "secret")
            ]
        )
        .await
        .status,
        StatusCode::OK
    );
    assert_eq!(
        ask(&[], &[("authorization", "Basic cG9uaXg6c2VjcmV0")])
            .await
            .status,
        StatusCode::OK
    );
    for (parameters, headers) in [
        (vec![], vec![]),
        (vec![("user", "ponix"), ("password", "wrong")], vec![]),
        (vec![], vec![("authorization", "Basic cG9uaXg6d3Jvbmc=")]),
    ] {
        let reply = ask(&parameters, &headers).await;
        reply.assert_code(516);
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(!reply.text().contains("secret"));
    }
    assert!(!server.process.log().unwrap().contains("secret"));
}

#[tokio::test]
async fn a_reader_reads_each_row_once_and_changes_nothing() {
    let server = server_or_skip!("--reader-user", "reader");
    let ask = async |user: &str, statement: &'static str| {
        let parameters = [("user", user)];
        server
            .request(Method::POST, &parameters, &[], statement)
            .await
    };
    for statement in [
        "CREATE TABLE t (id UInt8, n UInt8) ENGINE = ReplacingMergeTree ORDER BY id",
        "SYSTEM STOP MERGES t",
        "INSERT INTO t VALUES (1, 1)",
        "INSERT INTO t VALUES (1, 2)",
    ] {
        let reply = ask("default", statement).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    }
    let count = "SELECT count() FROM t";
    assert_eq!(ask("default", count).await.text(), "2\n");
    assert_eq!(ask("reader", count).await.text(), "1\n");
    // Its own settings come behind those of the profile.
    let every = ask("reader", "SELECT count() FROM t SETTINGS final = 0").await;
    assert_eq!(every.text(), "2\n");
    for statement in [
        "INSERT INTO t VALUES (3, 3)",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
    ] {
        ask("reader", statement).await.assert_code(164);
    }
    assert_eq!(ask("default", count).await.text(), "2\n");
}
