//! Packed messages: from a stored message to its events, and from events to messages.
//!
//! A message with the header [`PACKED`](crate::header::PACKED) carries as many events as that says. Envelopes
//! are packed as `envelope.v1.ProcessedEnvelopes`, the events of formats with one event per line as
//! lines. A message without the header is one event.

use prost::encoding::{encode_key, encode_varint, encoded_len_varint, key_len};
use uuid::Uuid;

use crate::wire::{MESSAGE_DEPTH_MAX, Reader, WireError, WireType};

/// Number of the repeated field of `ProcessedEnvelopes`, which an envelope does not have.
const ENVELOPES: u32 = 15;

/// Events in one message at most, unless configured otherwise.
pub const PACK_EVENTS_MAX: usize = 10_000;

/// How the events of a message are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackFormat {
    /// As `envelope.v1.ProcessedEnvelopes`.
    Envelopes,
    /// One on each line. A line break behind the last one is not the begin of another.
    Lines,
    /// Not at all: a message of the format is one event.
    Single,
}

/// One event of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its place in a packed message, counted from 0; `None` where the message is the event.
    pub index: Option<u32>,
    /// Its identity, should it carry none: the same on every delivery.
    pub identity: Uuid,
    /// Its bytes, as a message of its own would have them.
    pub bytes: &'a [u8],
}

/// Why the events of a message cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The header is no number.
    #[error("header Ponix-Packed is no number of events")]
    Header,
    /// The format has one event per message.
    #[error("messages of this format carry one event each, this one has the header Ponix-Packed")]
    Single,
    /// There is none.
    #[error("a packed message without an event")]
    Empty,
    /// There are more than may be.
    #[error("a packed message of {events} events, at most {events_max} may be")]
    TooMany {
        /// What the header says, or what is there if that is more.
        events: u64,
        /// The limit.
        events_max: usize,
    },
    /// There are not as many as the header says.
    #[error("a packed message of {found} events, whose header says {said}")]
    Count {
        /// What the header says.
        said: u64,
        /// How many are there.
        found: usize,
    },
    /// It is no `ProcessedEnvelopes`.
    #[error("the frames of a packed message are broken")]
    Frames(#[from] WireError),
}

/// The events of a stored message, in order.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    message: Uuid,
    parts: Parts<'a>,
}

#[derive(Debug, Clone)]
enum Parts<'a> {
    Whole(&'a [u8]),
    Packed(Vec<&'a [u8]>),
}

/// Tells the events of a stored message apart: its one event, or those that are packed in it.
///
/// `said` is the header [`PACKED`](crate::header::PACKED), `message` the identity of the message.
///
/// # Errors
/// [`PackError`], which is the same on every delivery: the message as a whole is a dead letter.
pub fn unpack<'a>(
    format: PackFormat,
    said: Option<&str>,
    payload: &'a [u8],
    message: Uuid,
    events_max: usize,
) -> Result<Events<'a>, PackError> {
    let Some(said) = said else {
        let parts = Parts::Whole(payload);
        return Ok(Events { message, parts });
    };
    let said = events_said(said).ok_or(PackError::Header)?;
    // Before anything is set aside for them.
    let too_many = |events| PackError::TooMany { events, events_max };
    let expected = usize::try_from(said).ok().filter(|n| *n <= events_max);
    let expected = expected.ok_or(too_many(said))?;
    let mut parts = Vec::with_capacity(expected.min(payload.len()));
    let push = |parts: &mut Vec<&'a [u8]>, part| {
        parts.push(part);
        let fits = parts.len() <= events_max;
        fits.then_some(()).ok_or(too_many(parts.len() as u64))
    };
    match format {
        PackFormat::Single => return Err(PackError::Single),
        PackFormat::Lines => {
            let lines = payload.strip_suffix(b"\n").unwrap_or(payload);
            let lines = (!payload.is_empty()).then_some(lines);
            for line in lines.iter().flat_map(|it| it.split(|byte| *byte == b'\n')) {
                push(&mut parts, line)?;
            }
        }
        PackFormat::Envelopes => {
            let mut reader = Reader::new(payload);
            while let Some(key) = reader.key()? {
                if key.number == ENVELOPES {
                    key.expect(WireType::Bytes)?;
                    push(&mut parts, reader.bytes()?)?;
                } else {
                    reader.skip(key, MESSAGE_DEPTH_MAX)?;
                }
            }
        }
    }
    match parts.len() {
        0 => Err(PackError::Empty),
        found if found != expected => Err(PackError::Count { said, found }),
        _ => Ok(Events {
            message,
            parts: Parts::Packed(parts),
        }),
    }
}

/// Reads the header [`PACKED`](crate::header::PACKED); `None` for one that is no number.
pub fn events_said(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl<'a> Events<'a> {
    /// Returns the number of events, at least 1.
    pub fn len(&self) -> usize {
        match &self.parts {
            Parts::Whole(_) => 1,
            Parts::Packed(parts) => parts.len(),
        }
    }

    /// Tells whether there is none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether the message is packed, be it with one event.
    pub fn is_packed(&self) -> bool {
        matches!(self.parts, Parts::Packed(_))
    }

    /// Returns the events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'a>> {
        let parts = match &self.parts {
            Parts::Whole(bytes) => std::slice::from_ref(bytes),
            Parts::Packed(parts) => parts,
        };
        let is_packed = self.is_packed();
        parts.iter().zip(0_u32..).map(move |(bytes, index)| Event {
            index: is_packed.then_some(index),
            identity: if is_packed {
                event_identity(self.message, index)
            } else {
                self.message
            },
            bytes,
        })
    }
}

/// Returns the identity of an event that carries none, by its place in the message that has this
/// identity: never the message's own, or a pack of one event and the same event sent alone would share
/// it by accident.
pub fn event_identity(message: Uuid, index: u32) -> Uuid {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(message.as_bytes());
    bytes[16..].copy_from_slice(&index.to_be_bytes());
    uuid_of(&blake3::hash(&bytes))
}

/// The id of a packed message: the same for the same events in the same order.
pub fn pack_id<'a>(events: impl IntoIterator<Item = &'a Uuid>) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for event in events {
        hasher.update(event.as_bytes());
    }
    uuid_of(&hasher.finalize())
}

fn uuid_of(hash: &blake3::Hash) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

/// How large packed messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// Events in one at most.
    pub events_max: usize,
    /// Bytes of a body at most.
    pub bytes_max: usize,
}

/// An event that fits no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of {bytes} bytes, where a message has room for {bytes_max}")]
pub struct TooLarge {
    /// Bytes of the event, with its frame.
    pub bytes: usize,
    /// Bytes of a body at most.
    pub bytes_max: usize,
}

/// Puts events one behind the other into the body of a packed message.
#[derive(Debug)]
pub struct Packer {
    format: PackFormat,
    limits: PackLimits,
    body: Vec<u8>,
    events: usize,
}

impl Packer {
    /// Begins an empty body.
    pub const fn new(format: PackFormat, limits: PackLimits) -> Self {
        Self {
            format,
            limits,
            body: Vec::new(),
            events: 0,
        }
    }

    /// Adds an event, encoded as a message of its own would have it. Returns false, and adds nothing, when
    /// it does not fit beside those that are there: take them first.
    ///
    /// # Errors
    /// It fits no message.
    ///
    /// # Panics
    /// A line has a line break in it, or the format takes no packs: the caller must not offer that.
    pub fn push(&mut self, event: &[u8]) -> Result<bool, TooLarge> {
        let bytes = match self.format {
            PackFormat::Envelopes => {
                key_len(ENVELOPES) + encoded_len_varint(event.len() as u64) + event.len()
            }
            PackFormat::Lines => event.len() + 1,
            PackFormat::Single => panic!("the format takes no packs"),
        };
        let bytes_max = self.limits.bytes_max;
        if bytes > bytes_max {
            return Err(TooLarge { bytes, bytes_max });
        }
        if self.body.len() + bytes > bytes_max || self.events >= self.limits.events_max {
            return Ok(false);
        }
        if self.format == PackFormat::Envelopes {
            let wire_type = prost::encoding::WireType::LengthDelimited;
            encode_key(ENVELOPES, wire_type, &mut self.body);
            encode_varint(event.len() as u64, &mut self.body);
            self.body.extend_from_slice(event);
        } else {
            assert!(!event.contains(&b'\n'), "an event of more than one line");
            self.body.extend_from_slice(event);
            self.body.push(b'\n');
        }
        self.events += 1;
        Ok(true)
    }

    /// Returns the number of events in the body.
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Takes the body with the number of its events, and begins an empty one.
    pub fn take(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.body),
            std::mem::take(&mut self.events),
        )
    }
}

#[cfg(test)]
mod tests;
