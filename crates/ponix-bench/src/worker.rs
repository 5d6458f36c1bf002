//! The worker: the real binary, as a child process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ponix_stack::{Process, eventually, workspace_binary};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cli::WorkerArgs;
use crate::servers::Servers;

const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// A running `ponix-all-in-one`, killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    admin: SocketAddr,
}

/// How many INSERTs there were, and of how many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inserts {
    pub(crate) inserts: u64,
    pub(crate) rows: u64,
}

impl Worker {
    /// Starts it on the servers, without sample producer, and waits until it is ready.
    pub(crate) async fn start(servers: &Servers, args: &WorkerArgs) -> Result<Self> {
        let program = match &args.worker {
            Some(program) => program.clone(),
            None => workspace_binary("ponix-all-in-one")?,
        };
        let admin = free_addr()?;
        let process = Process::builder("ponix-all-in-one", program)
            .env("PONIX_ADMIN_ADDR", admin.to_string())
            .env("PONIX_INGEST_ENABLED", "false")
            .env("PONIX_INTERVAL_SECS", "0")
            .env("PONIX_NATS_URL", servers.nats.url())
            .env("PONIX_CLICKHOUSE_URL", servers.clickhouse.url())
            .env("PONIX_CLICKHOUSE_USERNAME", servers.clickhouse.user())
            .env("PONIX_CLICKHOUSE_PASSWORD", servers.clickhouse.password())
            .envs(args.env.iter().map(|(name, value)| (name, value)))
            .start()?;
        let worker = Self { process, admin };
        let ready = eventually("the worker to be ready", READY_TIMEOUT, || async {
            worker.check()?;
            worker.get("/readyz").await
        });
        ready.await.with_context(|| worker.log_tail())?;
        Ok(worker)
    }

    /// The process, for its time and memory.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Fails if it has ended.
    pub(crate) fn check(&self) -> Result<()> {
        match self.process.exit_status() {
            Some(status) => bail!("the worker has ended ({status})\n{}", self.log_tail()),
            None => Ok(()),
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// INSERTs since its start.
    pub(crate) async fn inserts(&self) -> Result<Inserts> {
        let metrics = self.get("/metrics").await?;
        let rows = sum(&metrics, "ponix_clickhouse_rows_total");
        Ok(Inserts {
            // A counter with labels is not there before it is counted for the first time.
            inserts: sum(&metrics, "ponix_clickhouse_inserts_total").unwrap_or(0),
            rows: rows.context("the worker shows no counter of rows")?,
        })
    }

    /// Stops it in order.
    pub(crate) async fn stop(&self) -> Result<()> {
        let status = self.process.stop().await?;
        ensure!(
            status.success(),
            "the worker ended with {status}\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Asks its admin address for a path.
    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        // HTTP/1.0: the answer ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("no end of the header")?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        ensure!(status == "200", "{path} answered {status}: {body}");
        Ok(body.to_owned())
    }
}

/// An address nobody listens on now.
fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The sum of a counter over all its labels; `None` if it is not there.
pub(crate) fn sum(metrics: &str, name: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_value = rest.starts_with([' ', '{']);
        is_value.then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let metrics = "# TYPE inserts counter\ninserts_total{result=\"Ok\"} 3\n\
                       inserts_total{result=\"Transient\"} 1\ninserts_total_other 9\nrows_total 7\n";
        assert_eq!(sum(metrics, "inserts_total"), Some(4));
        assert_eq!(sum(metrics, "rows_total"), Some(7));
        assert_eq!(sum(metrics, "missing"), None);
    }
}
