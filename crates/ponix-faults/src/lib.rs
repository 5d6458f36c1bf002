#![doc = include_str!("../README.md")]

mod event;
mod injector;
mod ledger;
mod metrics;
mod oracle;
mod publishing;
mod random_run;
mod schedule;
mod worker;
mod world;

use std::time::Duration;

pub use event::{Event, Fate, IdentifiedBy, Poison};
pub use injector::FaultCounts;
pub use ledger::{Entry, Ledger, Totals};
pub use metrics::Metrics;
pub use oracle::{Findings, Found, Judgement, judge};
pub use publishing::Publishing;
pub use random_run::{RunOptions, RunReport, random_run};
pub use schedule::{Fault, Step, Target, schedule};
pub use worker::Worker;
pub use world::{NatsServers, World, WorldBuilder};

/// How long anything may take that has to happen soon: generous, because a machine that runs many
/// servers at once is slow. Nothing is slept for so long.
pub const SOON: Duration = Duration::from_mins(1);
