//! From the event that a program leaves to the fields of a row.

use ponix_wire::DATA_DEPTH_MAX;
use serde_json::{Map, Number, Value as Json};
use vrl::value::{ObjectMap, Value};

use super::{failed, size};
use crate::decode::{DecodeError, FieldMap};

/// The fields; `None` when the event is null, hence dropped.
pub(super) fn fields(event: Value, bytes_max: usize) -> Result<Option<FieldMap>, DecodeError> {
    let found = match event {
        Value::Null => return Ok(None),
        // What was changed in its place has not been counted.
        Value::Object(_) if size(&event) > bytes_max => {
            return Err(failed(format!("the event grows beyond {bytes_max} bytes")));
        }
        Value::Object(members) => return object(members, 1).map(Some).map_err(failed),
        other => other,
    };
    Err(failed(format!(
        "the program leaves {} as the event, expected an object, or null to drop it",
        found.kind_str()
    )))
}

fn object(members: ObjectMap, depth: u32) -> Result<FieldMap, String> {
    check_depth(depth)?;
    let mut fields = Map::new();
    for (name, value) in members {
        let value = json(value, depth).map_err(|text| format!("{name}{text}"))?;
        fields.insert(name.into(), value);
    }
    Ok(fields)
}

fn json(value: Value, depth: u32) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::Bool(value),
        Value::Integer(number) => Json::from(number),
        Value::Float(number) => {
            let number = Number::from_f64(number.into_inner());
            Json::Number(number.ok_or(" is not a finite number")?)
        }
        Value::Bytes(bytes) => {
            let text = String::from_utf8(bytes.into()).map_err(|_| " is not UTF-8")?;
            Json::String(text)
        }
        Value::String(text) => Json::String(text.to_string()),
        Value::Regex(regex) => Json::String(regex.as_str().to_owned()),
        Value::Timestamp(time) => {
            Json::String(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Value::Object(members) => {
            Json::Object(object(members, depth + 1).map_err(|text| format!(".{text}"))?)
        }
        Value::Array(items) => {
            check_depth(depth + 1)?;
            let items = items.into_iter().map(|item| json(item, depth + 1));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

fn check_depth(depth: u32) -> Result<(), String> {
    if depth > DATA_DEPTH_MAX {
        return Err(format!(" is nested deeper than {DATA_DEPTH_MAX} levels"));
    }
    Ok(())
}
