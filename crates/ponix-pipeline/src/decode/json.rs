//! `format: json`.

use ponix_wire::{JsonReader, JsonRules};
use serde_json::Value as Json;

use super::{DecodeError, FieldMap, Reason};

/// No integer of 64 bits has more digits.
const DIGITS_MAX: usize = 20;

/// Reads JSON objects.
#[derive(Debug)]
pub(super) struct JsonObject {
    rules: JsonRules,
}

impl JsonObject {
    pub(super) fn new(members_max: usize) -> Self {
        let rules = JsonRules {
            members_max,
            large_integers: true,
            nul: true,
        };
        Self { rules }
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<FieldMap, DecodeError> {
        let wrong = |text: String| DecodeError::new(Reason::Decode, text);
        let fields = JsonReader::new(self.rules).object::<Json>(payload);
        let fields = fields.map_err(|err| wrong(err.to_string()))?;
        match rounded_integer(payload) {
            None => Ok(fields),
            Some(integer) => Err(wrong(format!(
                "the integer of {} digits at byte {} is beyond 64 bits: send it as a text",
                integer.len(),
                integer.start
            ))),
        }
    }
}

/// Where valid JSON has a number without fraction and exponent that 64 bits cannot hold, which
/// serde_json reads as a double.
fn rounded_integer(json: &[u8]) -> Option<std::ops::Range<usize>> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    // So many digits are rare: what lies in texts is sorted out for them alone.
    let mut groups = json.chunk_by(|a, b| is_digit(a) == is_digit(b));
    groups.find(|group| group.len() >= DIGITS_MAX - 1 && is_digit(&group[0]))?;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at += text_bytes(&json[at..]),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| b"+-.eE0123456789".contains(byte);
                let end = json[at..].iter().position(|byte| !is_part(byte));
                let range = at..end.map_or(json.len(), |end| at + end);
                at = range.end;
                let number = std::str::from_utf8(&json[range.clone()]).unwrap_or_default();
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    return Some(range);
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// The length of a JSON text with its quotes.
fn text_bytes(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::rounded_integer;

    #[test]
    fn integers_that_would_be_rounded_are_found() {
        for (json, expected) in [
            ("[18446744073709551615,-9223372036854775808]", None),
            ("[18446744073709551616]", Some(1..21)),
            ("{\"a\":-9223372036854775809}", Some(5..25)),
            ("[18446744073709551616.0,18446744073709551616e1]", None),
            (r#"["18446744073709551616","\"18446744073709551616"]"#, None),
            (r#"["\\",18446744073709551616]"#, Some(6..26)),
            ("", None),
        ] {
            assert_eq!(rounded_integer(json.as_bytes()), expected, "{json}");
        }
    }
}
