//! What can go wrong with one request, and what to do about it.

use std::error::Error as StdError;
use std::time::Duration;

use clickhouse::error::Error as CrateError;

use crate::classify::{self, ExceptionClass};

/// What an INSERT failed with; the same type as that of every other request.
pub type InsertError = RequestError;

type BoxedError = Box<dyn StdError + Send + Sync>;

/// The longest exception text that is kept, in bytes. It travels in a header of a dead letter.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// How much of it is the text's end.
const MESSAGE_END_BYTES: usize = 600;

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The same request can succeed later: the network, the server's load, a replica.
    Transient,
    /// ClickHouse refuses the rows; others may pass.
    Rejected,
    /// Nothing passes until somebody mends the schema, the permissions or the configuration.
    Fatal,
}

/// A request that brought no success.
///
/// Whether an INSERT that ended in [`RequestError::TimedOut`] or [`RequestError::Network`] was
/// stored is unknown: it is sent again, and the table absorbs the copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// ClickHouse answered with an exception.
    #[error("clickhouse answered with code {code}: {message}")]
    Server {
        /// The number of the exception, as in `Code: 60`.
        code: u32,
        /// ClickHouse's own text without the number, at most 2,000 bytes of it. For a refused row
        /// it may quote the row: keep it out of the logs.
        message: String,
    },
    /// Something that is not ClickHouse answered, a proxy for instance.
    #[error("the answer is not from clickhouse: {text}")]
    NotClickHouse {
        /// What it said, at most 2,000 bytes of it.
        text: String,
    },
    /// ClickHouse answered without an exception, but tells of fewer rows than it was sent.
    #[error("clickhouse wrote {written} of {rows} rows")]
    Incomplete {
        /// Rows that were sent.
        rows: usize,
        /// Rows that the summary names.
        written: u64,
    },
    /// No connection, or it broke.
    #[error("no connection to clickhouse")]
    Network(#[source] BoxedError),
    /// No answer in time.
    #[error("no answer from clickhouse within {after:?}")]
    TimedOut {
        /// The timeout that ran out.
        after: Duration,
    },
    /// The answer could not be read.
    #[error("the answer of clickhouse cannot be read")]
    Answer(#[source] BoxedError),
    /// The request could not be built; the configuration is wrong.
    #[error("the request cannot be sent")]
    Request(#[source] BoxedError),
}

impl RequestError {
    /// Tells what the failure asks for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { code, message } => match classify::classify(*code, message) {
                ExceptionClass::Transient | ExceptionClass::TooLarge => ErrorKind::Transient,
                ExceptionClass::Rejected | ExceptionClass::Unlisted => ErrorKind::Rejected,
                ExceptionClass::Fatal => ErrorKind::Fatal,
            },
            Self::NotClickHouse { text } => classify::foreign_kind(text),
            Self::Network(_)
            | Self::TimedOut { .. }
            | Self::Answer(_)
            | Self::Incomplete { .. } => ErrorKind::Transient,
            Self::Request(_) => ErrorKind::Fatal,
        }
    }

    /// Returns the number of ClickHouse's exception, `None` if ClickHouse did not answer.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Tells whether a smaller INSERT may pass where this one did not (memory limit, code 241).
    pub fn is_too_large(&self) -> bool {
        self.class() == Some(ExceptionClass::TooLarge)
    }

    pub(crate) fn class(&self) -> Option<ExceptionClass> {
        match self {
            Self::Server { code, message } => Some(classify::classify(*code, message)),
            _ => None,
        }
    }

    /// Reads an error of the `clickhouse` crate, whose exceptions are texts.
    ///
    /// `timeout` is the one that was set for the request.
    pub(crate) fn from_crate(error: CrateError, timeout: Duration) -> Self {
        match error {
            CrateError::BadResponse(text) => Self::from_text(&text),
            CrateError::TimedOut => Self::TimedOut { after: timeout },
            CrateError::Network(source) => Self::Network(source),
            CrateError::InvalidParams(source) => Self::Request(source),
            CrateError::Unsupported(_) | CrateError::Compression(_) => Self::Request(error.into()),
            other => Self::Answer(other.into()),
        }
    }

    pub(crate) fn from_text(text: &str) -> Self {
        match classify::exception(text) {
            Some((code, message)) => Self::Server {
                code,
                message: shortened(message),
            },
            None => Self::NotClickHouse {
                text: shortened(text.trim()),
            },
        }
    }
}

/// Keeps the beginning of a text, and its end: that is where ClickHouse says in which view it was.
fn shortened(text: &str) -> String {
    if text.len() <= MESSAGE_BYTES_MAX {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(MESSAGE_BYTES_MAX - MESSAGE_END_BYTES - " … ".len());
    let tail = text.ceil_char_boundary(text.len() - MESSAGE_END_BYTES);
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> RequestError {
        RequestError::from_crate(CrateError::BadResponse(text.into()), Duration::ZERO)
    }

    #[test]
    fn an_exception_is_read_from_its_text() {
        let error = server("Code: 60. DB::Exception: Table p.x does not exist. (UNKNOWN_TABLE)");
        assert_eq!((error.code(), error.kind()), (Some(60), ErrorKind::Fatal));
        assert_eq!(
            error.to_string(),
            "clickhouse answered with code 60: DB::Exception: Table p.x does not exist. (UNKNOWN_TABLE)"
        );
        let bare = server("Code: 516");
        assert_eq!((bare.code(), bare.kind()), (Some(516), ErrorKind::Fatal));
    }

    #[test]
    fn a_proxy_in_between_is_no_exception() {
        let error = server("502 Bad Gateway");
        assert_eq!((error.code(), error.kind()), (None, ErrorKind::Transient));
        assert_eq!(server("401 Unauthorized").kind(), ErrorKind::Fatal);
    }

    #[test]
    fn memory_limits_ask_for_smaller_inserts() {
        let error = server("Code: 241. DB::Exception: Memory limit (total) exceeded");
        assert!(error.is_too_large());
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(!server("Code: 159. DB::Exception: Timeout exceeded").is_too_large());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let error = server(&format!("Code: 117. DB::Exception: {}", "ü".repeat(3_000)));
        let RequestError::Server { message, .. } = error else {
            panic!("{error:?}")
        };
        assert!(message.len() <= MESSAGE_BYTES_MAX && message.len() > MESSAGE_BYTES_MAX - 8);
    }

    #[test]
    fn network_failures_are_transient_and_keep_their_cause() {
        let cause = std::io::Error::other("connection refused");
        let error = RequestError::from_crate(CrateError::Network(cause.into()), Duration::ZERO);
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert_eq!(error.to_string(), "no connection to clickhouse");
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("connection refused"));
        let late = RequestError::from_crate(CrateError::TimedOut, Duration::from_mins(1));
        assert_eq!(late.to_string(), "no answer from clickhouse within 60s");
    }
}
