//! Defaults that are literals, which the encoder writes itself.
//!
//! A column with any other default is left out of the INSERT. Events that differ in the columns
//! they leave out need an INSERT each, so literals are better written.

use bytes::Bytes;
use serde_json::Value;

use super::types::ColumnType;
use super::value::Writer;

/// Returns the bytes of a default, `None` if it is no literal of its column's type.
pub(super) fn bytes(expression: &str, column_type: &ColumnType) -> Option<Bytes> {
    let mut writer = Writer::default();
    writer.put(column_type, &literal(expression)?).ok()?;
    Some(writer.bytes.into())
}

fn literal(expression: &str) -> Option<Value> {
    match expression {
        "NULL" => return Some(Value::Null),
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        "[]" => return Some(Value::Array(Vec::new())),
        "map()" => return Some(Value::Object(serde_json::Map::new())),
        _ => {}
    }
    if let Some(text) = expression
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
    {
        // With a backslash or a quote in it, it is the server's to read.
        return (!text.contains(['\\', '\''])).then(|| text.into());
    }
    let number = expression.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    // Exact, for what is no double.
    number.then(|| match serde_json::from_str(expression) {
        Ok(Value::Number(number)) if number.is_f64() => Some(expression.into()),
        Ok(value @ Value::Number(_)) => Some(value),
        _ => None,
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(expression: &str, column_type: &str) -> Option<Vec<u8>> {
        let column_type = column_type.parse().expect(column_type);
        bytes(expression, &column_type).map(Into::into)
    }

    #[test]
    fn literals_are_written_and_the_rest_is_the_servers() {
        for (expression, column_type, expected) in [
            ("'kWh'", "String", b"\x03kWh".to_vec()),
            ("-5", "Int8", vec![0xFB]),
            ("1.10", "Decimal(5, 2)", vec![110, 0, 0, 0]),
            ("true", "Bool", vec![1]),
            ("NULL", "Nullable(UInt8)", vec![1]),
            ("[]", "Array(UInt8)", vec![0]),
            ("'on'", "Enum8('on' = 3)", vec![3]),
        ] {
            assert_eq!(
                read(expression, column_type),
                Some(expected),
                "{expression}"
            );
        }
        for (expression, column_type) in [
            ("now()", "DateTime"),
            ("'a' || 'b'", "String"),
            ("'it\\'s'", "String"),
            ("300", "UInt8"),
            ("5 + 5", "UInt8"),
            ("meter", "String"),
            ("", "String"),
            ("'", "String"),
        ] {
            assert_eq!(read(expression, column_type), None, "{expression}");
        }
    }
}
