//! One event as a declared pipeline carries it from the decoder to the sink.

use serde_json::{Map, Value};
use uuid::Uuid;

/// What an event of a declared pipeline holds, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its fields, as decoded and transformed. Numbers are what JSON's are: integers beyond 64 bits
    /// and decimals that must be exact are texts.
    pub fields: Map<String, Value>,
    /// The message's identity, the same on every delivery.
    pub identity: Uuid,
    /// When JetStream took the message, in nanoseconds since 1970.
    pub published_at_ns: i64,
    /// The message's sequence in its stream.
    pub stream_sequence: u64,
}
