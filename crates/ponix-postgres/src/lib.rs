#![doc = include_str!("../README.md")]

mod claims;
mod config;
mod copy;
mod entities;
mod error;
mod metrics;
mod migrate;
mod outcome;
mod partitions;
mod row_id;
mod sink;
mod status;
mod storable_time;
mod store;
pub mod table;
mod tls;
mod write;

pub use config::{ConfigError, PostgresConfig};
pub use entities::{EntitiesError, Obstacle};
pub use error::{ErrorKind, StoreError};
pub use metrics::PostgresMetrics;
pub use migrate::MigrateError;
pub use outcome::MessageOutcome;
pub use partitions::Pruned;
pub use ponix_wire::message::{Accepted, MessageStatus, Status};
pub use sink::MessageSink;
pub use status::{Ended, StatusFilter};
pub use store::Postgres;
pub use write::MessageRow;
