#![doc = include_str!("../README.md")]

mod block;
mod classify;
mod client;
mod config;
mod encode;
mod envelope_sink;
mod error;
mod insert;
pub mod layout;
mod metrics;
pub mod migration;
mod month;
mod presence;
mod servers;
pub mod table;
mod transport;
mod version;
mod write;

pub use client::{Client, VersionError};
pub use config::{ClickHouseConfig, ConfigError, ConfigProblem, INSERT_MONTHS_MAX};
pub use encode::{BatchLimits, EncodedBatch, EnvelopeRow, encode};
pub use envelope_sink::EnvelopeSink;
pub use error::{ErrorKind, InsertError, RequestError};
pub use layout::{Layout, LayoutError};
pub use metrics::{ClickHouseMetrics, InsertResult, RetryReason};
pub use migration::{MigrateError, MigrationState, MigrationStatus, Migrator};
pub use presence::{EventKey, Presence};
pub use table::{TableConfig, TableError, TableRows, TableSink};
pub use version::{SERVER_VERSION_MIN, ServerVersion};
