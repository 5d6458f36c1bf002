#![doc = include_str!("../README.md")]

mod answer;
mod auth;
mod body;
mod config;
mod document;
mod doors;
mod envelope;
mod envelopes;
mod error;
mod group;
mod identity;
mod limits;
mod memory;
mod message;
mod messages;
mod metrics;
mod openapi;
pub mod probes;
mod router;
mod server;
mod state;
mod store;
mod stream;
mod submission;
mod trace;

pub use crate::auth::{ApiKeys, ApiKeysError};
pub use crate::config::{IngestConfig, MessagesConfig, ServerConfig, TlsFiles};
pub use crate::doors::{DoorConfig, DoorError};
pub use crate::error::{ApiError, ErrorBody, FieldProblem};
pub use crate::identity::id_of_key;
pub use crate::message::RawMessage;
pub use crate::metrics::{IngestMetrics, ServerMetrics};
pub use crate::router::router;
pub use crate::server::{Peer, ServeError, serve};
pub use crate::state::{Check, Identify, IngestState, Misfit, Reasons};
pub use crate::store::{MessageStore, Persisted, StatusList, StatusWriter, StoreUnavailable};
