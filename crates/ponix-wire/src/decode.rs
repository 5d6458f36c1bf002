//! From the payload of a message to what a row of the table needs.

use uuid::Uuid;

use crate::timestamp::storable_ns;
use crate::transcode::{DATA_DEPTH_MAX, Pieces, Reason, TranscodeError, struct_to_json};
use crate::wire::{MESSAGE_DEPTH_MAX, Reader, WireError, WireType};
use crate::{DecodeError, ID_BYTES_MAX, json_envelope};

#[cfg(test)]
mod tests;

/// How far `occurred_at` may be ahead of the publish time, in nanoseconds: one day, for devices
/// with odd clocks.
pub const OCCURRED_AT_AHEAD_MAX_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// An envelope, checked and ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedEnvelope {
    /// The organization that owns the end device; 1 to [`ID_BYTES_MAX`] bytes.
    pub organization_id: String,
    /// The end device that sent the event; 1 to [`ID_BYTES_MAX`] bytes.
    pub end_device_id: String,
    /// When the event happened, in nanoseconds since 1970-01-01T00:00:00Z, never negative.
    pub occurred_at_ns: i64,
    /// When the envelope was made, in nanoseconds since 1970-01-01T00:00:00Z, never negative.
    pub processed_at_ns: i64,
    /// The readings as one JSON object without repeated keys, every number with a fraction or an
    /// exponent.
    pub data_json: String,
    /// The identity the producer gave, if it gave one.
    pub event_id: Option<Uuid>,
}

/// Decodes a payload of type `envelope.v1.ProcessedEnvelope`, or the same as a JSON object, and
/// checks it. JSON has the fields under the same names, and is checked as over HTTP; times are RFC
/// 3339, and without `processed_at` it is the publish time.
///
/// `published_at_ns` is the time JetStream took the message, in nanoseconds since
/// 1970-01-01T00:00:00Z. It bounds `occurred_at`; no clock is read, so the verdict is the same on
/// every delivery.
///
/// The data goes from the wire to JSON text in one pass, without the tree of maps prost would
/// build. What is accepted and what it means is what prost makes of it: the last one wins for
/// repeated keys and fields, sub-messages in pieces merge, unknown fields are skipped; a Value
/// without a kind is null. Beyond prost, an envelope is accepted only if
///
/// - `organization_id` and `end_device_id` have 1 to [`ID_BYTES_MAX`] bytes, and `occurred_at`,
///   `processed_at` are there; no `data` is `{}`;
/// - `occurred_at` and `processed_at` are from 1970-01-01 to the end of `DateTime64(9)` in 2262,
///   and `occurred_at` is at most [`OCCURRED_AT_AHEAD_MAX_NS`] after the publish time;
/// - `event_id` is empty or a UUID: hyphenated, 32 digits, braced or as URN. The nil UUID counts
///   as empty, since it is what an unset id is in many languages; as an identity it would make one
///   event of many;
/// - every number in `data` is finite, and objects and lists lie at most [`DATA_DEPTH_MAX`] deep,
///   also in values that a later one replaces;
/// - no two members of an object differ only in `.` and `%2E`, which ClickHouse cannot tell apart;
/// - the members of a Struct have the wire type of a message, which prost does not look at.
///
/// # Errors
///
/// [`DecodeError`] for the first thing found wrong; it names the field. Bytes after it may not have
/// been looked at.
pub fn decode_envelope(
    payload: &[u8],
    published_at_ns: i64,
) -> Result<DecodedEnvelope, DecodeError> {
    decode_envelope_of(payload, None, published_at_ns)
}

/// As [`decode_envelope`], with what the publisher says in `Content-Type`: `application/json` is read as
/// JSON whatever it begins with, and a protobuf type as protobuf.
///
/// # Errors
///
/// See [`decode_envelope`].
pub fn decode_envelope_of(
    payload: &[u8],
    content_type: Option<&str>,
    published_at_ns: i64,
) -> Result<DecodedEnvelope, DecodeError> {
    let essence = content_type.and_then(|text| text.split(';').next());
    let essence = essence.map(|text| text.trim().to_ascii_lowercase());
    let is_json = match essence.as_deref() {
        Some("application/json") => true,
        Some("application/x-protobuf" | "application/protobuf") => false,
        _ => json_envelope::is_json(payload),
    };
    if is_json {
        let payload = json_envelope::protobuf_of(payload, published_at_ns)?;
        return decode_protobuf(&payload, published_at_ns);
    }
    decode_protobuf(payload, published_at_ns)
}

fn decode_protobuf(payload: &[u8], published_at_ns: i64) -> Result<DecodedEnvelope, DecodeError> {
    let fields = Fields::read(payload)?;
    let organization_id = identifier("organization_id", fields.organization_id)?;
    let end_device_id = identifier("end_device_id", fields.end_device_id)?;
    let occurred_at_ns = time("occurred_at", fields.occurred_at)?;
    let processed_at_ns = time("processed_at", fields.processed_at)?;
    let data = fields.data.unwrap_or_else(|| Pieces::new(&[]));
    let event_id = identity(fields.event_id)?;

    check_ahead(occurred_at_ns, published_at_ns)?;

    Ok(DecodedEnvelope {
        organization_id: organization_id.to_owned(),
        end_device_id: end_device_id.to_owned(),
        occurred_at_ns,
        processed_at_ns,
        data_json: struct_to_json(&data).map_err(|error| data_error(&error))?,
        event_id,
    })
}

/// The fields of an envelope as they lie in the payload.
#[derive(Debug, Default)]
struct Fields<'a> {
    organization_id: &'a str,
    end_device_id: &'a str,
    occurred_at: Option<Time>,
    data: Option<Pieces<'a>>,
    processed_at: Option<Time>,
    event_id: &'a str,
}

/// A `google.protobuf.Timestamp`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

impl<'a> Fields<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Self::default();
        let mut reader = Reader::new(payload);
        loop {
            match fields.read_next(&mut reader) {
                Ok(true) => {}
                Ok(false) => return Ok(fields),
                Err((field, source)) => {
                    return Err(DecodeError::Malformed {
                        field: field.to_owned(),
                        source,
                    });
                }
            }
        }
    }

    /// Reads one field; false at the end. The error comes with the name of the field.
    fn read_next(&mut self, reader: &mut Reader<'a>) -> Result<bool, (&'static str, WireError)> {
        let Some(key) = reader.key().map_err(|error| ("envelope", error))? else {
            return Ok(false);
        };
        let field = match key.number {
            1 => "organization_id",
            2 => "end_device_id",
            3 => "occurred_at",
            4 => "data",
            5 => "processed_at",
            6 => "event_id",
            _ => {
                reader
                    .skip(key, MESSAGE_DEPTH_MAX)
                    .map_err(|error| ("envelope", error))?;
                return Ok(true);
            }
        };
        key.expect(WireType::Bytes)
            .and_then(|()| {
                match key.number {
                    1 => self.organization_id = reader.str()?,
                    2 => self.end_device_id = reader.str()?,
                    3 => self
                        .occurred_at
                        .get_or_insert_default()
                        .merge(reader.bytes()?)?,
                    4 => {
                        let piece = reader.bytes()?;
                        match &mut self.data {
                            Some(pieces) => pieces.push(piece),
                            none => *none = Some(Pieces::new(piece)),
                        }
                    }
                    5 => self
                        .processed_at
                        .get_or_insert_default()
                        .merge(reader.bytes()?)?,
                    _ => self.event_id = reader.str()?,
                }
                Ok(true)
            })
            .map_err(|error| (field, error))
    }
}

impl Time {
    /// Reads a piece of a Timestamp on top of what was read of it before.
    fn merge(&mut self, piece: &[u8]) -> Result<(), WireError> {
        let mut reader = Reader::new(piece);
        while let Some(key) = reader.key()? {
            match key.number {
                1 => {
                    key.expect(WireType::Varint)?;
                    self.seconds = reader.varint()? as i64;
                }
                2 => {
                    key.expect(WireType::Varint)?;
                    self.nanos = reader.varint()? as i32;
                }
                _ => reader.skip(key, MESSAGE_DEPTH_MAX - 1)?,
            }
        }
        Ok(())
    }
}

pub(crate) fn check_ahead(occurred_at_ns: i64, published_at_ns: i64) -> Result<(), DecodeError> {
    let ahead_ns = occurred_at_ns.saturating_sub(published_at_ns);
    if ahead_ns <= OCCURRED_AT_AHEAD_MAX_NS {
        return Ok(());
    }
    Err(DecodeError::TooFarAhead {
        field: "occurred_at",
        ahead_ns,
        ahead_ns_max: OCCURRED_AT_AHEAD_MAX_NS,
    })
}

pub(crate) fn identifier<'a>(field: &'static str, text: &'a str) -> Result<&'a str, DecodeError> {
    match text.len() {
        0 => Err(DecodeError::Missing { field }),
        bytes if bytes > ID_BYTES_MAX => Err(DecodeError::TooLong {
            field,
            bytes,
            bytes_max: ID_BYTES_MAX,
        }),
        _ => Ok(text),
    }
}

pub(crate) fn time(field: &'static str, time: Option<Time>) -> Result<i64, DecodeError> {
    let Time { seconds, nanos } = time.ok_or(DecodeError::Missing { field })?;
    storable_ns(seconds, nanos).ok_or(DecodeError::TimeOutOfRange {
        field,
        seconds,
        nanos,
    })
}

pub(crate) fn identity(text: &str) -> Result<Option<Uuid>, DecodeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let uuid = Uuid::try_parse(text).map_err(|_| DecodeError::NotUuid { field: "event_id" })?;
    Ok(Some(uuid).filter(|uuid| !uuid.is_nil()))
}

fn data_error(error: &TranscodeError) -> DecodeError {
    let (field, reason) = error.below("data");
    match reason {
        Reason::Wire(source) => DecodeError::Malformed { field, source },
        Reason::NotFinite => DecodeError::NotFinite { field },
        Reason::TooDeep => DecodeError::TooDeep {
            field,
            depth_max: DATA_DEPTH_MAX,
        },
        Reason::NameClash => DecodeError::NameClash { field },
    }
}
