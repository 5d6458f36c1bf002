//! From a stored message to what a sink takes.

mod bytes;
mod csv;
mod entity;
mod envelope;
mod fields;
mod json;
mod protobuf;

use std::path::Path;

use ponix_entities::loader::{LoadError, LoadErrors};
use ponix_sink::Record;
use ponix_wire::PackFormat;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use fields::Fields;

pub use ponix_wire::DeadLetterReason as Reason;

use crate::spec::{Pipeline, TestInput};
use crate::transform::Program;

/// A message as it is stored in a stream.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The body.
    pub payload: &'a [u8],
    /// The subject it was published on.
    pub subject: &'a str,
    /// The headers the publisher sent.
    pub headers: &'a dyn Headers,
    /// Its identity by header or stream position, the same on every delivery.
    pub identity: Uuid,
    /// When the stream took it, nanoseconds since 1970.
    pub published_at_ns: i64,
    /// Its sequence in the stream.
    pub stream_sequence: u64,
    /// How often it was delivered, this time included. It differs between deliveries: nothing that
    /// is stored for good may depend on it.
    pub deliveries: u32,
}

impl<'a> Message<'a> {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)
    }
}

/// The headers of a message.
pub trait Headers: std::fmt::Debug + Sync {
    /// Returns the first value of a header.
    fn get(&self, name: &str) -> Option<&str>;
}

/// None.
impl Headers for () {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Headers for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// From a message to a row.
///
/// What it returns is a function of the message alone: no clock, no random numbers, no network, so
/// that it is the same on every delivery, whichever worker has it.
pub trait Decode: Send + Sync + 'static {
    /// What a message becomes.
    type Row: Send + Sync + 'static;

    /// Returns how events are packed, should a message say that it carries many.
    fn pack_format(&self) -> PackFormat {
        PackFormat::Single
    }

    /// Reads a message, or one event of a packed one.
    ///
    /// # Errors
    /// What makes the message a dead letter.
    fn decode(&self, message: &Message<'_>) -> Result<Decoded<Self::Row>, DecodeError>;
}

/// What a message becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<R> {
    /// A row.
    Row {
        /// The row.
        row: R,
        /// The identity of the event: its own if it carries one, else the message's.
        identity: Uuid,
    },
    /// Nothing: the transform dropped it. The message is settled.
    Dropped,
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DecodeError {
    /// The class of the reason.
    pub reason: Reason,
    /// What is wrong, in words.
    pub text: String,
}

impl DecodeError {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { reason, text }
    }
}

/// Reads messages as a declared pipeline says: its format, then its transform.
#[derive(Debug)]
pub struct RecordDecoder {
    fields: Fields,
    transform: Option<Program>,
}

impl RecordDecoder {
    /// Makes the decoder of a pipeline: reads the files that it names and compiles its transform.
    ///
    /// # Errors
    /// Everything that is wrong with them, at the place of the document.
    pub fn new(pipeline: &Pipeline) -> Result<Self, LoadErrors> {
        let mut errors = Vec::new();
        let fields = Fields::new(&pipeline.decode)
            .map_err(|found| {
                let of = found.into_iter();
                errors.extend(of.map(|found| found.in_document(pipeline)));
            })
            .ok();
        let transform = pipeline.transform.as_ref().map(|transform| {
            Program::compile(transform).map_err(|found| {
                errors.extend(
                    found
                        .into_iter()
                        .map(|problem| problem.into_error(pipeline)),
                );
            })
        });
        match (fields, transform.transpose()) {
            (Some(fields), Ok(transform)) => Ok(Self { fields, transform }),
            _ => Err(LoadErrors(errors)),
        }
    }

    /// Writes the fields of an event as a message of the format, for tests and samples.
    ///
    /// # Errors
    /// What the format has no place for.
    pub fn encode(&self, input: &TestInput) -> Result<Vec<u8>, String> {
        match input {
            TestInput::Payload(payload) => Ok(payload.clone()),
            TestInput::Fields(fields) => self.fields.encode(fields),
        }
    }

    /// Tells whether a message of the format is a text of one line as it stands.
    pub fn is_text(&self) -> bool {
        self.fields.is_text()
    }
}

impl Decode for RecordDecoder {
    type Row = Record;

    fn pack_format(&self) -> PackFormat {
        self.fields.pack_format()
    }

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<Record>, DecodeError> {
        let (fields, identity) = self.fields.decode(message)?;
        let fields = match &self.transform {
            None => Some(fields),
            Some(program) => program.run(fields, message, identity)?,
        };
        let Some(fields) = fields else {
            return Ok(Decoded::Dropped);
        };
        let row = Record {
            fields,
            identity,
            published_at_ns: message.published_at_ns,
            stream_sequence: message.stream_sequence,
        };
        Ok(Decoded::Row { row, identity })
    }
}

/// Something wrong with a file that a document names, or with the naming.
#[derive(Debug)]
pub(crate) enum FormatError {
    /// At the document's `decode`.
    Here(String),
    /// In another file.
    In(LoadError),
}

impl FormatError {
    fn in_document(self, pipeline: &Pipeline) -> LoadError {
        match self {
            Self::Here(message) => LoadError {
                path: pipeline.path.clone(),
                place: pipeline.places.decode,
                message,
            },
            Self::In(error) => error,
        }
    }

    fn file(path: &Path, message: impl std::fmt::Display) -> Vec<Self> {
        vec![Self::Here(format!("{}: {message}", path.display()))]
    }
}

/// The fields of an event.
pub(crate) type FieldMap = Map<String, Json>;
