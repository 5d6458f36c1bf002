//! Tests against the real engine: each starts a chdb-server of its own on a free port.
#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    clippy::naive_bytecount,
    clippy::print_stderr,
    reason = "a test fails where it cannot go on, may be slow, and says why it is skipped"
)]

mod authentication;
mod clickhouse_crate;
mod compression;
mod concurrency;
mod durability;
mod formats;
mod http;
mod inserts;
mod lifecycle;
mod python_client;
mod server;
mod sessions;
mod tables;
