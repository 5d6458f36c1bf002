//! The binary as a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use ponix_stack::{Process, Signal};
use ponix_testkit::Worker;

use super::Metrics;

const BINARY: &str = env!("CARGO_BIN_EXE_ponix-all-in-one");

/// Describes a run of the binary.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceBuilder {
    binary: Option<&'static str>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

impl ServiceBuilder {
    /// Without any variable but the log's.
    pub(crate) fn new() -> Self {
        // What a developer has set in a shell must not change what the tests see.
        Self::default().env("RUST_LOG", "")
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and texts are passed as they stand"
    )]
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Another program than `ponix-all-in-one`.
    pub(crate) fn binary(mut self, binary: &'static str) -> Self {
        self.binary = Some(binary);
        self
    }

    pub(crate) fn start(self) -> Service {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let program = Path::new(self.binary.unwrap_or(BINARY));
        let worker = Worker::start(program, &args, &self.env).unwrap();
        Service { worker }
    }

    /// Makes a command of it, for a test that needs its pipes.
    pub(crate) fn into_command(self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PONIX_") {
                command.env_remove(name);
            }
        }
        command.args(self.args).envs(self.env).kill_on_drop(true);
        command
    }

    /// Starts it and waits until `/readyz` is green.
    pub(crate) async fn start_ready(self) -> Service {
        let service = self.start();
        service.ready().await;
        service
    }

    /// Runs it to its end; returns the exit code and all it printed.
    pub(crate) async fn run(self) -> (i32, String) {
        let service = self.start();
        let code = service.ended().await;
        (code, service.log())
    }
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    worker: Worker,
}

impl Service {
    /// Asks the admin endpoint.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        self.worker.get(path).await
    }

    /// Where the admin endpoint listens.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.worker.admin_addr()
    }

    /// Where the HTTP API listens: on a port that was free, which the log tells.
    pub(crate) fn api_addr(&self) -> anyhow::Result<SocketAddr> {
        let log = self.process().log()?;
        let addr = log
            .split("http api listens addr=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .context("the http api does not listen yet")?;
        Ok(addr.parse()?)
    }

    /// Why it is not ready; empty when it is.
    pub(crate) async fn reasons(&self) -> anyhow::Result<Vec<String>> {
        self.worker.reasons().await
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        self.worker.ready().await.unwrap();
    }

    /// Waits until one of the reasons for not being ready holds this text.
    pub(crate) async fn not_ready(&self, text: &str) {
        self.worker.not_ready(text).await.unwrap();
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        self.worker.metrics().await.unwrap()
    }

    /// Waits until the metrics are as told, and returns them.
    pub(crate) async fn metrics_when(
        &self,
        what: &str,
        as_told: impl Fn(&Metrics) -> bool + Send + Sync,
    ) -> Metrics {
        self.worker.metrics_when(what, as_told).await.unwrap()
    }

    /// Waits until the log holds this text.
    pub(crate) async fn logged(&self, text: &str) {
        let logged = self.worker.wait_for(text, || async {
            ensure!(self.log().contains(text), "not logged");
            Ok(())
        });
        logged.await.unwrap();
    }

    fn process(&self) -> &Process {
        self.worker.process()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process().send_signal(signal).unwrap();
    }

    /// Waits until it has ended by a signal, its own included.
    pub(crate) async fn aborted(&self) {
        let status = self.end().await;
        assert_eq!(status.code(), None, "{status}\n{}", self.log());
    }

    /// Waits for its end and returns the exit code.
    pub(crate) async fn ended(&self) -> i32 {
        let status = self.end().await;
        status
            .code()
            .unwrap_or_else(|| panic!("{status}\n{}", self.log()))
    }

    async fn end(&self) -> std::process::ExitStatus {
        self.worker.ended().await.unwrap()
    }

    /// Sends a signal and waits for the end; returns the exit code.
    pub(crate) async fn stop_by(&self, signal: Signal) -> i32 {
        self.signal(signal);
        self.ended().await
    }

    /// Stops it as an init system would, and asserts that it ended cleanly.
    pub(crate) async fn stop(&self) {
        assert_eq!(self.stop_by(Signal::SIGTERM).await, 0, "{}", self.log());
    }

    pub(crate) async fn kill(&self) {
        self.process().kill().await.unwrap();
    }

    /// All it has printed.
    pub(crate) fn log(&self) -> String {
        self.process().log().unwrap()
    }

    /// Lines of the log that hold this text.
    pub(crate) fn log_lines(&self, text: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}
