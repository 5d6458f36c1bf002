#![doc = include_str!("../README.md")]

mod builder;
mod check;
mod convert;
mod dead_letter;
mod decode;
pub mod envelope;
mod error;
pub mod header;
mod json;
mod json_envelope;
pub mod message;
mod pack;
mod path;
pub mod quantity;
mod subject;
mod timestamp;
mod trace;
mod transcode;
mod wire;

pub use prost::Message;
pub use prost_types::{ListValue, Struct, Timestamp, Value, value};

pub use crate::builder::EnvelopeBuilder;
pub use crate::check::{check_envelope, envelope_problems};
pub use crate::convert::{
    DOUBLE_DIGITS, INTEGER_EXACT_MAX, is_beyond_double, json_to_struct, json_to_value,
    may_have_lost_digits,
};
pub use crate::dead_letter::DeadLetterReason;
pub use crate::decode::{
    DecodedEnvelope, OCCURRED_AT_AHEAD_MAX_NS, decode_envelope, decode_envelope_of,
};
pub use crate::error::{ConversionError, DecodeError, DecodeErrorKind, distance, error_chain};
pub use crate::json::{JsonError, JsonReader, JsonRules, JsonTree, MISSING};
pub use crate::json_envelope::JsonEnvelope;
pub use crate::pack::{
    Event, Events, PACK_EVENTS_MAX, PackError, PackFormat, PackLimits, Packer, TooLarge,
    event_identity, events_said, pack_id, unpack,
};
pub use crate::subject::{
    DEVICE_ID_BYTES_MAX, TOKEN_BYTES_MAX, TokenError, covers, encode_token, is_plain_device_id,
    overlap, subject_problem,
};
pub use crate::timestamp::{now_ns, timestamp_from_ns, timestamp_from_rfc3339, timestamp_to_ns};
pub use crate::trace::TraceParent;
pub use crate::transcode::DATA_DEPTH_MAX;
pub use crate::wire::WireError;

/// The longest `organization_id` and `end_device_id` accepted, in bytes of UTF-8.
///
/// Both become part of the table's sorting key and of a NATS subject; a longer one is refused when
/// an envelope is built and when it is decoded.
pub const ID_BYTES_MAX: usize = 256;
