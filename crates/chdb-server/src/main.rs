//! The life of a chdb-server process: arguments, engine, requests until a signal, orderly end.

use std::io::IsTerminal;
use std::process::ExitCode;

use chdb_server::{Arguments, Config, Ended, Server, leave};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

const EXIT_OK: u8 = 0;
const EXIT_FAILED: u8 = 1;
const EXIT_CUT_OFF: u8 = 2;
const EXIT_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // Otherwise a log that cannot be written, as on a full disk, is a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no mistakes; what cannot be printed has no reader.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() {
                EXIT_CONFIG
            } else {
                EXIT_OK
            });
        }
    };
    let config = match arguments.into_config() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // The engine has threads of its own for the work; these two only move bytes.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime did not start");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let code = match runtime.block_on(run(config)) {
        Ok(Ended::Cleanly) => EXIT_OK,
        Ok(Ended::CutOff) => EXIT_CUT_OFF,
        Err(error) => {
            tracing::error!("{error:#}");
            EXIT_FAILED
        }
    };
    leave(code)
}

async fn run(config: Config) -> anyhow::Result<Ended> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signalled.cancel();
    });
    let server = Server::bind(config).await?;
    tracing::info!(address = %server.address()?, engine = server.engine_version(), "listening");
    let ended = server.run(stop).await;
    tracing::info!(?ended, "stopped");
    Ok(ended)
}
