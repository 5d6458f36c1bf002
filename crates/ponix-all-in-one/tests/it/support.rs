//! What the tests share: servers, a stream and database for each test, the service as a process.

mod envelopes;
pub(crate) mod http;
mod metrics;
mod service;
mod world;

use std::time::Duration;

pub(crate) use envelopes::{START_NS, numbered};
pub(crate) use metrics::Metrics;
pub(crate) use service::{Service, ServiceBuilder};
pub(crate) use world::World;

/// Long enough on a busy machine for what happens in milliseconds on an idle one.
pub(crate) const SOON: Duration = Duration::from_secs(90);
