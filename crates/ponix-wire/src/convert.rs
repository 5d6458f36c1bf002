//! From JSON to protobuf's Struct, for producers.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Map;

use crate::path::FieldPath;
use crate::{ConversionError, DATA_DEPTH_MAX};

/// The largest integer a Struct number is accepted for, up and down: 2^53, up to which doubles
/// count without gaps.
pub const INTEGER_EXACT_MAX: u64 = 1 << 53;
/// Every decimal number of so many digits is a double of its own.
pub const DOUBLE_DIGITS: usize = 15;

/// Converts a JSON object.
///
/// # Errors
///
/// [`ConversionError::IntegerNotExact`] for an integer beyond ±2^53, which a double may not hold;
/// [`ConversionError::TooDeep`] below [`DATA_DEPTH_MAX`] objects and lists, `object` itself being
/// the first. The path starts with `data`, the envelope's field the Struct is for.
pub fn json_to_struct(object: &Map<String, serde_json::Value>) -> Result<Struct, ConversionError> {
    object_at(object, DATA_DEPTH_MAX).map_err(Failure::into_error)
}

/// Converts a JSON value of any type.
///
/// # Errors
///
/// As [`json_to_struct`].
pub fn json_to_value(value: &serde_json::Value) -> Result<Value, ConversionError> {
    value_at(value, DATA_DEPTH_MAX).map_err(Failure::into_error)
}

/// Why a JSON value cannot be converted, and where below the outermost one.
#[derive(Debug)]
struct Failure {
    path: FieldPath,
    reason: Reason,
}

#[derive(Debug, Clone, Copy)]
enum Reason {
    IntegerNotExact,
    NotFinite,
    TooDeep,
}

impl Failure {
    fn new(reason: Reason) -> Self {
        Self {
            path: FieldPath::default(),
            reason,
        }
    }

    fn into_error(self) -> ConversionError {
        let field = self.path.below("data");
        match self.reason {
            Reason::IntegerNotExact => ConversionError::IntegerNotExact { field },
            Reason::NotFinite => ConversionError::NotFinite { field },
            Reason::TooDeep => ConversionError::TooDeep {
                field,
                depth_max: DATA_DEPTH_MAX,
            },
        }
    }
}

/// Converts an object that may take up `depth_left` levels, itself counted.
fn object_at(object: &Map<String, serde_json::Value>, depth_left: u32) -> Result<Struct, Failure> {
    let inside = depth_left
        .checked_sub(1)
        .ok_or(Failure::new(Reason::TooDeep))?;
    let member = |(name, value): (&String, &serde_json::Value)| match value_at(value, inside) {
        Ok(value) => Ok((name.clone(), value)),
        Err(failure) => Err(Failure {
            path: failure.path.under_name(name),
            ..failure
        }),
    };
    Ok(Struct {
        fields: object.iter().map(member).collect::<Result<_, _>>()?,
    })
}

fn list_at(list: &[serde_json::Value], depth_left: u32) -> Result<ListValue, Failure> {
    let inside = depth_left
        .checked_sub(1)
        .ok_or(Failure::new(Reason::TooDeep))?;
    let element = |(index, value): (usize, &serde_json::Value)| {
        value_at(value, inside).map_err(|failure| Failure {
            path: failure.path.under_index(index),
            ..failure
        })
    };
    Ok(ListValue {
        values: list
            .iter()
            .enumerate()
            .map(element)
            .collect::<Result<_, _>>()?,
    })
}

fn value_at(value: &serde_json::Value, depth_left: u32) -> Result<Value, Failure> {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(*bool),
        serde_json::Value::Number(number) => Kind::NumberValue(double(number)?),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(list) => Kind::ListValue(list_at(list, depth_left)?),
        serde_json::Value::Object(object) => Kind::StructValue(object_at(object, depth_left)?),
    };
    Ok(Value { kind: Some(kind) })
}

/// The double of the same value.
fn double(number: &serde_json::Number) -> Result<f64, Failure> {
    if is_beyond_double(number) {
        return Err(Failure::new(Reason::IntegerNotExact));
    }
    number
        .as_f64()
        .filter(|double| double.is_finite())
        .ok_or(Failure::new(Reason::NotFinite))
}

/// Tells whether a number is an integer that a double need not hold exactly: one beyond ±2^53.
pub fn is_beyond_double(number: &serde_json::Number) -> bool {
    let magnitude = number
        .as_u64()
        .or_else(|| number.as_i64().map(i64::unsigned_abs));
    magnitude.is_some_and(|magnitude| magnitude > INTEGER_EXACT_MAX)
}

/// Tells whether a number has been read as a double and may have lost digits by it: it is large, or
/// has more than [`DOUBLE_DIGITS`] of them.
pub fn may_have_lost_digits(number: &serde_json::Number) -> bool {
    let is_large = number.as_f64().is_some_and(|double| double.abs() >= 1e15);
    number.is_f64() && (is_large || digits(&number.to_string()) > DOUBLE_DIGITS)
}

/// The digits of a number that count, those of its exponent aside.
fn digits(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{json_to_struct, json_to_value};
    use crate::{ConversionError, DATA_DEPTH_MAX, ListValue, Struct, value::Kind};

    fn converted(value: Value) -> Result<Struct, ConversionError> {
        let Value::Object(object) = value else {
            panic!("not an object: {value}")
        };
        json_to_struct(&object)
    }

    fn list_in_lists(levels: u32) -> Value {
        (1..levels).fold(json!([]), |inner, _| json!([inner]))
    }

    #[test]
    fn every_type_of_json_has_its_kind() {
        let data = converted(json!({"a": 1.5, "b": "x", "c": true, "d": null, "e": [2], "f": {}}))
            .unwrap();
        let kind = |name: &str| data.fields[name].kind.clone().unwrap();
        assert_eq!(kind("a"), Kind::NumberValue(1.5));
        assert_eq!(kind("b"), Kind::StringValue("x".to_owned()));
        assert_eq!(kind("c"), Kind::BoolValue(true));
        assert_eq!(kind("d"), Kind::NullValue(0));
        assert_eq!(
            kind("e"),
            Kind::ListValue(ListValue {
                values: vec![Kind::NumberValue(2.0).into()]
            })
        );
        assert_eq!(kind("f"), Kind::StructValue(Struct::default()));
    }

    #[test]
    fn integers_beyond_2_to_the_53_are_refused_by_name() {
        for exact in [9_007_199_254_740_992_i64, -9_007_199_254_740_992, 0] {
            assert!(converted(json!({"n": exact})).is_ok());
        }
        for inexact in [
            json!(9_007_199_254_740_993_i64),
            json!(-9_007_199_254_740_993_i64),
            json!(u64::MAX),
        ] {
            let refused = converted(json!({"sensors": [0, {"a.b": inexact}]})).unwrap_err();
            assert_eq!(
                refused,
                ConversionError::IntegerNotExact {
                    field: r#"data.sensors[1]["a.b"]"#.to_owned()
                }
            );
        }
        assert!(
            converted(json!({"n": 1e300})).is_ok(),
            "a number written as a double is one"
        );
    }

    #[test]
    fn levels_beyond_the_cap_are_refused() {
        assert!(json_to_value(&list_in_lists(DATA_DEPTH_MAX)).is_ok());
        assert!(converted(json!({"n": list_in_lists(DATA_DEPTH_MAX - 1)})).is_ok());
        let refused = converted(json!({"n": list_in_lists(DATA_DEPTH_MAX)})).unwrap_err();
        assert!(
            matches!(&refused, ConversionError::TooDeep { field, .. } if field.starts_with("data.n[0]"))
        );
    }
}
