//! The formats: from a message to the fields of its event, and for tests the other way.

use ponix_wire::PackFormat;
use serde_json::Value as Json;
use uuid::Uuid;

use super::bytes::Bytes;
use super::csv::Csv;
use super::entity::EntityFields;
use super::envelope::EnvelopeFields;
use super::json::JsonObject;
use super::protobuf::Protobuf;
use super::{DecodeError, FieldMap, FormatError, Message};
use crate::spec::DecodeFormat;

/// One format, ready to read messages.
#[derive(Debug)]
pub(super) enum Fields {
    Json(JsonObject),
    Envelope(EnvelopeFields),
    Protobuf(Box<Protobuf>),
    Csv(Csv),
    Entity(Box<EntityFields>),
    Bytes(Bytes),
}

impl Fields {
    pub(super) fn new(format: &DecodeFormat) -> Result<Self, Vec<FormatError>> {
        Ok(match format {
            DecodeFormat::Json { members_max } => Self::Json(JsonObject::new(*members_max)),
            DecodeFormat::Envelope => Self::Envelope(EnvelopeFields),
            DecodeFormat::Protobuf {
                descriptor,
                message,
                members_max,
            } => Self::Protobuf(Box::new(Protobuf::new(descriptor, message, *members_max)?)),
            DecodeFormat::Csv {
                columns,
                delimiter,
                quote,
            } => Self::Csv(Csv::new(columns.clone(), *delimiter, *quote)),
            DecodeFormat::Entity { dir, entity } => {
                let entity = EntityFields::new(dir.as_deref(), entity.as_deref())?;
                Self::Entity(Box::new(entity))
            }
            DecodeFormat::Bytes { encoding } => Self::Bytes(Bytes::new(*encoding)),
        })
    }

    /// The fields of an event and its identity.
    pub(super) fn decode(&self, message: &Message<'_>) -> Result<(FieldMap, Uuid), DecodeError> {
        let fields = match self {
            Self::Envelope(format) => return format.decode(message),
            Self::Json(format) => format.decode(message.payload),
            Self::Protobuf(format) => format.decode(message.payload),
            Self::Csv(format) => format.decode(message.payload),
            Self::Entity(format) => format.decode(message),
            Self::Bytes(format) => format.decode(message),
        };
        Ok((fields?, message.identity))
    }

    pub(super) fn encode(&self, fields: &Json) -> Result<Vec<u8>, String> {
        match self {
            Self::Envelope(format) => format.encode(fields),
            Self::Protobuf(format) => format.encode(fields),
            Self::Csv(format) => format.encode(fields),
            Self::Json(_) | Self::Entity(_) | Self::Bytes(_) => Ok(fields.to_string().into_bytes()),
        }
    }

    /// How many events stand in one message.
    pub(super) const fn pack_format(&self) -> PackFormat {
        match self {
            Self::Envelope(_) => PackFormat::Envelopes,
            Self::Json(_) | Self::Csv(_) | Self::Entity(_) => PackFormat::Lines,
            Self::Protobuf(_) | Self::Bytes(_) => PackFormat::Single,
        }
    }

    pub(super) fn is_text(&self) -> bool {
        !matches!(self, Self::Envelope(_) | Self::Protobuf(_))
    }
}
