//! No server survives the process that started it, however that ends.

use std::path::Path;
use std::time::Duration;

use ponix_stack::{Nats, Process, eventually};

const SOON: Duration = Duration::from_secs(20);
/// Tells the helper that it is one.
const HELPER: &str = "STACK_TEST_HELPER";

/// Not a test: what [`servers_die_with_a_killed_process`] runs in a process of its own.
#[tokio::test]
#[ignore = "run by another test, in a process that is killed"]
async fn helper() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    // The thread that asks for the server ends at once; the server must not end with it.
    let nats = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Nats::start()).unwrap()
    })
    .join()
    .unwrap();
    println!(
        "server {} in {};",
        nats.pid().unwrap(),
        nats.folder().display()
    );
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_die_with_a_killed_process() {
    let setpriv = std::process::Command::new("setpriv")
        .arg("--version")
        .output();
    if setpriv.is_err() {
        println!("skipped: without setpriv a killed process leaves its servers behind");
        return;
    }
    let mut builder = Process::builder("helper", std::env::current_exe().unwrap())
        .args(["--exact", "orphans::helper", "--ignored", "--nocapture"])
        .env(HELPER, "1");
    if let Some(server) = std::env::var_os("PONIX_NATS_SERVER") {
        builder = builder.env("PONIX_NATS_SERVER", std::path::absolute(server).unwrap());
    }
    let helper = builder.start().unwrap();
    let (pid, folder) = eventually("the helper's server", SOON, || async {
        told(&helper.log().unwrap()).ok_or_else(|| helper.log_tail())
    })
    .await
    .unwrap();
    let alive = || Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        alive(),
        "the server should outlive the thread that started it"
    );

    helper.kill().await.unwrap();
    let gone = eventually("the server to be gone", SOON, || async { !alive() }).await;
    if gone.is_err() {
        // A failed test must not leave behind what it complains about.
        let kill = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        println!("killed {pid}: {kill:?}");
    }
    gone.unwrap();
    assert!(folder.is_dir(), "a killed process cannot tidy up");
    drop(helper);
}

fn told(log: &str) -> Option<(u32, std::path::PathBuf)> {
    let (_, told) = log.split_once("server ")?;
    let (pid, rest) = told.split_once(" in ")?;
    let (folder, _) = rest.split_once(';')?;
    Some((pid.parse().ok()?, folder.into()))
}
