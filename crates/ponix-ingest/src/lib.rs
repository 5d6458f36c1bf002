#![doc = include_str!("../README.md")]

mod auth;
mod body;
mod config;
mod envelope;
mod envelopes;
mod error;
mod limits;
mod metrics;
mod openapi;
mod publish;
mod router;
mod serve;
mod state;

pub use crate::auth::{ApiKeys, ApiKeysError};
pub use crate::config::{IngestConfig, TlsFiles};
pub use crate::envelopes::{EnvelopeAccepted, EnvelopeBody, EnvelopesAccepted, LineResult};
pub use crate::error::{ApiError, ErrorBody};
pub use crate::metrics::IngestMetrics;
pub use crate::router::router;
pub use crate::serve::{ServeError, serve};
pub use crate::state::{IngestState, Reasons};
