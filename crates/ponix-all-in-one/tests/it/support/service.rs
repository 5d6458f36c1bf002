//! The binary as a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use ponix_stack::{Process, Signal, eventually};
use serde_json::Value;

use super::{Metrics, SOON, http};

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
        let process = Process::builder("service", self.binary.unwrap_or(BINARY))
            .args(self.args)
            .envs(self.env)
            .start()
            .unwrap();
        Service { process }
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
    process: Process,
}

impl Service {
    /// Asks the admin endpoint.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http::get(self.admin_addr()?, path).await
    }

    /// Where the admin endpoint listens: on a port that was free, which the log tells.
    pub(crate) fn admin_addr(&self) -> anyhow::Result<SocketAddr> {
        self.listens("admin endpoint")
    }

    /// Where the HTTP API listens.
    pub(crate) fn api_addr(&self) -> anyhow::Result<SocketAddr> {
        self.listens("http api")
    }

    fn listens(&self, what: &str) -> anyhow::Result<SocketAddr> {
        let log = self.process.log()?;
        let addr = log
            .split(&format!("{what} listens addr="))
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("the {what} does not listen yet"))?;
        Ok(addr.parse()?)
    }

    /// Why it is not ready; empty when it is.
    pub(crate) async fn reasons(&self) -> anyhow::Result<Vec<String>> {
        let (status, body) = self.get("/readyz").await?;
        let body: Value = serde_json::from_str(&body)?;
        let reasons: Vec<String> = serde_json::from_value(body["reasons"].clone())?;
        let ready = reasons.is_empty();
        ensure!(body["ready"] == ready, "{body}");
        ensure!(status == if ready { 200 } else { 503 }, "{status} {body}");
        Ok(reasons)
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        self.wait_for("readiness", || async {
            let reasons = self.reasons().await?;
            ensure!(reasons.is_empty(), "{reasons:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until one of the reasons for not being ready holds this text.
    pub(crate) async fn not_ready(&self, text: &str) {
        self.wait_for(text, || async {
            let reasons = self.reasons().await?;
            ensure!(reasons.iter().any(|r| r.contains(text)), "{reasons:?}");
            Ok(())
        })
        .await;
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        self.try_metrics().await.unwrap()
    }

    async fn try_metrics(&self) -> anyhow::Result<Metrics> {
        let (status, body) = self.get("/metrics").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(Metrics::parse(&body))
    }

    /// Waits until the metrics are as told, and returns them.
    pub(crate) async fn metrics_when(
        &self,
        what: &str,
        as_told: impl Fn(&Metrics) -> bool + Sync,
    ) -> Metrics {
        self.wait_for(what, || async {
            let metrics = self.try_metrics().await?;
            ensure!(as_told(&metrics), "{metrics:#?}");
            Ok(metrics)
        })
        .await
    }

    /// Waits until the log holds this text.
    pub(crate) async fn logged(&self, text: &str) {
        self.wait_for(text, || async {
            ensure!(self.log().contains(text), "not logged");
            Ok(())
        })
        .await;
    }

    /// Waits for something as long as it may take; a service that ends meanwhile is a failure.
    async fn wait_for<T, F>(&self, what: &str, mut probe: impl FnMut() -> F + Send) -> T
    where
        T: Send,
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let ended = |err| match self.process.exit_status() {
            Some(status) => Ok(Err(anyhow::anyhow!("it has ended: {status}"))),
            None => Err(err),
        };
        let probe = || {
            let answer = probe();
            async move { answer.await.map(Ok).or_else(ended) }
        };
        let waited = eventually(what, SOON, probe).await.flatten();
        waited.unwrap_or_else(|err| panic!("{err:#}\n{}", self.log()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.send_signal(signal).unwrap();
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
        let ended = tokio::time::timeout(SOON, self.process.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end\n{}", self.log()))
            .unwrap()
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
        self.process.kill().await.unwrap();
    }

    /// All it has printed.
    pub(crate) fn log(&self) -> String {
        self.process.log().unwrap()
    }

    /// Lines of the log that hold this text.
    pub(crate) fn log_lines(&self, text: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}
