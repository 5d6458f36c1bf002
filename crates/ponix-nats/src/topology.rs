//! Streams and their consumers as data: what a server has, what is wanted, and the way between.
//!
//! A [`ServerConfig`] has the names and units of the server's API. What no [`Setting`] knows is not
//! compared, and survives an update.

mod plan;
mod server;
mod setting;

use std::fmt;

use serde_json::{Map, Value as Json};

pub use plan::{Action, Change, Plan, Refusal, Step, plan};
pub use server::{TopologyError, apply, read};
pub use setting::{CONSUMER_SETTINGS, STREAM_SETTINGS, Setting, SettingKind, is_reserved};

/// The configuration of a stream or consumer in the names and units of the server's API.
pub type ServerConfig = Map<String, Json>;

/// A stream and its consumers: as they are wanted, or as a server has them.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamLayout {
    /// The stream.
    pub config: ServerConfig,
    /// Its consumers.
    pub consumers: Vec<ServerConfig>,
}

impl StreamLayout {
    /// Returns the stream's name.
    pub fn name(&self) -> &str {
        name(&self.config)
    }
}

/// A stream as a server has it, and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamOnServer {
    /// The stream and its consumers.
    pub layout: StreamLayout,
    /// Messages that it holds.
    pub messages: u64,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Subjects that its messages are of.
    pub subjects: u64,
    /// When the oldest message was published, nanoseconds since 1970; 0 when there is none.
    pub oldest_ns: i128,
}

impl StreamOnServer {
    /// Tells whether it is the store of something else, such as a key-value bucket or MQTT's
    /// sessions.
    pub fn is_internal(&self) -> bool {
        let name = self.layout.name();
        ["KV_", "OBJ_", "$"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }
}

/// A stream, or a consumer of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A stream.
    Stream(String),
    /// A consumer.
    Consumer {
        /// The stream's name.
        stream: String,
        /// The consumer's name.
        consumer: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream) => write!(f, "stream {stream}"),
            Self::Consumer { stream, consumer } => write!(f, "consumer {stream}/{consumer}"),
        }
    }
}

/// The name of a stream or consumer.
fn name(config: &ServerConfig) -> &str {
    config
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default()
}

/// Tells whether a consumer waits to be asked and outlives those who ask: the only kind that is
/// ever declared, compared or removed.
pub fn is_durable_pull(consumer: &ServerConfig) -> bool {
    let has = |key: &str| consumer.get(key).is_some_and(Json::is_string);
    has("durable_name") && !has("deliver_subject")
}
