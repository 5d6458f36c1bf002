//! The randomised run, as a command.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line's own output"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use ponix_faults::{RunOptions, forget_histories, random_run, trace};
use tracing_subscriber::EnvFilter;

/// Injects faults into Ponix on real servers and judges what has become of each event.
///
/// Ends with 0 when every accepted event is readable once or a dead letter once.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// How long faults are injected.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Decides the schedule of faults; drawn and printed when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Workers on the one consumer.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Envelopes a second; half as many readings, a quarter as many raw messages.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Three NATS servers that replicate instead of one: one, the leader or all of them are killed.
    #[arg(long)]
    cluster: bool,
    /// Prints the faults that the seed gives, and injects none.
    #[arg(long)]
    schedule: bool,
    /// Where the report is written as JSON; `.ponix/faults/seed-SEED.json` otherwise.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(&Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("faults: {err:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<bool> {
    ensure!(
        cli.minutes > 0.0 && cli.minutes <= 24.0 * 60.0,
        "--minutes is out of range"
    );
    ensure!((1..=32).contains(&cli.workers), "--workers is out of range");
    let options = RunOptions {
        length: Duration::from_secs_f64(cli.minutes * 60.0),
        seed: cli.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        workers: cli.workers,
        cluster: cli.cluster,
        rate: cli.rate,
    };
    if cli.schedule {
        print!(
            "{}",
            trace(options.seed, &options.targets(), options.length)
        );
        return Ok(true);
    }
    eprintln!("faults: {} min with seed {}", cli.minutes, options.seed);
    let name = if cli.cluster { "cluster-seed" } else { "seed" };
    let default = || PathBuf::from(format!(".ponix/faults/{name}-{}.json", options.seed));
    let file = cli.json.clone().unwrap_or_else(default);
    let history = file.with_extension("history.jsonl");
    let report = random_run(options, &history, |line| eprintln!("faults: {line}")).await?;
    report.write(&file)?;
    forget_histories(&file)?;
    println!("{report}");
    eprintln!("faults: the report is in {}", file.display());
    Ok(report.sound)
}
