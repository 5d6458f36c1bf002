//! `ponix-all-in-one migrate`.

use anyhow::Context as _;
use ponix_clickhouse::{Client, ErrorKind, MigrateError, MigrationState, Migrator};
use ponix_runner::{Outcome, Signals};
use tokio::time::Instant;

use crate::cli::{self, Direction};
use crate::config::Config;
use crate::retry::until_ready;

/// Migrates or lists, waiting for the server as long as a start-up may take.
pub(crate) async fn run(config: Config, direction: Direction, mut signals: Signals) -> Outcome {
    tokio::select! {
        result = migrate(&config, direction) => match result {
            Ok(()) => Outcome::Clean,
            Err(err) => cli::fail(&format!("clickhouse at {}: {err:#}", config.clickhouse.url)),
        },
        _ = signals.recv() => cli::fail("stopped by a signal; run the command again, every statement may be repeated"),
    }
}

async fn migrate(config: &Config, direction: Direction) -> anyhow::Result<()> {
    let client = Client::new(&config.clickhouse.client())
        .context("the clickhouse configuration is wrong")?;
    let migrator = Migrator::new(&client);
    let deadline = Instant::now() + config.service.startup_timeout_secs;
    match direction {
        Direction::Up => {
            let applied = up(&migrator, deadline).await?;
            if applied.is_empty() {
                cli::line("nothing is pending");
            }
            for file in applied {
                cli::line(&format!("applied  {file}"));
            }
        }
        Direction::Down => {
            let reverted =
                until_ready("migrate down", deadline, is_transient, || migrator.down()).await?;
            cli::line(&reverted.map_or_else(
                || "nothing is applied".to_owned(),
                |file| format!("reverted {file}"),
            ));
        }
        Direction::Status => {
            for status in until_ready("migrate status", deadline, is_transient, || {
                migrator.status()
            })
            .await?
            {
                let state = match status.state {
                    MigrationState::Pending => "pending",
                    MigrationState::Applied { .. } => "applied",
                    MigrationState::Changed { .. } => "changed since it was applied",
                    _ => "unknown",
                };
                let file = status
                    .file
                    .unwrap_or_else(|| "(no file in this version)".to_owned());
                cli::line(&format!("{}  {state}  {file}", status.version));
            }
        }
    }
    Ok(())
}

/// Applies what is pending, waiting for the server until `deadline`.
pub(crate) async fn up(migrator: &Migrator, deadline: Instant) -> anyhow::Result<Vec<String>> {
    until_ready("migrations", deadline, is_transient, || migrator.up()).await
}

fn is_transient(err: &MigrateError) -> bool {
    err.kind() == ErrorKind::Transient
}
