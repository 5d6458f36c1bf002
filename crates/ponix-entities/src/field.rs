//! One field: from what a message says to a value that fits.

use ponix_wire::{JsonReader, is_beyond_double};
use regex::Regex;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::Value as Json;

use crate::message::JSON_RULES;
use crate::scalar::{date, date_time, decimal, decimal_of_json};
use crate::table::{Column, FieldType, Value};

/// More of a value than this is not shown in an error, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// A declared field, ready to read values.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) column: Column,
    pub(crate) minimum: Option<Decimal>,
    pub(crate) maximum: Option<Decimal>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) one_of: Option<Vec<String>>,
    pub(crate) default: Option<Value>,
}

impl Field {
    pub(crate) fn name(&self) -> &str {
        &self.column.name
    }

    /// Reads the value of a text line; an empty one is none.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, String> {
        if text.is_empty() {
            return self.absent();
        }
        if text.contains('\0') {
            return Err("has a NUL character".to_owned());
        }
        let not = |what| format!("{} is not {what}", shown(text));
        let value = match self.column.field_type {
            FieldType::String { .. } => Value::Text(text.to_owned()),
            FieldType::Integer => {
                Value::Integer(text.trim().parse().map_err(|_| not("a whole number"))?)
            }
            FieldType::Float => Value::Float(text.trim().parse().map_err(|_| not("a number"))?),
            FieldType::Decimal { .. } => {
                Value::Decimal(decimal(text.trim()).ok_or_else(|| not("a decimal number"))?)
            }
            FieldType::Boolean => match text.trim() {
                "true" | "t" | "1" => Value::Boolean(true),
                "false" | "f" | "0" => Value::Boolean(false),
                _ => return Err(not("true or false")),
            },
            FieldType::Date => {
                Value::Date(date(text.trim()).ok_or_else(|| not("a day such as 2026-03-01"))?)
            }
            FieldType::DateTime => Value::DateTime(
                date_time(text.trim()).ok_or_else(|| not("a time such as 2026-03-01T12:00:00Z"))?,
            ),
            FieldType::Json => {
                let json: Json = JsonReader::new(JSON_RULES)
                    .value(text.as_bytes())
                    .map_err(|err| format!("is not JSON: {err}"))?;
                Value::Json(json.to_string())
            }
        };
        self.check(value)
    }

    /// Reads the value of a JSON message; `null` is none.
    pub(crate) fn read_json(&self, json: &Json) -> Result<Value, String> {
        let value = match (self.column.field_type, json) {
            // A message has been read without NUL; a file of entities may have one.
            (FieldType::Json, json) if has_nul(json) => return Err("has a NUL character".into()),
            (FieldType::Json, json) if !json.is_null() => Value::Json(json.to_string()),
            (_, Json::Null) => return self.absent(),
            (FieldType::String { .. }, Json::String(text)) => Value::Text(text.clone()),
            (FieldType::Integer, Json::Number(number)) => {
                let whole = number
                    .as_i64()
                    .ok_or_else(|| format!("{number} is not a whole number of 64 bits"))?;
                Value::Integer(whole)
            }
            (FieldType::Float, Json::Number(number)) if is_beyond_double(number) => {
                return Err(format!(
                    "{number} is an integer beyond ±2^53, of which the column loses digits: declare it integer or decimal"
                ));
            }
            (FieldType::Float, Json::Number(number)) => {
                Value::Float(number.as_f64().unwrap_or(f64::NAN))
            }
            (FieldType::Decimal { .. }, Json::Number(number)) => {
                Value::Decimal(decimal_of_json(number)?)
            }
            (FieldType::Boolean, Json::Bool(value)) => Value::Boolean(*value),
            (
                FieldType::Decimal { .. } | FieldType::Date | FieldType::DateTime,
                Json::String(text),
            ) if !text.is_empty() => return self.read_text(text),
            (_, Json::String(text)) => {
                return Err(format!(
                    "{} is a text, not {}",
                    shown(text),
                    self.expected()
                ));
            }
            (_, other) => {
                return Err(format!(
                    "{} is not {}",
                    shown(&other.to_string()),
                    self.expected()
                ));
            }
        };
        self.check(value)
    }

    /// The value of a message that has none.
    pub(crate) fn absent(&self) -> Result<Value, String> {
        match &self.default {
            Some(default) => Ok(default.clone()),
            None if self.column.nullable => Ok(Value::Null),
            None => Err("is missing".to_owned()),
        }
    }

    /// Checks the constraints.
    pub(crate) fn check(&self, value: Value) -> Result<Value, String> {
        match &value {
            Value::Null if self.column.nullable => return Ok(value),
            Value::Null => return Err("is missing".to_owned()),
            Value::Text(text) => self.check_text(text)?,
            Value::Integer(number) => self.check_number(Decimal::from(*number))?,
            Value::Float(number) => self.check_float(*number)?,
            Value::Decimal(number) => self.check_decimal(*number)?,
            Value::Boolean(_) | Value::Date(_) | Value::DateTime(_) | Value::Json(_) => {}
        }
        Ok(value)
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        if text.contains('\0') {
            return Err("has a NUL character".to_owned());
        }
        if let FieldType::String {
            max_length: Some(most),
        } = self.column.field_type
        {
            let length = text.chars().count();
            if length > most as usize {
                return Err(format!("has {length} characters, at most {most} fit"));
            }
        }
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            return Err(format!("{} does not match the pattern", shown(text)));
        }
        if let Some(one_of) = &self.one_of
            && !one_of.iter().any(|known| known == text)
        {
            return Err(format!(
                "{} is not one of {}",
                shown(text),
                one_of.join(", ")
            ));
        }
        Ok(())
    }

    fn check_number(&self, number: Decimal) -> Result<(), String> {
        match (self.minimum, self.maximum) {
            (Some(least), _) if number < least => Err(format!("{number} is less than {least}")),
            (_, Some(most)) if number > most => Err(format!("{number} is more than {most}")),
            _ => Ok(()),
        }
    }

    fn check_float(&self, number: f64) -> Result<(), String> {
        if !number.is_finite() {
            return Err("is not a finite number".to_owned());
        }
        let bound = |bound: Option<Decimal>| bound.and_then(|bound| bound.to_f64());
        match (bound(self.minimum), bound(self.maximum)) {
            (Some(least), _) if number < least => Err(format!("{number} is less than {least}")),
            (_, Some(most)) if number > most => Err(format!("{number} is more than {most}")),
            _ => Ok(()),
        }
    }

    fn check_decimal(&self, number: Decimal) -> Result<(), String> {
        let FieldType::Decimal { precision, scale } = self.column.field_type else {
            return Ok(());
        };
        let number = number.normalize();
        let whole = number.trunc().mantissa().unsigned_abs();
        let whole_digits = whole.checked_ilog10().map_or(0, |log| log + 1);
        if number.scale() > u32::from(scale) {
            return Err(format!(
                "{number} has more than {scale} digits behind the point"
            ));
        }
        if whole_digits > u32::from(precision - scale) {
            return Err(format!(
                "{number} has more than {} digits before the point",
                precision - scale
            ));
        }
        self.check_number(number)
    }

    fn expected(&self) -> &'static str {
        match self.column.field_type {
            FieldType::String { .. } => "a text",
            FieldType::Integer => "a whole number",
            FieldType::Float => "a number",
            FieldType::Decimal { .. } => "a decimal number",
            FieldType::Boolean => "true or false",
            FieldType::Date => "a day such as \"2026-03-01\"",
            FieldType::DateTime => "a time such as \"2026-03-01T12:00:00Z\"",
            FieldType::Json => "JSON",
        }
    }
}

fn has_nul(json: &Json) -> bool {
    match json {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(has_nul),
        Json::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// A value in an error: bounded, and without what would break a line.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
