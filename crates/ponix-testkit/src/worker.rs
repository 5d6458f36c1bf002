//! The service as a child process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ponix_stack::{Process, eventually, free_addr, http_exchange};
use serde_json::Value;
use tokio::time::timeout;

use crate::{Metrics, SOON};

const ADMIN_ADDR: &str = "PONIX_ADMIN_ADDR";
/// One answer of the admin address.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running `ponix-all-in-one`, killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    admin: SocketAddr,
}

impl Worker {
    /// Starts a program of the service with these arguments and variables, and does not wait until
    /// it is ready. Its admin address is a free one, unless the variables say which.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path, args: &[&str], env: &BTreeMap<String, String>) -> Result<Self> {
        let told = env.get(ADMIN_ADDR).and_then(|addr| addr.parse().ok());
        let admin = told.map_or_else(free_addr, Ok)?;
        let process = Process::builder("worker", program)
            .env(ADMIN_ADDR, admin.to_string())
            .envs(env)
            .args(args)
            .start()?;
        Ok(Self { process, admin })
    }

    /// The process, to signal it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its admin address.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Sets what is planted from the next start on.
    pub fn set_failpoints(&self, failpoints: &str) {
        self.process.set_env("FAILPOINTS", failpoints);
    }

    /// Asks its admin address; status and body.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        // HTTP/1.0: the answer ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
        timeout(ANSWER_TIMEOUT, http_exchange(self.admin, &request)).await?
    }

    /// Why it is not ready; empty when it is.
    ///
    /// # Errors
    /// No answer, or status, `ready` and `reasons` contradict each other.
    pub async fn reasons(&self) -> Result<Vec<String>> {
        let (status, body) = self.get("/readyz").await?;
        let body: Value = serde_json::from_str(&body)?;
        let reasons: Vec<String> = serde_json::from_value(body["reasons"].clone())?;
        let ready = reasons.is_empty();
        ensure!(body["ready"] == ready, "{body}");
        ensure!(status == if ready { 200 } else { 503 }, "{status} {body}");
        Ok(reasons)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It has ended, or is not ready in time; the text ends with its log.
    pub async fn ready(&self) -> Result<()> {
        self.wait_for("readiness", || async {
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
        self.wait_for(text, || async {
            let reasons = self.reasons().await?;
            ensure!(reasons.iter().any(|r| r.contains(text)), "{reasons:?}");
            Ok(())
        })
        .await
    }

    /// Its counters since its start.
    ///
    /// # Errors
    /// No answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        let (status, body) = self.get("/metrics").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(Metrics::parse(&body))
    }

    /// Waits until the counters are as told, and returns them.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn metrics_when(
        &self,
        what: &str,
        as_told: impl Fn(&Metrics) -> bool + Send + Sync,
    ) -> Result<Metrics> {
        self.wait_for(what, || async {
            let metrics = self.metrics().await?;
            ensure!(as_told(&metrics), "{metrics:#?}");
            Ok(metrics)
        })
        .await
    }

    /// Waits for something as long as it may take; a worker that ends meanwhile is a failure.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn wait_for<T, F>(&self, what: &str, mut probe: impl FnMut() -> F + Send) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
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
        waited.with_context(|| self.process.log_tail())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(&self) -> Result<ExitStatus> {
        self.ended_within(SOON).await
    }

    /// As [`ended`](Self::ended), with a time of its own.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended_within(&self, time: Duration) -> Result<ExitStatus> {
        let ended = timeout(time, self.process.wait()).await;
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
}
