#![doc = include_str!("../README.md")]

mod activity;
mod admin;
mod build_info;
mod cli;
mod commands;
mod config;
mod deployment;
mod http;
mod into_table;
mod janitor;
mod logging;
mod nats;
mod offline;
mod pipelines;
mod readiness;
mod remedy;
mod retry;
mod sample_producer;
mod scale;
mod service;
mod store_health;

use std::ffi::OsStr;
use std::path::Path;

pub use ponix_runner::Outcome;

pub use crate::deployment::{Deployment, DeploymentError, readiness};
pub use crate::into_table::IntoTable;
use ponix_runner::{Signals, block_on};

use crate::cli::{Cli, Command};
use crate::commands::{crash_isolation, entities, migrate, probe, reconcile};
use crate::config::{Config, ConfigProblems, Environment, Reading};

/// Requests and rows are many short allocations on all threads: see `docs/adr/0007-mimalloc.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Which program this is: the same code with other defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Every pipeline that is configured, and the HTTP API.
    AllInOne,
    /// The HTTP API alone, unless the environment says otherwise.
    Ingest,
}

impl Program {
    /// Returns which program was started, by the name that it was called by: an image has one file
    /// for both.
    #[must_use]
    pub fn of_name(name: &OsStr) -> Self {
        if Path::new(name).file_stem() == Some(OsStr::new("ponix-ingest")) {
            Self::Ingest
        } else {
            Self::AllInOne
        }
    }

    /// What counts where the environment says nothing.
    const fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AllInOne => &[],
            Self::Ingest => &[
                ("PONIX_CLICKHOUSE_ENABLED", "false"),
                ("PONIX_MESSAGES_ENABLED", "false"),
                ("PONIX_INTERVAL_SECS", "0"),
            ],
        }
    }
}

/// Lives the life of the process: reads the command line and the environment, and does what they
/// say.
pub fn main(program: Program) -> Outcome {
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    block_on(run(program))
}

async fn run(program: Program) -> Outcome {
    // From here on a signal is not lost, whatever takes long below.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(err) => return cli::fail(&format!("cannot handle signals: {err}")),
    };
    let cli = match Cli::of(program) {
        Ok(cli) => cli,
        Err(err) => return cli::usage(&err),
    };
    let reading = Reading::new(&Environment::of_process().with_defaults(program.defaults()));
    match cli.command.unwrap_or(Command::Run) {
        Command::CheckConfig {
            reference: true, ..
        } => cli::reference(),
        Command::CheckConfig { changed, .. } => check_config(reading, changed).await,
        Command::Run => {
            with_config(reading, |config| async {
                match offline::check(&config).await {
                    Ok(pipelines) => service::run(config, pipelines, signals).await,
                    Err(problems) => cli::wrong_configuration(&ConfigProblems(problems)),
                }
            })
            .await
        }
        Command::Probe => {
            with_config(reading, |config| probe::run(config.service.admin_addr)).await
        }
        Command::Migrate { direction } => {
            with_config(reading, |config| migrate::run(config, direction, signals)).await
        }
        Command::CrashIsolation { pipeline } => match reading.into_config() {
            // Without a log: standard output carries the answers.
            Ok(config) => crash_isolation::run(&config, &pipeline),
            Err(problems) => cli::wrong_configuration(&problems),
        },
        Command::Entities { command } => entities::run(&command),
        Command::Pipelines { command } => commands::pipelines::run(&command),
        Command::Reconcile { what } => {
            // Boxed: what it keeps while it waits would make every other command's future large.
            with_config(reading, |config| {
                Box::pin(reconcile::run(config, what, signals))
            })
            .await
        }
    }
}

/// Tells everything that a start would find wrong without any server, and the effective values.
async fn check_config(mut reading: Reading, changed: bool) -> Outcome {
    if let Some(config) = &reading.config {
        reading.problems = offline::check(config).await.err().unwrap_or_default();
    }
    cli::check_config(&reading, changed)
}

/// Goes on with a valid configuration, or lists everything that is wrong with it.
async fn with_config<F: Future<Output = Outcome>>(
    reading: Reading,
    go_on: impl FnOnce(Config) -> F,
) -> Outcome {
    let warnings = reading.warnings.clone();
    let config = match reading.into_config() {
        Ok(config) => config,
        Err(problems) => return cli::wrong_configuration(&problems),
    };
    if let Err(err) = logging::init(&config.service) {
        return cli::wrong_configuration(&err);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    go_on(config).await
}
