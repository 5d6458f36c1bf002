//! A worker: the real binary, with failpoints, as a child process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ponix_stack::{Process, eventually, http_get, workspace_binary};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::SOON;
use crate::metrics::Metrics;

/// The name under which `scripts/build-failpoints` leaves the binary.
const BINARY: &str = "ponix-all-in-one-failpoints";
/// The name that cargo gives it.
const PLAIN_BINARY: &str = "ponix-all-in-one";

/// A running `ponix-all-in-one`, killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    admin: SocketAddr,
}

impl Worker {
    /// Starts it with these variables, and does not wait until it is ready.
    pub(crate) async fn start(
        env: &BTreeMap<String, String>,
        args: &[&str],
        failpoints: &str,
    ) -> Result<Self> {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let process = Process::builder("worker", binary().await?)
            .envs(env)
            .env("PONIX_ADMIN_ADDR", admin.to_string())
            .env("PONIX_INGEST_ENABLED", "false")
            .env("RUST_LOG", "")
            .env("FAILPOINTS", failpoints)
            .args(args)
            .start()?;
        Ok(Self { process, admin })
    }

    /// The process, to signal it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sets what is planted from the next start on.
    pub fn set_failpoints(&self, failpoints: &str) {
        self.process.set_env("FAILPOINTS", failpoints);
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It has ended, or is not ready in time; the text ends with its log.
    pub async fn ready(&self) -> Result<()> {
        self.wait("readiness", || async {
            let reasons = self.reasons().await?;
            ensure!(reasons.is_empty(), "{reasons:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a reason for not being ready holds this text.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn not_ready(&self, text: &str) -> Result<()> {
        self.wait(text, || async {
            let reasons = self.reasons().await?;
            ensure!(reasons.iter().any(|r| r.contains(text)), "{reasons:?}");
            Ok(())
        })
        .await
    }

    /// Why it is not ready; empty when it is.
    ///
    /// # Errors
    /// No answer.
    pub async fn reasons(&self) -> Result<Vec<String>> {
        let body = self.get_any("/readyz").await?;
        let body: Value = serde_json::from_str(&body)?;
        Ok(serde_json::from_value(body["reasons"].clone())?)
    }

    /// Its counters since its start.
    ///
    /// # Errors
    /// No answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::parse(&http_get(self.admin, "/metrics").await?))
    }

    /// Waits until the counters are as told.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn metrics_when(
        &self,
        what: &str,
        as_told: impl Fn(&Metrics) -> bool + Send + Sync,
    ) -> Result<Metrics> {
        self.wait(what, || async {
            let metrics = self.metrics().await?;
            ensure!(as_told(&metrics), "{metrics:#?}");
            Ok(metrics)
        })
        .await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(&self) -> Result<ExitStatus> {
        self.ended_within(SOON).await
    }

    pub(crate) async fn ended_within(&self, timeout: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(timeout, self.process.wait()).await;
        ended.with_context(|| format!("the worker does not end\n{}", self.process.log_tail()))?
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It does not end in time, or not with exit code 0.
    pub async fn stop(&self) -> Result<()> {
        let status = self.process.stop().await?;
        let log = self.process.log_tail();
        ensure!(status.success(), "the worker ended with {status}\n{log}");
        Ok(())
    }

    /// Starts it after its end, and waits until it is ready.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn start_again(&self) -> Result<()> {
        self.process.start()?;
        self.ready().await
    }

    async fn wait<T, F>(&self, what: &str, mut probe: impl FnMut() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let probe = || {
            let answer = probe();
            async move {
                match answer.await {
                    Ok(value) => Ok(Ok(value)),
                    Err(err) => match self.process.exit_status() {
                        Some(status) => Ok(Err(anyhow::anyhow!("it has ended: {status}"))),
                        None => Err(err),
                    },
                }
            }
        };
        let waited = eventually(what, SOON, probe).await.flatten();
        waited.with_context(|| self.process.log_tail())
    }

    /// Asks its admin address; the body, whatever the status.
    async fn get_any(&self, path: &str) -> Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            // HTTP/1.0: the answer ends with the connection.
            let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(2), exchange).await??;
        let (_, body) = answer.split_once("\r\n\r\n").context("no header")?;
        Ok(body.to_owned())
    }
}

/// Finds the binary, and sees once that its failpoints are compiled in.
async fn binary() -> Result<PathBuf> {
    static CHECKED: OnceCell<PathBuf> = OnceCell::const_new();
    CHECKED.get_or_try_init(find_binary).await.cloned()
}

async fn find_binary() -> Result<PathBuf> {
    let advice = "build it with scripts/build-failpoints, for a release build with --release";
    if let Some(program) = std::env::var_os("PONIX_FAULTS_WORKER") {
        let program = std::path::absolute(program)?;
        let named = program.display();
        ensure!(
            has_failpoints(&program).await?,
            "{named} has no failpoints: {advice}"
        );
        return Ok(program);
    }
    // Under its plain name the feature may be compiled in or not, whoever built it last.
    for name in [PLAIN_BINARY, BINARY] {
        let Ok(program) = workspace_binary(name) else {
            continue;
        };
        if has_failpoints(&program).await? {
            return Ok(program);
        }
    }
    bail!("no {PLAIN_BINARY} with failpoints was found beside this program: {advice}")
}

/// Gives it a failpoint without an action: who knows failpoints at all refuses that.
async fn has_failpoints(program: &Path) -> Result<bool> {
    let status = tokio::process::Command::new(program)
        .arg("--version")
        .env("FAILPOINTS", "no-action")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .await
        .with_context(|| format!("run {}", program.display()))?;
    Ok(!status.success())
}
