//! A service with a start-up, a worker that finishes its unit of work, a background process and
//! two closers.
//!
//! Run it and press Ctrl-C: once for a graceful stop, twice for a quick one. The times of its work
//! come from the environment, in milliseconds: `EXAMPLE_STARTUP_MS` (default 200), `EXAMPLE_WORK_MS`
//! per unit (default 1000), `EXAMPLE_GRACE_MS` (default 10000).

#![expect(clippy::print_stdout, reason = "an example that shows what it does")]

use std::{convert::Infallible, env, num::ParseIntError, time::Duration};

use ponix_runner::{Outcome, Runner, Shutdown, Signals, Startup, block_on};
use tokio::{select, time::sleep};

fn main() -> Outcome {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    block_on(service())
}

async fn service() -> Outcome {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "cannot install signal handlers");
            return Outcome::Failed;
        }
    };
    let times = match Times::read() {
        Ok(times) => times,
        Err(error) => {
            tracing::error!(%error, "a time in the environment is not a number of milliseconds");
            return Outcome::Configuration;
        }
    };

    Runner::new()
        .with_signals(signals)
        .with_grace_time(times.grace)
        .with_background_process("health", health)
        .with_closer("first registered, closed last", || async {
            println!("closed first closer");
        })
        .with_startup(move |startup| start_up(startup, times))
        .run()
        .await
}

/// The times of this example's work.
#[derive(Debug, Clone, Copy)]
struct Times {
    startup: Duration,
    work: Duration,
    grace: Duration,
}

impl Times {
    fn read() -> Result<Self, ParseIntError> {
        let ms = |name, default| {
            env::var(name).map_or(Ok(default), |text| text.parse().map(Duration::from_millis))
        };
        Ok(Self {
            startup: ms("EXAMPLE_STARTUP_MS", Duration::from_millis(200))?,
            work: ms("EXAMPLE_WORK_MS", Duration::from_secs(1))?,
            grace: ms("EXAMPLE_GRACE_MS", Duration::from_secs(10))?,
        })
    }
}

async fn start_up(startup: Startup, times: Times) -> Result<(), Infallible> {
    startup.phase("connecting");
    startup.closer("connection", || async { println!("closed connection") });
    println!("starting up");
    sleep(times.startup).await;

    startup.app_process("worker", move |shutdown| work(shutdown, times.work));
    Ok(())
}

/// Does one unit of work after the other, and finishes the last one before it returns.
async fn work(shutdown: Shutdown, unit: Duration) -> Result<(), Infallible> {
    while !shutdown.soft().is_cancelled() {
        println!("unit begun");
        select! {
            () = sleep(unit) => println!("unit finished"),
            () = shutdown.hard().cancelled() => println!("unit cut off"),
        }
    }
    Ok(())
}

/// Stays until the worker has ended.
async fn health(shutdown: Shutdown) -> Result<(), Infallible> {
    shutdown.soft().cancelled().await;
    println!("health ended");
    Ok(())
}
