//! The programs that are measured, as child processes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ponix_stack::{Nats, Postgres, Process, eventually, free_addr, http_get, workspace_binary};
use ponix_testkit::Metrics;
use tempfile::TempDir;
use tokio::net::TcpStream;

const READY_TIMEOUT: Duration = Duration::from_mins(1);
pub(super) const KEY: &str = "the-key-of-one-measurement-only";

/// A program that answers HTTP, killed when dropped.
#[derive(Debug)]
pub(super) struct Api {
    process: Process,
    addr: SocketAddr,
    admin: SocketAddr,
    /// Removed when the process is gone.
    _keys: TempDir,
}

impl Api {
    /// The bare handler, in a process of its own as the others are.
    pub(super) async fn bare(nats: &Nats) -> Result<Self> {
        let addr = free_addr()?;
        let process = Process::builder("bare-handler", workspace_binary("bare-handler")?)
            .args([&addr.to_string(), &nats.url()])
            .start()?;
        let api = Self {
            process,
            addr,
            admin: addr,
            _keys: tempfile::tempdir()?,
        };
        let listens = eventually("the bare handler to listen", READY_TIMEOUT, || async {
            TcpStream::connect(addr).await
        });
        listens.await.with_context(|| api.process.log_tail())?;
        Ok(api)
    }

    /// The HTTP API alone, with keys and rates to check.
    pub(super) async fn ingest(
        nats: &Nats,
        postgres: &Postgres,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start("ponix-ingest", nats, postgres, more).await
    }

    /// The HTTP API and the worker of the messages.
    pub(super) async fn all(nats: &Nats, postgres: &Postgres) -> Result<Self> {
        let more = [
            ("PONIX_CLICKHOUSE_ENABLED", "false"),
            ("PONIX_INTERVAL_SECS", "0"),
        ];
        Self::start("ponix-all-in-one", nats, postgres, &more).await
    }

    async fn start(
        program: &str,
        nats: &Nats,
        postgres: &Postgres,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let (addr, admin) = (free_addr()?, free_addr()?);
        let keys = tempfile::tempdir()?;
        let file = keys.path().join("keys");
        let line = format!("{{\"key\":\"{KEY}\",\"organization\":\"bench\",\"rate\":10000000}}\n");
        std::fs::write(&file, line)?;
        let entities = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tpch");
        let process = Process::builder(program, workspace_binary(program)?)
            .env("PONIX_ADMIN_ADDR", admin.to_string())
            .env("PONIX_INGEST_ADDR", addr.to_string())
            .env("PONIX_INGEST_API_KEYS_FILE", file)
            .env("PONIX_INGEST_ADDRESS_RATE", "10000000")
            .env("PONIX_INGEST_ADDRESS_CONNECTIONS_MAX", "0")
            .env("PONIX_INGEST_ORGANIZATION_LINES_RATE", "100000000")
            .env("PONIX_INGEST_ORGANIZATION_BYTES_RATE", "4000000000")
            .env("PONIX_NATS_URL", nats.url())
            .env("PONIX_POSTGRES_URL", postgres.url())
            .env("PONIX_ENTITIES_DIR", entities)
            .envs(more.iter().copied())
            .start()?;
        let api = Self {
            process,
            addr,
            admin,
            _keys: keys,
        };
        let ready = eventually("the service to be ready", READY_TIMEOUT, || async {
            http_get(admin, "/readyz").await
        });
        ready.await.with_context(|| api.process.log_tail())?;
        Ok(api)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Messages that the worker has settled since its start.
    pub(super) async fn settled(&self) -> Result<u64> {
        let metrics = http_get(self.admin, "/metrics").await?;
        Ok(Metrics::parse(&metrics).sum("messages_processed_total"))
    }
}
