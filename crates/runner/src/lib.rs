#![doc = include_str!("../README.md")]

mod closer;
mod outcome;
mod process;
mod run;
mod runner;
mod runtime;
mod shutdown;
mod signals;
mod startup;

pub use outcome::Outcome;
pub use process::{BoxError, Ending};
pub use runner::{
    DEFAULT_CLOSER_TIMEOUT, DEFAULT_GRACE_TIME, DEFAULT_STARTUP_TIMEOUT, HARD_STOP_TIME, Runner,
};
pub use runtime::block_on;
pub use shutdown::Shutdown;
pub use signals::{Signals, StopSignal};
pub use startup::Startup;
