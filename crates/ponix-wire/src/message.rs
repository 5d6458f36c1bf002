//! The words for raw messages, which the API, the worker and the store share.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// How a raw message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line `PREFIX|value|value|…`, the values in the order of the fields.
    Line,
    /// A JSON object.
    Json,
}

impl Format {
    /// Tells the form by the message's content type; without one, an object shows by its first byte.
    pub fn of(content_type: Option<&str>, payload: &[u8]) -> Self {
        match content_type {
            Some("application/json") => Self::Json,
            Some("text/plain") => Self::Line,
            _ if payload.trim_ascii_start().starts_with(b"{") => Self::Json,
            _ => Self::Line,
        }
    }

    /// Returns what the header [`CONTENT_TYPE`](crate::header::CONTENT_TYPE) says.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Line => "text/plain",
            Self::Json => "application/json",
        }
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// JetStream has it.
    Accepted,
    /// A worker had it and will have it again.
    Processing,
    /// Its rows are stored.
    Processed,
    /// It is wrong; nothing of it was stored.
    Failed,
    /// It was given up after too many deliveries; nothing of it was stored.
    DeadLetter,
}

impl Status {
    /// Returns the name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// Tells whether nothing more happens to the message by itself. A dead letter that is replayed
    /// may still become processed.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Processed | Self::Failed | Self::DeadLetter)
    }

    /// Returns the status of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Accepted,
            Self::Processing,
            Self::Processed,
            Self::Failed,
            Self::DeadLetter,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that JetStream has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The id of the message.
    pub message_id: Uuid,
    /// Whose it is; `None` where nobody needs to say who they are.
    pub organization: Option<String>,
    /// The entity it holds, where that is known.
    pub entity_type: Option<String>,
    /// When it came in.
    pub received_at: OffsetDateTime,
    /// The client's address.
    pub source: Option<String>,
}

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MessageStatus {
    /// The id of the message.
    pub message_id: Uuid,
    /// Whose it is; not shown, for only its organization sees it.
    #[serde(skip)]
    pub organization: Option<String>,
    /// How far it has come.
    pub status: Status,
    /// The entity it holds, where that is known.
    pub entity_type: Option<String>,
    /// When it came in first, to the microsecond.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    /// When it reached a final status.
    #[serde(with = "time::serde::rfc3339::option")]
    pub processed_at: Option<OffsetDateTime>,
    /// Why it is where it is, if not all is well.
    pub error: Option<String>,
    /// How often it was delivered again.
    pub retry_count: u32,
    /// The client's address; not shown.
    #[serde(skip)]
    pub source: Option<String>,
}

impl MessageStatus {
    /// The status of a message of which no more is known than that it is accepted.
    pub fn accepted(message: Accepted) -> Self {
        Self {
            message_id: message.message_id,
            organization: message.organization,
            status: Status::Accepted,
            entity_type: message.entity_type,
            received_at: message.received_at,
            processed_at: None,
            error: None,
            retry_count: 0,
            source: message.source,
        }
    }
}
