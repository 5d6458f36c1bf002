//! Errors of decoding an envelope and of building one.

use crate::json::MISSING;
use crate::{JsonError, WireError};

/// Why a payload is no envelope that can be stored.
///
/// The verdict depends on the payload and its publish time alone, so it is the same on every
/// delivery. Texts name the field and hold none of its values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no protobuf message of type `envelope.v1.ProcessedEnvelope`.
    #[error("{field} is malformed protobuf")]
    Malformed {
        /// Path of the innermost message that could not be read.
        field: String,
        /// What is wrong with it.
        #[source]
        source: WireError,
    },
    /// The text is no envelope in JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A value of an envelope in JSON cannot be taken.
    #[error(transparent)]
    JsonValue(#[from] ConversionError),
    /// A required field is absent or empty.
    #[error("{field} is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// An identifier is too long.
    #[error("{field} has {bytes} bytes, at most {bytes_max} are accepted")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The longest accepted, in bytes.
        bytes_max: usize,
    },
    /// A timestamp is before 1970-01-01, after 2262-04-11T23:47:16.854775807Z (the last one
    /// `DateTime64(9)` can hold), or its nanoseconds are not from 0 to 999,999,999.
    #[error("{field} of {seconds} s and {nanos} ns is out of range")]
    TimeOutOfRange {
        /// Name of the field.
        field: &'static str,
        /// Seconds since 1970-01-01T00:00:00Z.
        seconds: i64,
        /// Nanoseconds on top of the seconds.
        nanos: i32,
    },
    /// `occurred_at` is too long after the publish time.
    #[error(
        "{field} is {} ahead of the publish time, at most one day is accepted",
        distance(*ahead_ns)
    )]
    TooFarAhead {
        /// Name of the field.
        field: &'static str,
        /// How far it is ahead of the publish time, in nanoseconds.
        ahead_ns: i64,
        /// The furthest accepted, in nanoseconds.
        ahead_ns_max: i64,
    },
    /// `event_id` is neither empty nor a UUID.
    #[error("{field} is not a UUID")]
    NotUuid {
        /// Name of the field.
        field: &'static str,
    },
    /// A number is NaN or infinite, which JSON cannot say.
    #[error("{field} is not a finite number")]
    NotFinite {
        /// Path of the number.
        field: String,
    },
    /// Objects and lists lie too deep inside one another.
    #[error("{field} is nested deeper than {depth_max} levels")]
    TooDeep {
        /// Path of the object or list that is one too deep.
        field: String,
        /// The most levels accepted, `data` itself being the first.
        depth_max: u32,
    },
    /// Two members of an object differ only in `.` and `%2E`, which ClickHouse cannot tell apart.
    #[error("{field} has the same path as another member once dots are written as %2E")]
    NameClash {
        /// Path of one of the members.
        field: String,
    },
}

/// The family of a [`DecodeError`], which becomes the reason of the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecodeErrorKind {
    /// The bytes are no such message.
    Decode,
    /// A required field is absent or empty.
    MissingField,
    /// A field has a value that cannot be stored.
    Value,
}

impl DecodeError {
    /// Tells the family of the error.
    pub fn kind(&self) -> DecodeErrorKind {
        match self {
            Self::Malformed { .. } => DecodeErrorKind::Decode,
            Self::Json(JsonError::NotUtf8 { .. } | JsonError::Text { .. }) => {
                DecodeErrorKind::Decode
            }
            Self::Json(JsonError::Value { reason, .. }) if *reason == MISSING => {
                DecodeErrorKind::MissingField
            }
            Self::Missing { .. } | Self::JsonValue(ConversionError::Missing { .. }) => {
                DecodeErrorKind::MissingField
            }
            _ => DecodeErrorKind::Value,
        }
    }
}

impl DecodeError {
    /// Returns the path of the field that is wrong, where it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Json(err) => err.field(),
            Self::JsonValue(err) => Some(err.field()),
            Self::Missing { field }
            | Self::TooLong { field, .. }
            | Self::TimeOutOfRange { field, .. }
            | Self::TooFarAhead { field, .. }
            | Self::NotUuid { field } => Some(field),
            Self::Malformed { field, .. }
            | Self::NotFinite { field }
            | Self::TooDeep { field, .. }
            | Self::NameClash { field } => Some(field),
        }
    }
}

impl ConversionError {
    /// Returns the path of the field that is wrong.
    pub fn field(&self) -> &str {
        match self {
            Self::Missing { field }
            | Self::TooLong { field, .. }
            | Self::TimeOutOfRange { field }
            | Self::NotRfc3339 { field, .. } => field,
            Self::IntegerNotExact { field }
            | Self::NotFinite { field }
            | Self::TooDeep { field, .. } => field,
        }
    }
}

/// Why a value cannot go into an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// A required field is absent or empty.
    #[error("{field} is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// An identifier is too long.
    #[error("{field} has {bytes} bytes, at most {bytes_max} are accepted")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The longest accepted, in bytes.
        bytes_max: usize,
    },
    /// An integer is beyond ±2^53: a Struct number is a double and could not hold it exactly.
    #[error("{field} is an integer beyond ±2^53: send it as a text")]
    IntegerNotExact {
        /// Path of the number.
        field: String,
    },
    /// A number is not a finite double.
    #[error("{field} is not a finite number")]
    NotFinite {
        /// Path of the number.
        field: String,
    },
    /// Objects and lists lie too deep inside one another.
    #[error("{field} is nested deeper than {depth_max} levels")]
    TooDeep {
        /// Path of the object or list that is one too deep.
        field: String,
        /// The most levels accepted, the outermost object being the first.
        depth_max: u32,
    },
    /// A timestamp is before 1970-01-01, after 2262-04-11T23:47:16.854775807Z, or has nanoseconds
    /// outside a second.
    #[error("{field} is out of range")]
    TimeOutOfRange {
        /// Name of the field.
        field: &'static str,
    },
    /// A text is no RFC 3339 date and time.
    #[error(
        "{field} is not an RFC 3339 date and time: send one with its zone, such as 2026-03-01T12:00:00Z"
    )]
    NotRfc3339 {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: time::error::Parse,
    },
}

/// Returns an error and its causes, separated by colons.
pub fn error_chain(err: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    let mut parts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some errors print their source themselves.
    parts.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    parts.join(": ")
}

/// A time span, nanoseconds, as people say it.
pub fn distance(ns: i64) -> String {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let hours = ns / HOUR_NS;
    match hours {
        0..48 => format!("{hours} hours"),
        48..17_520 => format!("{} days", hours / 24),
        _ => format!("{} years", hours / 8_766),
    }
}
