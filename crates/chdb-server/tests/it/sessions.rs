//! Sessions: what lasts in one, and what does not.

use std::time::Duration;

use ponix_stack::eventually;

use crate::server::server_or_skip;

#[tokio::test]
async fn a_session_keeps_what_was_set_in_it() {
    let server = server_or_skip!();
    let session = [("session_id", "s")];
    server.post(&session, "SET max_block_size = 7").await;
    server
        .post(&session, "CREATE TEMPORARY TABLE here (a UInt8)")
        .await;
    server
        .post(&session, "INSERT INTO here VALUES (1), (2)")
        .await;
    assert_eq!(
        server
            .post(
                &session,
                "SELECT sum(a), getSetting('max_block_size') FROM here"
            )
            .await
            .text(),
        "3\t7\n"
    );
    server
        .post(&[("session_id", "other")], "SELECT sum(a) FROM here")
        .await
        .assert_code(60);
    server
        .post(&[], "SELECT sum(a) FROM here")
        .await
        .assert_code(60);
}

#[tokio::test]
async fn what_the_url_sets_lasts_for_one_statement_in_a_session_too() {
    let server = server_or_skip!();
    server.sql("CREATE DATABASE x").await;
    server
        .post(&[("session_id", "s")], "SET max_block_size = 7")
        .await;
    let probe =
        "SELECT getSetting('max_block_size'), getSetting('max_threads') = 3, currentDatabase()";
    let parameters = [
        ("session_id", "s"),
        ("database", "x"),
        ("max_block_size", "9"),
        ("max_threads", "3"),
    ];
    assert_eq!(server.post(&parameters, probe).await.text(), "9\t1\tx\n");
    assert_eq!(
        server.post(&[("session_id", "s")], probe).await.text(),
        "7\t0\tdefault\n"
    );
    // Taken back after a failure, too.
    server
        .post(&parameters, "SELECT nosuch")
        .await
        .assert_code(47);
    server
        .post(
            &[
                ("session_id", "s"),
                ("max_block_size", "9"),
                ("nosuch", "1"),
            ],
            "SELECT 1",
        )
        .await
        .assert_code(115);
    assert_eq!(
        server.post(&[("session_id", "s")], probe).await.text(),
        "7\t0\tdefault\n"
    );
}

#[tokio::test]
async fn a_session_ends_when_asked_to_and_when_idle() {
    let server = server_or_skip!();
    let check = [("session_id", "s"), ("session_check", "1")];
    server.post(&check, "SELECT 1").await.assert_code(372);
    server.post(&[("session_id", "s")], "SELECT 1").await;
    assert_eq!(server.post(&check, "SELECT 1").await.text(), "1\n");
    server
        .post(&[("session_id", "s"), ("close_session", "1")], "SELECT 1")
        .await;
    server.post(&check, "SELECT 1").await.assert_code(372);

    server
        .post(&[("session_id", "s"), ("session_timeout", "0")], "SELECT 1")
        .await;
    eventually("the session ends", Duration::from_secs(10), async || {
        // Looking at it would keep it: a statement in another session sweeps.
        server
            .post(
                &[("session_id", "broom"), ("close_session", "1")],
                "SELECT 1",
            )
            .await;
        server
            .post(&check, "SELECT 1")
            .await
            .header("x-clickhouse-exception-code")
            == "372"
    })
    .await
    .unwrap();
    server
        .post(
            &[("session_id", "s"), ("session_timeout", "1000000")],
            "SELECT 1",
        )
        .await
        .assert_code(36);
}

#[tokio::test]
async fn one_statement_at_a_time_and_a_bounded_number_of_sessions() {
    let server = server_or_skip!("--sessions-max", "2");
    // A probe of the other may hold the session when this arrives.
    let slow = async {
        loop {
            let reply = server.post(&[("session_id", "s")], "SELECT sleep(1)").await;
            if reply.header("x-clickhouse-exception-code") != "373" {
                return reply;
            }
        }
    };
    let second = async {
        eventually(
            "the session is taken",
            Duration::from_secs(10),
            async || {
                server
                    .post(&[("session_id", "s")], "SELECT 1")
                    .await
                    .header("x-clickhouse-exception-code")
                    == "373"
            },
        )
        .await
    };
    let (slow, second) = tokio::join!(slow, second);
    second.unwrap();
    assert_eq!(slow.text(), "0\n");
    server.post(&[("session_id", "t")], "SELECT 1").await;
    server
        .post(&[("session_id", "u")], "SELECT 1")
        .await
        .assert_code(202);
}
