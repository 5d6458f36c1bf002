//! What became of each message of a batch.

use ponix_sink::RejectedBy;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Its rows and its status `processed` are committed.
    Stored,
    /// It was stored before, nothing was written.
    AlreadyDone,
    /// It is wrong: its status is `failed`, and nothing of it was written.
    Refused {
        /// Who says so.
        by: RejectedBy,
        /// The field that is wrong, where one can be named.
        field: Option<String>,
        /// What is wrong, in words for the client.
        reason: String,
    },
    /// It may be stored later, when what it refers to is there; its status is `processing`.
    Retry {
        /// What it waits for.
        reason: String,
    },
}

impl MessageOutcome {
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::AlreadyDone => "already_done",
            Self::Refused { .. } => "refused",
            Self::Retry { .. } => "retry",
        }
    }
}
