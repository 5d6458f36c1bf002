//! Each operation on a real PostgreSQL server.

use std::process::{Command, Stdio};
use std::time::Duration;

use ponix_stack::Postgres;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// Long enough to notice an answer that should not come, were it to come.
const NOTHING_FOR: Duration = Duration::from_millis(200);

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
    // Several times: its processes die together, and none may hold its memory when it comes back.
    for _ in 0..5 {
        postgres.kill().await.unwrap();
        postgres.start_again().await.unwrap();
    }
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
async fn a_folder_that_its_user_may_not_enter_is_named() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: PostgreSQL runs as who we are, unless that is root");
        return;
    }
    let closed = tempfile::tempdir_in("/tmp").unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(closed.path(), own).unwrap();
    let started = Postgres::builder().data_dir(closed.path().join("data"));
    let error = format!("{:#}", started.start().await.unwrap_err());
    let told = format!("who may not enter {}, which leads", closed.path().display());
    assert!(error.contains(&told), "{error}");
    assert!(error.contains("PONIX_UP_DATA_DIR"), "{error}");
}

/// A client that stays connected.
struct Session {
    psql: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn open(postgres: &Postgres) -> Self {
        let mut psql = tokio::process::Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .arg(postgres.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let answers = BufReader::new(psql.stdout.take().unwrap()).lines();
        Self { psql, answers }
    }

    async fn ask(&mut self, statement: &str) {
        let stdin = self.psql.stdin.as_mut().unwrap();
        stdin.write_all(statement.as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    async fn answer(&mut self) -> Option<String> {
        self.answers.next_line().await.unwrap()
    }
}

#[tokio::test]
async fn a_paused_server_answers_nobody_and_goes_on() {
    let postgres = Postgres::start().await.unwrap();
    let mut session = Session::open(&postgres);
    session.ask("SELECT 1;\n").await;
    assert_eq!(session.answer().await.as_deref(), Some("1"));
    postgres.pause().await.unwrap();
    assert!(postgres.is_running());
    session.ask("SELECT 2;\n").await;
    let answered = tokio::time::timeout(NOTHING_FOR, session.answer()).await;
    assert!(answered.is_err(), "its backend should be paused too");
    postgres.resume().await.unwrap();
    assert_eq!(session.answer().await.as_deref(), Some("2"));
    assert_eq!(sql(&postgres, "SELECT 3"), "3");
}

#[tokio::test]
async fn it_stops_and_dies_under_its_clients() {
    let postgres = Postgres::start().await.unwrap();
    for killed in [false, true] {
        let mut session = Session::open(&postgres);
        session.ask("SELECT 1;\n").await;
        assert_eq!(session.answer().await.as_deref(), Some("1"));
        let status = if killed {
            postgres.kill().await.unwrap()
        } else {
            postgres.stop().await.unwrap()
        };
        assert_eq!(status.success(), !killed, "{status}");
        session.ask("SELECT 2;\n").await;
        assert_eq!(session.answer().await, None);
        postgres.start_again().await.unwrap();
    }
}
