//! What the tests share: servers, a stream and database for each test, the service as a process.

mod envelopes;
pub(crate) mod http;
mod service;
mod world;

pub(crate) use envelopes::{START_NS, envelope, numbered};
pub(crate) use ponix_testkit::{Metrics, SOON};
pub(crate) use service::{Service, ServiceBuilder};
pub(crate) use world::World;
