//! The limit of time of a test.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use ponix_stack::{Process, Signal};

/// Set in the run of this program that is to hang.
const HANG: &str = "TEST_THAT_HANGS";

#[tokio::test]
async fn hangs_when_told_to() {
    if std::env::var_os(HANG).is_none() {
        return;
    }
    let _process = Process::builder("talker", "sh")
        .args(["-c", "echo last words; exec sleep 1000"])
        .start()
        .unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_test_that_hangs_is_ended_and_says_what_it_saw() {
    let this = std::env::current_exe().unwrap();
    let run = Process::builder("tests", this)
        .args(["watchdog::hangs_when_told_to", "--exact"])
        .env(HANG, "1")
        .env("PONIX_TEST_LIMIT_SECS", "1")
        .start()
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), run.wait()).await;
    let status = ended.expect("it still hangs").unwrap();
    let log = run.log().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{log}");
    for text in ["HANGS: watchdog::hangs_when_told_to", "last words"] {
        assert!(log.contains(text), "{text} is not in\n{log}");
    }
}
