#![doc = include_str!("../README.md")]

mod auth;
mod body;
mod config;
mod envelope;
mod envelopes;
mod error;
mod limits;
mod message;
mod messages;
mod metrics;
mod openapi;
mod publish;
mod router;
mod serve;
mod state;
mod store;

pub use crate::auth::{ApiKeys, ApiKeysError};
pub use crate::config::{IngestConfig, MessagesConfig, TlsFiles};
pub use crate::envelopes::{EnvelopeAccepted, EnvelopeBody, EnvelopesAccepted, LineResult};
pub use crate::error::{ApiError, ErrorBody};
pub use crate::message::{IncomingMessage, MessageFormat};
pub use crate::messages::{BatchAccepted, BatchLine, MessageAccepted, UnknownStatus};
pub use crate::metrics::IngestMetrics;
pub use crate::router::router;
pub use crate::serve::{ServeError, serve};
pub use crate::state::{Identify, IngestState, Reasons};
pub use crate::store::{
    AcceptedMessage, MessageStatus, MessageStore, Persisted, StatusWriter, StoreUnavailable,
};
