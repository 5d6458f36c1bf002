//! The command line and what it prints.
//!
//! Nobody need read to the end: what cannot be printed any more is not an error.

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use ponix_runner::Outcome;

use crate::Program;
use crate::commands::reconcile::What;
use crate::config::{Reading, Setting, markdown, variables};

/// Ponix: takes events from JetStream and lands each exactly once in ClickHouse.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Configured by environment variables: see `check-config` and docs/configuration.md."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Cli {
    /// Reads the command line of a program.
    ///
    /// # Errors
    /// What is wrong with it, or the help that it asks for.
    pub(crate) fn of(program: Program) -> Result<Self, clap::Error> {
        let command = Self::command();
        let command = match program {
            Program::AllInOne => command.name("ponix-all-in-one"),
            Program::Ingest => command.name("ponix-ingest").about(
                "Ponix's HTTP API alone: takes events and raw messages into JetStream, for workers elsewhere",
            ),
        };
        Self::from_arg_matches(&command.try_get_matches()?)
    }
}

/// What the binary does; without one it runs the service.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service until a signal stops it.
    Run,
    /// Bring the tables to what this version needs, or look at them.
    Migrate {
        /// What to do.
        #[arg(value_enum, default_value_t = Direction::Up)]
        direction: Direction,
    },
    /// Print the effective configuration, secrets masked, and everything that is wrong with it.
    CheckConfig {
        /// Print only what differs from the defaults.
        #[arg(long)]
        changed: bool,
        /// Print the reference of all variables as Markdown instead.
        #[arg(long)]
        reference: bool,
    },
    /// Check that every settled event is stored exactly once; the exit code says.
    Reconcile {
        /// Which pipelines, and which part of their streams.
        #[command(flatten)]
        what: What,
    },
    /// Look at declared entities; needs no server.
    Entities {
        /// What to do.
        #[command(subcommand)]
        command: EntitiesCommand,
    },
    /// Look at declared pipelines, test them and try them; needs no server.
    Pipelines {
        /// What to do.
        #[command(subcommand)]
        command: PipelinesCommand,
    },
    /// Read messages of a pipeline from standard input, for a worker that suspects one of them.
    #[command(hide = true)]
    CrashIsolation {
        /// The pipeline's name.
        pipeline: String,
    },
    /// Ask the service on this machine whether it is ready; the exit code says.
    Probe,
}

/// What to do with declared entities.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum EntitiesCommand {
    /// Tell everything that is wrong with the entities of a folder.
    Check {
        /// The folder.
        dir: PathBuf,
    },
    /// Print the tables of the entities as SQL.
    Ddl {
        /// The folder.
        dir: PathBuf,
    },
    /// Print messages that an entity takes: a line, and a JSON object.
    Sample {
        /// The folder.
        dir: PathBuf,
        /// The entity's name.
        entity: String,
    },
    /// Print the JSON schema of an entity's file, for editors.
    Schema,
}

/// What to do with declared pipelines.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PipelinesCommand {
    /// Tell everything that is wrong with the pipelines of a folder.
    Check {
        /// The folder.
        dir: PathBuf,
    },
    /// Run the tests that the pipelines of a folder bring; the exit code says.
    Test {
        /// The folder.
        dir: PathBuf,
    },
    /// Print the tables of the pipelines as SQL.
    Ddl {
        /// The folder.
        dir: PathBuf,
    },
    /// Print an event that a pipeline takes.
    Sample {
        /// The folder.
        dir: PathBuf,
        /// The pipeline's name.
        name: String,
    },
    /// Read events from the standard input, one on each line, and print the row or the dead letter
    /// that each becomes.
    Run {
        /// The document.
        file: PathBuf,
    },
    /// Print the JSON schema of a pipeline's document, for editors.
    Schema,
}

/// What to do with the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// Apply everything that is pending.
    Up,
    /// Revert the newest one.
    Down,
    /// List them.
    Status,
}

/// Prints what clap has to say: help and version are not errors.
pub(crate) fn usage(err: &clap::Error) -> Outcome {
    // Fails only when the terminal is gone.
    let _ = err.print();
    if err.use_stderr() {
        Outcome::Configuration
    } else {
        Outcome::Clean
    }
}

/// Prints one line for an error before there is a log.
pub(crate) fn fail(text: &str) -> Outcome {
    error_line(&format!("{}: {text}", program()));
    Outcome::Failed
}

/// Lists what is wrong with the configuration.
pub(crate) fn wrong_configuration(problems: &dyn Display) -> Outcome {
    error_line(&format!("{}: the configuration is wrong:", program()));
    for line in problems.to_string().lines() {
        error_line(&format!("  {line}"));
    }
    Outcome::Configuration
}

/// Prints the reference of all variables.
pub(crate) fn reference() -> Outcome {
    line(markdown(&variables()).trim_end());
    Outcome::Clean
}

/// Prints everything that is wrong with the configuration, and then the effective values: all, or
/// those that differ from the defaults.
pub(crate) fn check_config(reading: &Reading, changed: bool) -> Outcome {
    for problem in &reading.problems {
        error_line(&format!("problem: {problem}"));
    }
    for warning in &reading.warnings {
        error_line(&format!("warning: {warning}"));
    }
    let shown = |setting: &&Setting| !changed || setting.differs;
    for setting in reading.settings.iter().filter(shown) {
        line(&format!(
            "{}={} ({})",
            setting.name,
            setting.value,
            setting.source.as_str()
        ));
    }
    if reading.problems.is_empty() {
        Outcome::Clean
    } else {
        Outcome::Configuration
    }
}

/// Prints one line of a command's result.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints one line beside the result.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The name that this program was called by.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name);
    name.map_or_else(
        || "ponix".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}
