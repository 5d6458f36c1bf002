//! The crate against real NATS servers.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

mod batches;
mod cluster;
mod connect;
mod consumers;
mod dead_letters;
mod failures;
mod history;
mod holding;
mod janitor;
mod login;
mod lost_tail;
mod outages;
mod packed;
mod publisher;
mod putting_back;
mod sharing;
mod shutdown;
mod streams;
mod support;
