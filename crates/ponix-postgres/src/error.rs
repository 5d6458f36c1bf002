//! What can go wrong with PostgreSQL, and what to do about it.

use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use ponix_sink::{ErrorClass, RefusedAlike};
use tokio_postgres::error::{DbError, SqlState};

/// The longest text of the server that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The same can succeed later: the network, the server's load, a restart.
    Transient,
    /// Nothing passes until somebody mends the schema, the permissions or the configuration.
    Fatal,
}

impl From<ErrorKind> for ErrorClass {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Transient => Self::Transient,
            ErrorKind::Fatal => Self::Fatal,
        }
    }
}

/// An operation that brought no success.
///
/// Whether a write that ended in [`StoreError::Network`] or [`StoreError::TimedOut`] was stored is
/// unknown: it is repeated, and the claims tell what was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The server answered with an error.
    #[error("postgresql answered with {code}: {message}")]
    Server {
        /// The SQLSTATE, five characters, as in `42P01`.
        code: String,
        /// PostgreSQL's own text, at most 2,000 bytes of it. For a refused row it may quote the
        /// row: keep it out of the logs.
        message: String,
    },
    /// No connection, or it broke.
    #[error("no connection to postgresql")]
    Network(#[source] tokio_postgres::Error),
    /// No answer in time.
    #[error("no answer from postgresql within {after:?}")]
    TimedOut {
        /// The timeout that ran out.
        after: Duration,
    },
    /// All connections of the pool are in use.
    #[error("no connection of the pool became free within {after:?}")]
    PoolBusy {
        /// The timeout that ran out.
        after: Duration,
    },
    /// The pool was closed.
    #[error("the pool of postgresql is closed")]
    Closed,
    /// Rows of a message were changed by somebody else in between; begun again, it passes.
    #[error("another writer came in between")]
    Conflict,
    /// PostgreSQL refuses so much for one reason that it may be at fault; nothing was written.
    #[error("postgresql refuses too much")]
    RefusedAlike(#[from] RefusedAlike),
    /// The database and this program do not agree on what a column is.
    #[error("the answer of postgresql cannot be read")]
    Answer(#[source] tokio_postgres::Error),
}

impl StoreError {
    /// Tells what the failure asks for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { code, .. } => kind_of(code),
            Self::Network(_) | Self::TimedOut { .. } | Self::PoolBusy { .. } | Self::Conflict => {
                ErrorKind::Transient
            }
            Self::RefusedAlike(_) | Self::Closed | Self::Answer(_) => ErrorKind::Fatal,
        }
    }

    /// Returns the SQLSTATE, `None` if the server did not answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Tells whether the transaction lost against another one and passes when it is begun again.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Server { code, .. } => matches!(code.as_str(), "40001" | "40P01"),
            Self::Conflict => true,
            _ => false,
        }
    }

    pub(crate) fn of_pool(error: PoolError, connect: Duration, wait: Duration) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::PoolBusy { after: wait },
            PoolError::Timeout(_) => Self::TimedOut { after: connect },
            PoolError::Backend(error) => error.into(),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::Closed
            }
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return answer.into();
        }
        // The crate's errors have texts only. What is not ours to mend is the network.
        const OURS: [&str; 7] = [
            "error serializing",
            "error deserializing",
            "error encoding",
            "expected ",
            "invalid ",
            "query returned",
            "authentication error",
        ];
        let text = error.to_string();
        if !OURS.iter().any(|ours| text.starts_with(ours)) {
            return Self::Network(error);
        }
        Self::Answer(error)
    }
}

impl From<&DbError> for StoreError {
    fn from(error: &DbError) -> Self {
        Self::Server {
            code: error.code().code().to_owned(),
            message: shortened(error.message()),
        }
    }
}

/// Tells whether an error is about the rows that were sent, rather than about everything.
///
/// # Source
/// PostgreSQL documentation, appendix A: class 22 is "data exception", class 23 "integrity
/// constraint violation"; 54000 and 54001 are limits that a value can exceed.
pub(crate) fn is_about_rows(code: &SqlState) -> bool {
    let code = code.code();
    matches!(code.get(..2), Some("22" | "23")) || matches!(code, "54000" | "54001")
}

/// # Source
/// PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
fn kind_of(code: &str) -> ErrorKind {
    // Single codes of classes that are fatal else: the server stops, starts or drops the database;
    // a timeout or a lock; a transaction that idled or was ended; a plan of before a migration.
    const TRANSIENT: [&str; 13] = [
        "57P01", "57P02", "57P03", "57P04", "57P05", "57014", "55P03", "55006", "25P02", "25P03",
        "25P04", "0A000", "26000",
    ];
    // Connection, rollback, resources, system, internal.
    const TRANSIENT_CLASSES: [&str; 5] = ["08", "40", "53", "58", "XX"];
    let class = code.get(..2).unwrap_or_default();
    if TRANSIENT.contains(&code) || TRANSIENT_CLASSES.contains(&class) {
        return ErrorKind::Transient;
    }
    ErrorKind::Fatal
}

pub(crate) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_the_code() {
        for code in [
            "57P01", "53300", "53200", "40001", "40P01", "08006", "57014", "XX000",
        ] {
            assert_eq!(kind_of(code), ErrorKind::Transient, "{code}");
        }
        for code in [
            "42P01", "42501", "25006", "28P01", "3D000", "42703", "22003",
        ] {
            assert_eq!(kind_of(code), ErrorKind::Fatal, "{code}");
        }
    }

    #[test]
    fn classes_22_and_23_are_about_rows() {
        assert!(is_about_rows(&SqlState::NUMERIC_VALUE_OUT_OF_RANGE));
        assert!(is_about_rows(&SqlState::UNIQUE_VIOLATION));
        assert!(!is_about_rows(&SqlState::UNDEFINED_TABLE));
        assert!(!is_about_rows(&SqlState::T_R_DEADLOCK_DETECTED));
    }

    #[test]
    fn a_text_is_cut_between_characters_and_has_no_nul() {
        assert_eq!(shortened("a\0b"), "a\u{fffd}b");
        assert!(shortened(&"ü".repeat(2_000)).len() <= MESSAGE_BYTES_MAX);
    }
}
