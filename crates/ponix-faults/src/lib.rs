#![doc = include_str!("../README.md")]

mod event;
mod findings;
mod history;
mod injector;
mod ledger;
mod oracle;
mod pipeline;
mod publishing;
mod random_run;
mod schedule;
mod worker;
mod world;

pub use event::{DEADLY_MARK, Event, Fate, IdentifiedBy, Poison};
pub use history::forget_histories;
pub use injector::FaultCounts;
pub use ledger::{Entry, Ledger, Totals};
pub use oracle::{Findings, Found, Judgement, judge};
pub use pipeline::Pipeline;
pub use ponix_testkit::{Metrics, SOON, Worker};
pub use publishing::Publishing;
pub use random_run::{RunOptions, RunReport, random_run};
pub use schedule::{Fault, Step, Target, schedule, trace};
pub use world::{NatsServers, World, WorldBuilder};
