#![doc = include_str!("../README.md")]

mod dlq;
mod print;
mod servers;
mod status;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::SignedDuration;

use crate::servers::Servers;

/// Look at a deployment of Ponix, and mend it.
#[derive(Debug, Parser)]
#[command(
    name = "ponix",
    version,
    after_help = "Reads the same PONIX_* variables as the services. Exit codes: 0 done; 1 failed; \
                  3 done, but not everything is as asked; 64 wrong command line or configuration."
)]
struct Cli {
    /// Print JSON, an object on each line.
    #[arg(long, global = true)]
    json: bool,
    /// Time in which NATS has to answer.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the streams, consumers and dead letters of every pipeline, and what is wrong.
    Status,
    /// Look at dead letters, put them back, discard or export them.
    Dlq {
        #[command(subcommand)]
        command: Box<dlq::Command>,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    /// Done, but not everything is as asked.
    InPart,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    const FAILED: u8 = 1;
    const IN_PART: u8 = 3;
    const USAGE: u8 = 64;

    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Fails only when the terminal is gone. Help and version are no errors.
            let _ = err.print();
            return ExitCode::from(if err.use_stderr() { USAGE } else { 0 });
        }
    };
    let deployment = match ponix_all_in_one::Deployment::of_process() {
        Ok(deployment) => deployment,
        Err(err) => {
            print::error(&err.to_string());
            return ExitCode::from(USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli, deployment)));
    match ended {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::InPart) => ExitCode::from(IN_PART),
        Err(err) => {
            print::error(&format!("{err:#}"));
            ExitCode::from(FAILED)
        }
    }
}

async fn run(cli: Cli, deployment: ponix_all_in_one::Deployment) -> anyhow::Result<End> {
    let servers = Servers::connect(deployment, cli.timeout).await?;
    match cli.command {
        Command::Status => status::run(&servers, cli.json).await,
        Command::Dlq { command } => dlq::run(*command, &servers, cli.json).await,
    }
}

/// Reads a length of time such as `90s`, `15m` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |err: &dyn std::fmt::Display| format!("{err}; write it as 90s, 15m or 1h30m");
    let duration: SignedDuration = text.parse().map_err(|err: jiff::Error| wrong(&err))?;
    Duration::try_from(duration).map_err(|_| wrong(&"must not be negative"))
}
