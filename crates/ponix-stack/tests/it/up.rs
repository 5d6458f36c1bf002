//! The program behind `scripts/up`, with the service that the workspace has built.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use ponix_stack::{Process, ProcessBuilder, Signal, eventually, http_get};
use tempfile::TempDir;

/// Generous: the service may wait for a server that is gone, and the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_mins(1);
const PROGRAMS: [&str; 3] = ["nats-server", "chdb-server", "ponix-all-in-one"];

/// What tests are told about the servers' programs is told to ponix-up too.
const PLACES: [&str; 3] = ["PONIX_LIBCHDB", "PONIX_CHDB_SERVER", "PONIX_NATS_SERVER"];

struct Up {
    process: Process,
    admin: std::net::SocketAddr,
    /// Last: removed when nothing writes to it any more.
    _data: TempDir,
}

impl Up {
    async fn start() -> Self {
        let (up, data) = builder();
        let admin = free_addr();
        let process = up
            .env("PONIX_ADMIN_ADDR", admin.to_string())
            .env("PONIX_INGEST_ADDR", free_addr().to_string())
            .start()
            .unwrap();
        let up = Self {
            process,
            admin,
            _data: data,
        };
        eventually("ponix to be up", SOON, || async {
            let log = up.log();
            let is_up = log.lines().any(|line| line.starts_with("ponix is up"));
            if is_up { Ok(()) } else { Err(log) }
        })
        .await
        .unwrap();
        up
    }

    fn log(&self) -> String {
        self.process.log().unwrap()
    }

    /// The programs that it runs, by name.
    fn children(&self) -> BTreeMap<String, u32> {
        children_of(self.process.pid().unwrap())
    }

    async fn exit_code(&self) -> Option<i32> {
        let ended = tokio::time::timeout(SOON, self.process.wait()).await;
        ended.unwrap().unwrap().code()
    }
}

pub(crate) fn builder() -> (ProcessBuilder, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let mut up = Process::builder("up", env!("CARGO_BIN_EXE_ponix-up"))
        .env("PONIX_UP_DATA_DIR", data.path())
        .env("PONIX_INTERVAL_SECS", "0.1");
    for port in [
        "PONIX_UP_NATS_PORT",
        "PONIX_UP_NATS_MONITORING_PORT",
        "PONIX_UP_CLICKHOUSE_PORT",
    ] {
        up = up.env(port, free_addr().port().to_string());
    }
    for place in PLACES {
        if let Some(path) = std::env::var_os(place) {
            up = up.env(place, std::path::absolute(path).unwrap());
        }
    }
    (up, data)
}

pub(crate) fn free_addr() -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn children_of(parent: u32) -> BTreeMap<String, u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .filter_map(|pid| Some((program_of(pid)?, pid)))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Nothing for a process that is gone, also when nobody has asked for its status yet.
fn program_of(pid: u32) -> Option<String> {
    let exe = Path::new(&format!("/proc/{pid}/exe")).read_link().ok()?;
    Some(exe.file_name()?.to_str()?.to_owned())
}

async fn gone(children: &BTreeMap<String, u32>) {
    eventually("all children to be gone", SOON, || async {
        let left: Vec<_> = children
            .values()
            .filter_map(|pid| program_of(*pid))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_signal_stops_everything() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let up = Up::start().await;
        let children = up.children();
        assert_eq!(children.len(), PROGRAMS.len(), "{children:?}");
        http_get(up.admin, "/livez").await.unwrap();

        up.process.send_signal(signal).unwrap();

        assert_eq!(up.exit_code().await, Some(0), "{signal}: {}", up.log());
        gone(&children).await;
    }
}

/// What a shell prints for a line that was pasted into it.
async fn pasted(command: &str) -> String {
    let output = tokio::process::Command::new("sh")
        .args(["-c", command])
        .output()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_commands_that_it_prints_send_an_event_and_find_it() {
    let up = Up::start().await;
    let commands = eventually("three commands", SOON, || async {
        let log = up.log();
        let found = log.lines().filter(|line| line.starts_with("curl "));
        <[String; 3]>::try_from(found.map(str::to_owned).collect::<Vec<_>>()).map_err(|_| log)
    })
    .await
    .unwrap();
    let [send, find, ask] = &commands;
    let answer = pasted(send).await;
    assert!(answer.contains("\"status\":\"accepted\""), "{answer}");
    eventually("the event in the table", SOON, || async {
        let rows = pasted(find).await;
        let is_there = rows.lines().any(|row| row.contains("\"pressure\":2.5"));
        if is_there { Ok(()) } else { Err(rows) }
    })
    .await
    .unwrap();
    let ready = pasted(ask).await;
    assert!(ready.contains("\"ready\":true"), "{ready}");
    up.process.send_signal(Signal::SIGTERM).unwrap();
    assert_eq!(up.exit_code().await, Some(0));
}

#[tokio::test]
async fn help_and_version_start_nothing() {
    for (argument, said) in [("--help", "Usage: ponix-up"), ("--version", "ponix-up ")] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_ponix-up"))
            .arg(argument)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn a_part_that_ends_by_itself_stops_the_rest() {
    for program in PROGRAMS {
        let up = Up::start().await;
        let children = up.children();
        let victim = i32::try_from(children[program]).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), Signal::SIGKILL).unwrap();

        assert_eq!(up.exit_code().await, Some(1), "{program}: {}", up.log());
        let told = format!("ponix-up: {program} ended by itself");
        assert!(up.log().contains(&told), "{}", up.log());
        gone(&children).await;
    }
}

#[tokio::test]
async fn nothing_survives_a_killed_ponix_up() {
    let up = Up::start().await;
    let children = up.children();
    assert_eq!(children.len(), PROGRAMS.len());

    up.process.kill().await.unwrap();

    gone(&children).await;
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line_and_nothing_starts() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (up, data) = builder();
    let up = up
        .env("PONIX_ADMIN_ADDR", &addr)
        .env("PONIX_INGEST_ADDR", free_addr().to_string())
        .start()
        .unwrap();

    assert_eq!(up.wait().await.unwrap().code(), Some(1));
    let log = up.log().unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(log.contains(&format!("port {port} ")), "{log}");
    assert!(
        log.contains(&format!("pid {}", std::process::id())),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_wrong_configuration_of_the_service_has_its_exit_code() {
    let (up, _data) = builder();
    let up = up
        .env("PONIX_ADMIN_ADDR", free_addr().to_string())
        .env("PONIX_INGEST_ADDR", free_addr().to_string())
        .env("PONIX_NATS_BATCH_SIZE", "many")
        .start()
        .unwrap();

    let status = tokio::time::timeout(SOON, up.wait()).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(64), "{}", up.log().unwrap());
}
