#![doc = include_str!("../README.md")]

mod metrics;
mod worker;

use std::time::Duration;

pub use metrics::Metrics;
pub use worker::Worker;

/// How long anything may take that has to happen soon: generous, because a machine that runs many
/// servers at once is slow. Nothing is slept for so long.
pub const SOON: Duration = Duration::from_secs(90);
