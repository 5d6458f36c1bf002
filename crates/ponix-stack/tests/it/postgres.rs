//! Each operation on a real PostgreSQL server.

use std::process::Command;

use ponix_stack::Postgres;

/// Asks with psql, which comes with the server, and returns the bare answer.
fn sql(postgres: &Postgres, statement: &str) -> String {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
        .args(["--command", statement, &postgres.url()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statement}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn keeps_what_was_committed_over_kill_and_stop() {
    let postgres = Postgres::builder()
        .setting("max_connections", "7")
        .start()
        .await
        .unwrap();
    let port = postgres.port();
    assert_eq!(sql(&postgres, "SHOW max_connections"), "7");
    sql(&postgres, "CREATE TABLE t AS SELECT 1 AS n");
    postgres.kill().await.unwrap();
    postgres.start_again().await.unwrap();
    sql(&postgres, "INSERT INTO t VALUES (2)");
    let status = postgres.stop().await.unwrap();
    assert!(status.success(), "{status}");
    postgres.start_again().await.unwrap();
    assert_eq!(sql(&postgres, "SELECT sum(n) FROM t"), "3");
    assert_eq!(postgres.port(), port);
}

#[tokio::test]
async fn a_given_folder_is_used_again() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    // The server may run as another user, who must get through.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let start = || {
        Postgres::builder()
            .data_dir(folder.path())
            .user_password("u", "p")
            .start()
    };
    let first = start().await.unwrap();
    sql(&first, "CREATE TABLE t AS SELECT 42 AS n");
    drop(first);
    let second = start().await.unwrap();
    assert_eq!(sql(&second, "SELECT n FROM t"), "42");
}

#[tokio::test]
async fn a_paused_server_answers_nobody_and_goes_on() {
    let postgres = Postgres::start().await.unwrap();
    postgres.pause().await.unwrap();
    assert!(postgres.is_running());
    let output = Command::new("timeout")
        .args(["1", "psql", "--command", "SELECT 1", &postgres.url()])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(124),
        "it should hang: {output:?}"
    );
    postgres.resume().await.unwrap();
    assert_eq!(sql(&postgres, "SELECT 1"), "1");
}
