#![doc = include_str!("../README.md")]

mod backend;
mod clickhouse;
#[cfg(feature = "containers")]
mod container;
mod eventually;
mod find;
mod folder;
mod http;
mod nats;
mod nats_cluster;
mod ports;
mod postgres;
mod proc;
mod process;
mod proxy;
mod reaper;
mod server;
mod spawner;
mod watchdog;

pub use clickhouse::{ClickHouse, ClickHouseBuilder};
pub use eventually::{Answer, eventually};
pub use find::{nats_server, oldest_nats_server, workspace_binary};
pub use http::{exchange as http_exchange, get as http_get};
pub use nats::{Nats, NatsBuilder};
pub use nats_cluster::{NatsCluster, NatsClusterBuilder};
pub use nix::sys::signal::Signal;
pub use ports::free_addr;
pub use postgres::{Postgres, PostgresBuilder};
pub use process::{Process, ProcessBuilder};
pub use proxy::{Mode, Proxy, ProxyCounters, Side};
pub use server::Server;
pub use watchdog::watch_this_test;
