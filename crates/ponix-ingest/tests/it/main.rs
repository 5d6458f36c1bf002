//! The HTTP API on a real NATS.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bad_requests;
mod client;
mod doors;
mod limits;
mod memory_store;
mod messages;
mod nats_down;
mod openapi;
mod serving;
mod support;
mod taking;
