//! The stack against the real servers.
#![expect(clippy::print_stdout, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod clickhouse;
mod fault_injection;
#[cfg(target_os = "linux")]
mod first_hour;
mod nats;
mod nats_cluster;
mod orphans;
mod postgres;
mod process;
mod proxy;
mod proxy_random;
#[cfg(target_os = "linux")]
mod up;
mod watchdog;
