//! `simulate`: what to expect of other machines, from measured costs.
//!
//! A closed queueing network: every worker has so many batches under way, and each goes round from NATS to the worker, to the
//! store and back. Cores are stations, what is nobody's processor time is a delay. Mean value analysis gives the throughput.
//!
//! # Source
//! Reiser and Lavenberg, "Mean-Value Analysis of Closed Multichain Queuing Networks", 1980; for several cores Seidmann's
//! approximation: a station that is as many times faster, and a delay for the rest.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::cli::SimulateArgs;
use crate::report;

/// How far a prediction may be from what was measured before it is believed elsewhere.
const DEVIATION_MAX: f64 = 0.15;

/// Cores that share work, and the work of one batch on them.
#[derive(Debug, Clone, Copy)]
struct Station {
    name: &'static str,
    cores: f64,
    /// Processor time of a batch, in seconds.
    demand_secs: f64,
}

#[derive(Debug, Clone, Serialize, PartialEq)]
struct Prediction {
    workers: u32,
    events_per_second: f64,
    /// Busy part of the cores that are busiest.
    utilization: f64,
    limit: &'static str,
    /// Deviation from what was measured, where that was given.
    deviation: Option<f64>,
}

/// Prints what is to be expected with each number of workers.
///
/// # Errors
/// A measured figure that the model does not come near.
pub(crate) fn run(args: &SimulateArgs) -> Result<()> {
    let mut predictions = Vec::new();
    for &workers in &args.workers {
        let mut prediction = predict(args, workers);
        let measured = args.measured.iter().find(|(count, _)| *count == workers);
        if let Some((_, measured)) = measured {
            prediction.deviation = Some(prediction.events_per_second / measured - 1.0);
        }
        let deviation = prediction.deviation.map_or(String::new(), |deviation| {
            format!(", {:+.0} % of what was measured", deviation * 100.0)
        });
        report::line(
            &format!("{workers} workers"),
            format_args!(
                "{:.0} events/s, limit {} ({:.0} % busy){deviation}",
                prediction.events_per_second,
                prediction.limit,
                prediction.utilization * 100.0
            ),
        );
        predictions.push(prediction);
    }
    report::write("simulate", args.json.as_deref(), &predictions)?;
    let off = predictions.iter().find(|prediction| {
        prediction
            .deviation
            .is_some_and(|deviation| deviation.abs() > DEVIATION_MAX)
    });
    if let Some(off) = off {
        bail!(
            "with {} workers the model is off by more than {:.0} %: do not believe it",
            off.workers,
            DEVIATION_MAX * 100.0
        );
    }
    Ok(())
}

fn predict(args: &SimulateArgs, workers: u32) -> Prediction {
    let stations = stations(args, workers);
    let batches = workers * args.in_flight;
    let rate = throughput(&stations, args.delay_ms / 1e3, batches);
    let busy = |station: &Station| rate * station.demand_secs / station.cores;
    let busiest = stations
        .iter()
        .max_by(|one, other| busy(one).total_cmp(&busy(other)))
        .expect("there is one");
    Prediction {
        workers,
        events_per_second: rate * f64::from(args.batch),
        utilization: busy(busiest),
        limit: busiest.name,
        deviation: None,
    }
}

/// All on one machine, or each on its own.
fn stations(args: &SimulateArgs, workers: u32) -> Vec<Station> {
    let demand = |micros: f64| micros * 1e-6 * f64::from(args.batch);
    if let Some(cores) = args.cores {
        let micros = args.nats_us + args.worker_us + args.store_us;
        return vec![Station {
            name: "the machine",
            cores,
            demand_secs: demand(micros),
        }];
    }
    vec![
        Station {
            name: "NATS",
            cores: args.nats_cores,
            demand_secs: demand(args.nats_us),
        },
        Station {
            name: "the workers",
            cores: args.worker_cores * f64::from(workers),
            demand_secs: demand(args.worker_us),
        },
        Station {
            name: "the store",
            cores: args.store_cores,
            demand_secs: demand(args.store_us),
        },
    ]
}

/// Batches a second of a closed network with so many batches in it.
fn throughput(stations: &[Station], delay_secs: f64, batches: u32) -> f64 {
    // A core cannot be used by less than a whole batch.
    let seidmann = |station: &Station| {
        let servers = station.cores.max(1.0);
        let whole = station.demand_secs * servers / station.cores;
        (whole / servers, whole * (servers - 1.0) / servers)
    };
    let (queues, delays): (Vec<f64>, Vec<f64>) = stations.iter().map(seidmann).unzip();
    let delay = delay_secs + delays.iter().sum::<f64>();
    let mut waiting = vec![0.0; queues.len()];
    let mut rate = 0.0;
    for population in 1..=batches {
        let residence: Vec<f64> = queues
            .iter()
            .zip(&waiting)
            .map(|(service, waiting)| service * (1.0 + waiting))
            .collect();
        rate = f64::from(population) / (delay + residence.iter().sum::<f64>());
        waiting = residence.iter().map(|residence| rate * residence).collect();
    }
    rate
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(text: &str) -> SimulateArgs {
        let words = ["ponix-bench", "simulate"]
            .into_iter()
            .chain(text.split_whitespace());
        match Cli::try_parse_from(words).expect("a command line").command {
            Command::Simulate(args) => args,
            _ => panic!("another command"),
        }
    }

    fn station(cores: f64, demand_secs: f64) -> Station {
        Station {
            name: "s",
            cores,
            demand_secs,
        }
    }

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9,
            "{found}, expected {expected}"
        );
    }

    #[test]
    fn what_can_be_solved_by_hand_comes_out() {
        // One customer meets nobody; many are served as fast as the slowest station does.
        near(
            throughput(&[station(1.0, 0.2), station(1.0, 0.3)], 0.5, 1),
            1.0,
        );
        let many = throughput(&[station(1.0, 0.2), station(1.0, 0.5)], 0.0, 500);
        assert!((1.99..=2.0).contains(&many), "{many}");
        // Two balanced stations, two customers: N / ((N + 1) D).
        near(
            throughput(&[station(1.0, 1.0), station(1.0, 1.0)], 0.0, 2),
            2.0 / 3.0,
        );
        // A lone batch uses one of four cores; half a core takes twice as long.
        near(throughput(&[station(4.0, 1.0)], 0.0, 1), 1.0);
        near(throughput(&[station(0.5, 1.0)], 0.0, 1), 0.5);
    }

    #[test]
    fn the_measured_backlog_of_one_worker_comes_out_within_15_per_cent() {
        // docs/performance.md: packed, batches of 20,000, everything on two cores.
        let args = args("--cores 2 --batch 20000 --nats-us 0.9 --worker-us 1.65 --store-us 4.75");
        let predicted = predict(&args, 1).events_per_second;
        for measured in [224_600.0, 234_700.0] {
            let deviation: f64 = predicted / measured - 1.0;
            assert!(
                deviation.abs() < DEVIATION_MAX,
                "{predicted} for {measured}"
            );
        }
    }

    #[test]
    fn more_workers_help_until_another_station_is_the_limit() {
        let args = args("--nats-cores 4 --worker-cores 1 --store-cores 16");
        let one = predict(&args, 1);
        let two = predict(&args, 2);
        let many = predict(&args, 64);
        assert_eq!((one.limit, many.limit), ("the workers", "the store"));
        assert!(two.events_per_second > 1.8 * one.events_per_second);
        let limit = 16.0 / (args.store_us * 1e-6);
        assert!(many.events_per_second < 1.000_001 * limit);
    }
}
