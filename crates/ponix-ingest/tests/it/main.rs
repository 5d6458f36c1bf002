//! The HTTP API on a real NATS.

mod bad_requests;
mod client;
mod limits;
mod nats_down;
mod support;
mod taking;
