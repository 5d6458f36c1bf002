#![doc = include_str!("../README.md")]

mod event;
mod injector;
mod ledger;
mod oracle;
mod publishing;
mod random_run;
mod schedule;
mod worker;
mod world;

pub use event::{Event, Fate, IdentifiedBy, Poison};
pub use injector::FaultCounts;
pub use ledger::{Entry, Ledger, Totals};
pub use oracle::{Findings, Found, Judgement, judge};
pub use ponix_testkit::{Metrics, SOON, Worker};
pub use publishing::Publishing;
pub use random_run::{RunOptions, RunReport, random_run};
pub use schedule::{Fault, Step, Target, schedule};
pub use world::{NatsServers, World, WorldBuilder};
