//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures how fast events get through Ponix.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure events per second from publish to readable row, on servers of its own.
    Pipeline(PipelineArgs),
    /// Measure what publishing, consuming and inserting can do, each by itself.
    Ceilings(CeilingsArgs),
    /// Measure the time from publish to readable row at a low rate, and the idle worker.
    Latency(LatencyArgs),
    /// Measure what it costs that readers see every event once, against reading the table itself.
    Read(ReadArgs),
    /// Measure requests per second of the HTTP API, against a bare handler in the same run.
    Http(HttpArgs),
    /// Measure messages per second from HTTP to PostgreSQL.
    Messages(MessagesArgs),
    /// Measure events per second from bodies of NDJSON over HTTP to readable row.
    Lines(LinesArgs),
    /// Draw the results of a folder as SVG.
    Plot(PlotArgs),
    /// Predict events per second on other machines, from measured costs; measures nothing.
    Simulate(SimulateArgs),
}

/// What every measurement can be told.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Where the result is written as JSON; `.ponix/bench/<command>.json` otherwise.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Devices the events come from.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) devices: u64,
    /// Messages that may wait for their PubAck at the same time.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) in_flight: u64,
}

/// How the worker is run.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The binary; `ponix-all-in-one` beside this program otherwise.
    #[arg(long)]
    pub(crate) worker: Option<PathBuf>,
    /// A variable for the worker, `PONIX_NATS_BATCH_SIZE=30000`; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// Events to publish.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
    /// Start the worker only when everything is published, and so measure how a backlog drains.
    #[arg(long)]
    pub(crate) backlog: bool,
    /// Put so many events into one message.
    #[arg(long, value_name = "EVENTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pack: u32,
    /// A declared pipeline, measured behind that of envelopes, each on a backlog; may be repeated.
    ///
    /// Its events are JSON with nine members, see `bench/pipelines`. The document names no other file.
    #[arg(long, value_name = "FILE", conflicts_with = "waveform_bytes")]
    pub(crate) spec: Vec<PathBuf>,
    /// Bytes of one more field in every event, up to what NATS takes in a message.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_048_000))]
    pub(crate) waveform_bytes: u64,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CeilingsArgs {
    /// Events in each of the measurements.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
    /// Rows in an INSERT.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) insert_rows: u64,
    /// INSERTs at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) inserts: u64,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    /// How long events are published.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Events per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rate: u64,
    /// How long the worker is watched while there is nothing to do.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) idle_seconds: u64,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Events in the table.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub(crate) rows: u64,
    /// Rows in a part before anything is merged.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rows_per_part: u64,
    /// Events that are stored twice, per cent.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) duplicates_percent: u64,
    /// Runs of each query; the median counts.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) runs: u64,
    /// Devices the events come from.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub(crate) devices: u64,
    /// Where the result is written as JSON; `.ponix/bench/read.json` otherwise.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Connections that send one request after the other.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) connections: u64,
    /// Time each route is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// Have the API publish on a server that syncs each message to the disk, and the bare handler still
    /// on one that does not.
    #[arg(long)]
    pub(crate) sync_always: bool,
    /// A variable for the API, `PONIX_INGEST_PACK_EVENTS_MAX=500`; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Where the result is written as JSON; `.ponix/bench/http.json` otherwise.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    /// Messages to send.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,
    /// Where the result is written as JSON; `.ponix/bench/messages.json` otherwise.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LinesArgs {
    /// Events to send.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) events: u64,
    /// Events in a body, each a line.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) lines: u64,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// Folder with results as JSON; the drawings are put beside them.
    #[arg(default_value = ".ponix/bench")]
    pub(crate) folder: PathBuf,
}

/// Costs are those of packed events, see `docs/performance.md`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Numbers of workers to predict for.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) workers: Vec<u32>,
    /// Everything on one machine of so many cores; without, each part has its own.
    #[arg(long, value_parser = positive)]
    pub(crate) cores: Option<f64>,
    /// Cores of NATS.
    #[arg(long, default_value_t = 4.0, value_parser = positive)]
    pub(crate) nats_cores: f64,
    /// Cores of each worker.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub(crate) worker_cores: f64,
    /// Cores of ClickHouse.
    #[arg(long, default_value_t = 16.0, value_parser = positive)]
    pub(crate) store_cores: f64,
    /// Processor time of NATS per event, microseconds.
    #[arg(long, default_value_t = 0.9, value_parser = positive)]
    pub(crate) nats_us: f64,
    /// Processor time of a worker per event, microseconds.
    #[arg(long, default_value_t = 1.65, value_parser = positive)]
    pub(crate) worker_us: f64,
    /// Processor time of ClickHouse per event, its merges among it, microseconds.
    #[arg(long, default_value_t = 4.75, value_parser = positive)]
    pub(crate) store_us: f64,
    /// Time per batch that is nobody's processor time: network, disk, waiting for acks; milliseconds.
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub(crate) delay_ms: f64,
    /// Events in a batch.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch: u32,
    /// Batches of a worker under way at the same time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) in_flight: u32,
    /// What was measured, `WORKERS=EVENTS_PER_SECOND`; more than 15 % off is a failure. May be repeated.
    #[arg(long, value_name = "WORKERS=RATE", value_parser = parse_measured)]
    pub(crate) measured: Vec<(u32, f64)>,
    /// Where the result is written as JSON; `.ponix/bench/simulate.json` otherwise.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = not_negative(text)?;
    if number > 0.0 {
        Ok(number)
    } else {
        Err("expected a number above 0".to_owned())
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number".to_owned())
}

fn parse_measured(text: &str) -> Result<(u32, f64), String> {
    let expected = || "expected WORKERS=RATE, as in 2=150000".to_owned();
    let (workers, rate) = text.split_once('=').ok_or_else(expected)?;
    Ok((workers.parse().map_err(|_| expected())?, positive(rate)?))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, Command};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn variables_for_the_worker_are_pairs() {
        let cli = Cli::try_parse_from(["ponix-bench", "pipeline", "--env", "A=b=c"]).unwrap();
        let Command::Pipeline(args) = cli.command else {
            panic!("another command")
        };
        assert_eq!(args.worker.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(Cli::try_parse_from(["ponix-bench", "pipeline", "--env", "A"]).is_err());
    }
}
