//! `format: protobuf`: messages of a type that is known by its descriptor.

use std::path::Path;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::Value as Json;

use super::{DecodeError, FieldMap, FormatError, Reason};

/// Objects and lists inside one another at most.
const DEPTH_MAX: u32 = ponix_wire::DATA_DEPTH_MAX;

/// Reads protobuf messages of one type.
#[derive(Debug)]
pub(super) struct Protobuf {
    descriptor: MessageDescriptor,
    members_max: usize,
}

impl Protobuf {
    pub(super) fn new(
        file: &Path,
        message: &str,
        members_max: usize,
    ) -> Result<Self, Vec<FormatError>> {
        let bytes = std::fs::read(file)
            .map_err(|err| FormatError::file(file, format!("cannot be read: {err}")))?;
        let pool = DescriptorPool::decode(bytes.as_slice())
            .map_err(|err| FormatError::file(file, format!("is no file of descriptors: {err}")))?;
        let Some(descriptor) = pool.get_message_by_name(message) else {
            let known: Vec<String> = pool
                .all_messages()
                .map(|m| m.full_name().to_owned())
                .collect();
            let meant = ponix_entities::loader::nearest(message, known.iter().map(String::as_str));
            let hint = meant
                .map(|meant| format!(", did you mean {meant:?}?"))
                .unwrap_or_default();
            return Err(FormatError::file(
                file,
                format!("has no message {message:?}{hint}"),
            ));
        };
        Ok(Self {
            descriptor,
            members_max,
        })
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<FieldMap, DecodeError> {
        let wrong = |what: String| DecodeError::new(Reason::Decode, what);
        let name = self.descriptor.full_name();
        let message = DynamicMessage::decode(self.descriptor.clone(), payload)
            .map_err(|err| wrong(format!("no {name}: {err}")))?;
        let options = SerializeOptions::new()
            .stringify_64_bit_integers(false)
            .use_proto_field_name(true)
            .skip_default_fields(false);
        let json = message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|err| DecodeError::new(Reason::Value, format!("{name}: {err}")))?;
        let mut members = 0;
        count(&json, 0, &mut members).map_err(|text| DecodeError::new(Reason::Value, text))?;
        if members > self.members_max {
            let text = format!("more than {} members", self.members_max);
            return Err(DecodeError::new(Reason::Value, text));
        }
        match json {
            Json::Object(fields) => Ok(fields),
            // A well-known type such as Timestamp is no object in JSON.
            _ => Err(wrong(format!("{name} has no fields of its own"))),
        }
    }

    pub(super) fn encode(&self, fields: &Json) -> Result<Vec<u8>, String> {
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message =
            DynamicMessage::deserialize_with_options(self.descriptor.clone(), fields, &options);
        let message = message.map_err(|err| err.to_string())?;
        Ok(prost_reflect::prost::Message::encode_to_vec(&message))
    }
}

fn count(json: &Json, depth: u32, members: &mut usize) -> Result<(), String> {
    let inside = || {
        if depth == DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        Ok(depth + 1)
    };
    match json {
        Json::Object(object) => {
            let depth = inside()?;
            *members += object.len();
            object
                .values()
                .try_for_each(|value| count(value, depth, members))
        }
        Json::Array(items) => {
            let depth = inside()?;
            items
                .iter()
                .try_for_each(|value| count(value, depth, members))
        }
        _ => Ok(()),
    }
}
