//! Any program: environment, log, signals, exit status.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use ponix_stack::{Process, ProcessBuilder, Signal, eventually};

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> ProcessBuilder {
    Process::builder("shell", "/bin/sh").args(["-c", script])
}

async fn logged(process: &Process, line: &str) {
    eventually(format!("{line} in the log"), SOON, || async {
        let log = process.log().map_err(|error| error.to_string())?;
        if log.contains(line) { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
}

/// Says it is there, ends with 7 on SIGTERM, never by itself.
const PATIENT: &str = "trap 'exit 7' TERM; echo here; while :; do sleep 0.01; done";

#[tokio::test]
async fn the_exit_status_and_both_outputs_are_kept() {
    let process = shell("echo out; echo err >&2; exit 3").start().unwrap();
    let status = process.wait().await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(process.exit_status(), Some(status));
    assert_eq!(process.log().unwrap(), "out\nerr\n");
    assert!(!process.is_running());
    assert!(process.pid().is_none());
    assert!(process.memory_peak_bytes().is_none());
    assert!(process.pause().is_err());
}

#[tokio::test]
async fn stop_asks_and_tells_how_it_ended() {
    let process = shell(PATIENT).start().unwrap();
    logged(&process, "here").await;
    process.pause().unwrap();
    assert_eq!(
        process.stop().await.unwrap().code(),
        Some(7),
        "also when it was paused"
    );
    assert_eq!(
        process.stop().await.unwrap().code(),
        Some(7),
        "twice is nothing more"
    );
}

#[tokio::test]
async fn stop_kills_what_does_not_listen_and_says_so() {
    let process = shell("trap '' TERM; echo here; while :; do sleep 0.01; done")
        .stop_timeout(Duration::from_millis(100))
        .start()
        .unwrap();
    logged(&process, "here").await;
    let error = process.stop().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "shell did not end within 100ms of SIGTERM and was killed"
    );
    assert_eq!(process.exit_status().unwrap().signal(), Some(9));
}

#[tokio::test]
async fn any_signal_can_be_sent() {
    let process = shell("trap 'echo usr' USR1; echo here; while :; do sleep 0.01; done")
        .start()
        .unwrap();
    logged(&process, "here").await;
    process.send_signal(Signal::SIGUSR1).unwrap();
    logged(&process, "usr").await;
    assert_eq!(process.kill().await.unwrap().signal(), Some(9));
}

#[tokio::test]
async fn a_paused_process_does_nothing() {
    let process = shell("while :; do :; done").start().unwrap();
    process.pause().unwrap();
    assert!(process.is_running());
    let before = process.cpu_time().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(process.cpu_time().unwrap(), before);
    process.resume().unwrap();
    eventually("processor time to grow", SOON, || async {
        process.cpu_time().unwrap() > before
    })
    .await
    .unwrap();
    assert!(process.memory_peak_bytes().unwrap() > 0);
    assert!(process.memory_bytes().unwrap() <= process.memory_peak_bytes().unwrap());
}

#[tokio::test]
async fn the_environment_can_change_between_starts() {
    let process = shell(r#"echo "$A-$B""#)
        .env("A", "1")
        .env("B", "1")
        .start()
        .unwrap();
    process.wait().await.unwrap();
    process.set_env("B", "2");
    process.restart().await.unwrap();
    process.wait().await.unwrap();
    assert_eq!(process.log().unwrap(), "1-1\n1-2\n");
    assert_eq!(process.log_tail(), "1-2", "the tail is of the newest start");
    assert_eq!(process.starts(), 2);
}

#[tokio::test]
async fn a_running_process_is_not_started_again() {
    let process = shell(PATIENT).start().unwrap();
    let error = process.start().unwrap_err().to_string();
    assert_eq!(error, "shell is already running");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let process = Process::builder("ghost", "/no/such/program").start();
    match process {
        // Without setpriv the program itself is executed, and that fails at once.
        Err(error) => assert!(
            format!("{error:#}").contains("/no/such/program"),
            "{error:#}"
        ),
        Ok(process) => {
            assert!(!process.wait().await.unwrap().success());
            assert!(process.log_tail().contains("/no/such/program"));
        }
    }
}

#[tokio::test]
async fn a_dropped_process_is_gone_with_its_folder() {
    let process = shell(PATIENT).start().unwrap();
    let (pid, folder) = (process.pid().unwrap(), process.folder().to_owned());
    assert!(folder.is_dir());
    drop(process);
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn many_waiters_see_the_same_end() {
    let process = shell(PATIENT).start().unwrap();
    let (a, b, c) = tokio::join!(process.wait(), process.wait(), process.kill());
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(c.unwrap().signal(), Some(9));
}
