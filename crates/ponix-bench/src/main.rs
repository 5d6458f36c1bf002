#![doc = include_str!("../README.md")]

mod ceilings;
mod cli;
mod declared;
mod events;
mod http;
mod latency;
mod pipeline;
mod plot;
mod progress;
mod publish;
mod read;
mod report;
mod servers;
mod simulate;
mod usage;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::progress::say;

/// The service's own: see `docs/adr/0007-mimalloc.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(run(cli.command)).await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("ponix-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Pipeline(args) if !args.spec.is_empty() => {
            declared::run(&args).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Pipeline(args) => pipeline::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Ceilings(args) => Box::pin(ceilings::run(&args))
            .await
            .map(|()| ExitCode::SUCCESS),
        Command::Latency(args) => latency::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Http(args) => http::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Messages(args) => http::run_messages(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Lines(args) => http::run_lines(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Plot(args) => plot::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Read(args) => read::run(&args).await.map(|()| ExitCode::SUCCESS),
    }
}
