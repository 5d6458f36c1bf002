//! The binary against real NATS and ClickHouse servers.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod admin;
mod batches;
mod chart;
mod clients;
mod configuring;
mod dead_letters;
mod declared;
mod entities;
mod http_api;
mod messages;
mod migrating;
mod other_settings;
mod outages;
mod page;
mod pipelines;
mod reconciling;
mod restarting;
mod roles;
mod rows;
mod sample_producer;
mod scaling;
mod small_stream;
mod starting;
mod stopping;
mod support;
mod table_dropped;
mod workers;
