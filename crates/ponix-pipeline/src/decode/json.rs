//! `format: json`.

use ponix_entities::json::{Rules, parse};
use serde_json::Value as Json;

use super::{DecodeError, FieldMap, Reason};

/// Reads JSON objects.
#[derive(Debug)]
pub(super) struct JsonObject {
    rules: Rules,
}

impl JsonObject {
    pub(super) fn new(members_max: usize) -> Self {
        let rules = Rules {
            members_max,
            is_nul_allowed: true,
            is_rounding_allowed: false,
        };
        Self { rules }
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<FieldMap, DecodeError> {
        match parse(payload, self.rules) {
            Ok(Json::Object(fields)) => Ok(fields),
            Ok(other) => {
                let found = match other {
                    Json::Null => "null",
                    Json::Bool(_) => "true or false",
                    Json::Number(_) => "a number",
                    Json::String(_) => "a text",
                    _ => "a list",
                };
                let text = format!("the message is {found}, expected a JSON object");
                Err(DecodeError::new(Reason::Decode, text))
            }
            Err(err) => Err(DecodeError::new(
                Reason::Decode,
                format!("not JSON as it is taken: {err}"),
            )),
        }
    }
}
