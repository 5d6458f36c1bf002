//! The runner under real signals: drives the example as a child process.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io::{BufRead, BufReader, Lines},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The example as a child process; it is killed with the test.
struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(example())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until the service has printed `line`.
    fn wait_for(&mut self, line: &str) {
        let found = self.lines.any(|printed| printed.unwrap() == line);
        assert!(found, "the service ended without printing {line:?}");
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the service to end; returns its exit code and the lines not yet read.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let lines = self.lines.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), lines)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo names no path for examples; they are beside the folder of the test binaries.
fn example() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let example = deps
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/basic_runner");
    assert!(
        example.exists(),
        "{} is missing: `cargo build -p ponix-runner --examples`",
        example.display()
    );
    example
}

#[test]
fn sigterm_sigint_and_sighup_let_the_unit_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut service = Service::start(&[("EXAMPLE_WORK_MS", "300")]);
        service.wait_for("unit begun");
        service.send(signal);

        let (code, lines) = service.end();
        assert_eq!(code, Some(0));
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "unit finished",
                "health ended",
                "closed connection",
                "closed first closer"
            ]
        );
    }
}

#[test]
fn second_signal_cuts_the_unit_off() {
    let mut service = Service::start(&[("EXAMPLE_WORK_MS", "3600000")]);
    service.wait_for("unit begun");
    // Two different signals: equal ones may arrive as one.
    service.send(Signal::SIGTERM);
    service.send(Signal::SIGINT);

    let (code, mut lines) = service.end();
    assert_eq!(code, Some(2));
    // The hard token reaches all processes at once; the closers have their order.
    lines[..2].sort();
    assert_eq!(
        lines,
        [
            "health ended",
            "unit cut off",
            "closed connection",
            "closed first closer"
        ]
    );
}

#[test]
fn grace_time_cuts_the_unit_off() {
    let mut service = Service::start(&[("EXAMPLE_WORK_MS", "3600000"), ("EXAMPLE_GRACE_MS", "1")]);
    service.wait_for("unit begun");
    service.send(Signal::SIGTERM);

    let (code, lines) = service.end();
    assert_eq!(code, Some(2));
    assert!(lines.contains(&"unit cut off".to_owned()));
}

#[test]
fn signal_interrupts_the_start_up_and_closers_run() {
    let mut service = Service::start(&[("EXAMPLE_STARTUP_MS", "3600000")]);
    service.wait_for("starting up");
    service.send(Signal::SIGTERM);

    let (code, lines) = service.end();
    assert_eq!(code, Some(0));
    assert_eq!(
        lines,
        ["health ended", "closed connection", "closed first closer"]
    );
}

#[test]
fn wrong_configuration_has_its_own_exit_code() {
    let service = Service::start(&[("EXAMPLE_WORK_MS", "soon")]);

    assert_eq!(service.end(), (Some(64), vec![]));
}
