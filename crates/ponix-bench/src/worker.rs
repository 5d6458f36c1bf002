//! The worker: the real binary, as a child process.

use anyhow::{Result, bail};
use ponix_stack::workspace_binary;
use ponix_testkit::Worker;

use crate::cli::WorkerArgs;
use crate::servers::Servers;

/// How many INSERTs there were, and of how many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inserts {
    pub(crate) inserts: u64,
    pub(crate) rows: u64,
}

/// Starts it on the servers, without sample producer, and waits until it is ready.
pub(crate) async fn start(servers: &Servers, args: &WorkerArgs) -> Result<Worker> {
    let program = match &args.worker {
        Some(program) => program.clone(),
        None => workspace_binary("ponix-all-in-one")?,
    };
    let env = [
        ("PONIX_INGEST_ENABLED", "false"),
        ("PONIX_INTERVAL_SECS", "0"),
        ("PONIX_NATS_URL", &servers.nats.url()),
        ("PONIX_CLICKHOUSE_URL", &servers.clickhouse.url()),
        ("PONIX_CLICKHOUSE_USERNAME", servers.clickhouse.user()),
        ("PONIX_CLICKHOUSE_PASSWORD", servers.clickhouse.password()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let env = env.into_iter().chain(args.env.iter().cloned()).collect();
    let worker = Worker::start(&program, &[], &env)?;
    worker.ready().await?;
    Ok(worker)
}

/// Fails if it has ended.
pub(crate) fn check(worker: &Worker) -> Result<()> {
    let process = worker.process();
    match process.exit_status() {
        Some(status) => bail!("the worker has ended ({status})\n{}", process.log_tail()),
        None => Ok(()),
    }
}

/// INSERTs since its start.
pub(crate) async fn inserts(worker: &Worker) -> Result<Inserts> {
    let metrics = worker.metrics().await?;
    Ok(Inserts {
        inserts: metrics.inserts(),
        rows: metrics.sum("ponix_clickhouse_rows_total"),
    })
}
