//! `format: bytes`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::{DecodeError, FieldMap, Message, Reason};
use crate::spec::TextEncoding;

/// Takes messages as they are.
#[derive(Debug)]
pub(super) struct Bytes {
    encoding: TextEncoding,
}

impl Bytes {
    pub(super) fn new(encoding: TextEncoding) -> Self {
        Self { encoding }
    }

    pub(super) fn decode(&self, message: &Message<'_>) -> Result<FieldMap, DecodeError> {
        let payload = match self.encoding {
            TextEncoding::Base64 => STANDARD.encode(message.payload),
            TextEncoding::Text => text(message.payload)?.to_owned(),
        };
        let mut fields = FieldMap::new();
        fields.insert("payload".to_owned(), Json::String(payload));
        fields.insert(
            "subject".to_owned(),
            Json::String(message.subject.to_owned()),
        );
        Ok(fields)
    }
}

pub(super) fn text(payload: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(payload).map_err(|err| {
        let text = format!("not UTF-8 from byte {} on", err.valid_up_to());
        DecodeError::new(Reason::Decode, text)
    })
}
