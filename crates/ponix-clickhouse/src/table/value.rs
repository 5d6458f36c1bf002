//! One value as the bytes of its column's type, or why it does not fit.
//!
//! # Source
//! ClickHouse's format RowBinary. Integers and what is counted (dates, times, decimals) are
//! little-endian, a text its length as LEB128 and its bytes, an array its number of elements and
//! them, a map its number of pairs and them, a tuple its elements; a Nullable has a byte in front
//! that is 1 for NULL.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use ponix_wire::{is_beyond_double, may_have_lost_digits};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::time;
use super::types::ColumnType;
use super::wide::{self, DecimalError, Wide};
use crate::encode::put_length;

/// How much of a value is shown where it does not fit.
const SHOWN_BYTES_MAX: usize = 100;

/// 1900-01-01, from where ClickHouse's longer dates begin, in days since 1970.
const DAYS_MIN: i64 = -25_567;

/// 2299-12-31, where they end.
const DAYS_MAX: i64 = 120_529;

const DAY_SECONDS: i64 = 86_400;

/// Up to here each integer is a double of its own.
const DOUBLE_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// 999:59:59
const TIME_SECONDS_MAX: u64 = 3_599_999;

/// A value that its column does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} does not fit {}: {}", .0.path, .0.value, .0.column_type, .0.why)]
pub(super) struct Misfit(Box<Told>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    path: String,
    value: String,
    column_type: String,
    why: Cow<'static, str>,
}

impl Misfit {
    pub(super) fn new(
        value: &Value,
        column_type: &ColumnType,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::told(shown(value), column_type.to_string(), why)
    }

    /// The event has no value for a column.
    pub(super) fn missing(column_type: &ColumnType) -> Self {
        let why = "the field is missing, and the column has neither NULL nor a default";
        Self::told("nothing".into(), column_type.to_string(), why)
    }

    /// The event has a value that no column takes.
    pub(super) fn unknown(value: &Value) -> Self {
        Self::told(shown(value), "the table".into(), "no column takes it")
    }

    fn told(value: String, column_type: String, why: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Told {
            path: String::new(),
            value,
            column_type,
            why: why.into(),
        }))
    }

    /// Puts a field or an element in front of the path.
    pub(super) fn within(mut self, step: &str) -> Self {
        let separator = match self.0.path.as_bytes().first() {
            None | Some(b'[') => "",
            Some(_) => ".",
        };
        self.0.path = format!("{step}{separator}{}", self.0.path);
        self
    }
}

/// A value's JSON, shortened.
pub(super) fn shown(value: &Value) -> String {
    let mut text = match value {
        // Not written out to be cut.
        Value::String(text) if text.len() > SHOWN_BYTES_MAX => {
            let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
            return format!("{}…", Value::from(&text[..end]));
        }
        Value::Array(elements) if elements.len() > SHOWN_BYTES_MAX => {
            return format!("an array of {} elements", elements.len());
        }
        Value::Object(fields) if fields.len() > SHOWN_BYTES_MAX => {
            return format!("an object of {} fields", fields.len());
        }
        other => other.to_string(),
    };
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push('…');
    }
    text
}

type Fits = Result<(), Misfit>;

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// For what must be measured before it is written.
    scratch: Vec<u8>,
    /// Whether fields that a tuple does not have are passed over.
    ignore_unknown: bool,
}

impl Writer {
    pub(super) fn new(ignore_unknown: bool) -> Self {
        Self {
            ignore_unknown,
            ..Self::default()
        }
    }

    /// Writes a value as its type, or a part of it that is to be cut off.
    pub(super) fn put(&mut self, column_type: &ColumnType, value: &Value) -> Fits {
        let misfit = |why: &'static str| Err(Misfit::new(value, column_type, why));
        match column_type {
            ColumnType::Nullable(_) if value.is_null() => {
                self.bytes.push(1);
                return Ok(());
            }
            ColumnType::Nullable(inner) => {
                self.bytes.push(0);
                return self.put(inner, value);
            }
            _ if value.is_null() => return misfit("it is not Nullable"),
            ColumnType::Bool => match value {
                Value::Bool(on) => self.bytes.push(u8::from(*on)),
                _ => return misfit("expected true or false"),
            },
            ColumnType::Integer { bits, signed } => {
                return self.put_integer(*bits, *signed, column_type, value);
            }
            ColumnType::Float64 | ColumnType::Float32 | ColumnType::BFloat16 if matches!(value, Value::Number(number) if is_beyond_double(number)) =>
            {
                return misfit(
                    "it is an integer beyond ±2^53 and would lose digits: send a text, or declare the column an integer",
                );
            }
            ColumnType::Float64 => match float(value) {
                Some(float) => self.bytes.extend_from_slice(&float.to_le_bytes()),
                None => return misfit("expected a number"),
            },
            ColumnType::Float32 | ColumnType::BFloat16 => {
                let Some(double) = float(value) else {
                    return misfit("expected a number");
                };
                let single = double as f32;
                let brain = bfloat16(single);
                let finite = match column_type {
                    ColumnType::Float32 => single.is_finite(),
                    _ => brain & 0x7F80 != 0x7F80,
                };
                if double.is_finite() && !finite {
                    return misfit("it is too large");
                }
                match column_type {
                    ColumnType::Float32 => self.bytes.extend_from_slice(&single.to_le_bytes()),
                    _ => self.bytes.extend_from_slice(&brain.to_le_bytes()),
                }
            }
            ColumnType::Decimal { precision, scale } => {
                return self.put_decimal(*precision, *scale, column_type, value);
            }
            ColumnType::Date => match days(value) {
                Some(days) => match u16::try_from(days) {
                    Ok(days) => self.bytes.extend_from_slice(&days.to_le_bytes()),
                    Err(_) => return misfit("it is not from 1970-01-01 to 2149-06-06"),
                },
                None => return misfit(DATE_EXPECTED),
            },
            ColumnType::Date32 => match days(value) {
                Some(days) if (DAYS_MIN..=DAYS_MAX).contains(&days) => {
                    self.bytes.extend_from_slice(&(days as i32).to_le_bytes());
                }
                Some(_) => return misfit("it is not from 1900-01-01 to 2299-12-31"),
                None => return misfit(DATE_EXPECTED),
            },
            ColumnType::DateTime { utc } => match ticks(value, 0, *utc) {
                Ok(seconds) => match u32::try_from(seconds) {
                    Ok(seconds) => self.bytes.extend_from_slice(&seconds.to_le_bytes()),
                    Err(_) => return misfit("it is not from 1970 to 2106-02-07T06:28:15Z"),
                },
                Err(why) => return misfit(why),
            },
            ColumnType::DateTime64 { precision, utc } => match ticks(value, *precision, *utc) {
                Ok(ticks) => {
                    let seconds = ticks.div_euclid(10_i64.pow(u32::from(*precision)));
                    if !(DAYS_MIN..=DAYS_MAX).contains(&seconds.div_euclid(DAY_SECONDS)) {
                        return misfit("it is not from 1900 to 2299");
                    }
                    self.bytes.extend_from_slice(&ticks.to_le_bytes());
                }
                Err(why) => return misfit(why),
            },
            ColumnType::Time => match time_ticks(value, 0) {
                Ok(ticks) => self.bytes.extend_from_slice(&(ticks as i32).to_le_bytes()),
                Err(why) => return misfit(why),
            },
            ColumnType::Time64 { precision } => match time_ticks(value, *precision) {
                Ok(ticks) => self.bytes.extend_from_slice(&ticks.to_le_bytes()),
                Err(why) => return misfit(why),
            },
            ColumnType::Uuid => match value.as_str().and_then(|text| Uuid::try_parse(text).ok()) {
                Some(uuid) => self.put_uuid(uuid),
                None => return misfit("expected a UUID"),
            },
            ColumnType::Ipv4 => match value
                .as_str()
                .and_then(|text| text.parse::<Ipv4Addr>().ok())
            {
                Some(address) => self
                    .bytes
                    .extend_from_slice(&address.to_bits().to_le_bytes()),
                None => return misfit("expected an IPv4 address"),
            },
            ColumnType::Ipv6 => match value.as_str().and_then(ipv6) {
                Some(address) => self.bytes.extend_from_slice(&address.octets()),
                None => return misfit("expected an IP address"),
            },
            ColumnType::String => match value {
                Value::String(text) => self.put_text(text),
                other => self.put_json(other),
            },
            ColumnType::FixedString(len) => match value {
                Value::String(text) if text.len() <= *len => {
                    self.bytes.extend_from_slice(text.as_bytes());
                    let padding = len - text.len();
                    self.bytes.resize(self.bytes.len() + padding, 0);
                }
                Value::String(_) => return misfit("it has more bytes"),
                _ => return misfit("expected a text"),
            },
            ColumnType::Enum { wide, values } => {
                let found = match value {
                    Value::String(name) => values.iter().find(|(known, _)| known == name),
                    Value::Number(number) => {
                        let number = number.as_i64();
                        let known = |known: i16| Some(i64::from(known)) == number;
                        values.iter().find(|(_, value)| known(*value))
                    }
                    _ => None,
                };
                match found {
                    Some((_, number)) if *wide => {
                        self.bytes.extend_from_slice(&number.to_le_bytes());
                    }
                    Some((_, number)) => self.bytes.push(*number as u8),
                    None => {
                        let names: Vec<_> = values.iter().take(10).map(|(name, _)| name).collect();
                        let why = format!("it is none of {names:?}");
                        return Err(Misfit::new(value, column_type, why));
                    }
                }
            }
            ColumnType::Json => match value {
                Value::Object(_) => self.put_json(value),
                _ => return misfit("expected an object"),
            },
            ColumnType::Array(inner) => match value {
                Value::Array(elements) => return self.put_elements(inner, elements.iter()),
                _ => return misfit("expected an array"),
            },
            ColumnType::Map(key, inner) => match value {
                Value::Object(fields) => return self.put_map(key, inner, fields),
                _ => return misfit("expected an object"),
            },
            ColumnType::Tuple(elements) => match value {
                Value::Array(values) if values.len() == elements.len() => {
                    for (n, ((_, element), value)) in elements.iter().zip(values).enumerate() {
                        let fits = self.put(element, value);
                        fits.map_err(|misfit| misfit.within(&format!("[{n}]")))?;
                    }
                }
                Value::Array(_) => return misfit("it has another number of elements"),
                Value::Object(fields) => return self.put_tuple(elements, column_type, fields),
                _ => return misfit("expected an array or an object"),
            },
        }
        Ok(())
    }

    /// Writes a text: its length and its bytes.
    pub(super) fn put_text(&mut self, text: &str) {
        put_length(text.len(), &mut self.bytes);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn put_uuid(&mut self, uuid: Uuid) {
        let (upper, lower) = uuid.as_u64_pair();
        self.bytes.extend_from_slice(&upper.to_le_bytes());
        self.bytes.extend_from_slice(&lower.to_le_bytes());
    }

    /// Writes an object of some fields as a text of JSON.
    pub(super) fn put_fields<'a>(&mut self, fields: impl Iterator<Item = (&'a str, &'a Value)>) {
        self.put_measured(|scratch| {
            scratch.push(b'{');
            for (n, (name, value)) in fields.enumerate() {
                if n > 0 {
                    scratch.push(b',');
                }
                write_json(name, scratch);
                scratch.push(b':');
                write_json(value, scratch);
            }
            scratch.push(b'}');
        });
    }

    fn put_json(&mut self, value: &Value) {
        self.put_measured(|scratch| write_json(value, scratch));
    }

    fn put_measured(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(&mut self.scratch);
        put_length(self.scratch.len(), &mut self.bytes);
        self.bytes.extend_from_slice(&self.scratch);
    }

    fn put_integer(
        &mut self,
        bits: u16,
        signed: bool,
        column_type: &ColumnType,
        value: &Value,
    ) -> Fits {
        let misfit = |why: &'static str| Err(Misfit::new(value, column_type, why));
        let small = match value {
            Value::Number(number) => match integer(number) {
                Some(integer) => integer,
                None => return misfit("expected an integer; beyond 2^53 as a text"),
            },
            Value::String(text) => {
                let Some(wide) = Wide::parse(text) else {
                    return misfit("expected an integer");
                };
                return self.put_wide(wide, bits, signed, column_type, value);
            }
            _ => return misfit("expected an integer"),
        };
        if bits > 64 {
            return self.put_wide(small.into(), bits, signed, column_type, value);
        }
        let (least, most) = if signed {
            (-1 << (bits - 1), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        };
        if small < least || small > most {
            return misfit("it is out of range");
        }
        let bytes = usize::from(bits / 8);
        self.bytes.extend_from_slice(&small.to_le_bytes()[..bytes]);
        Ok(())
    }

    fn put_wide(
        &mut self,
        wide: Wide,
        bits: u16,
        signed: bool,
        column_type: &ColumnType,
        value: &Value,
    ) -> Fits {
        if !wide.fits(bits, signed) {
            return Err(Misfit::new(value, column_type, "it is out of range"));
        }
        let bytes = usize::from(bits / 8);
        self.bytes.extend_from_slice(&wide.to_le_bytes()[..bytes]);
        Ok(())
    }

    fn put_decimal(
        &mut self,
        precision: u8,
        scale: u8,
        column_type: &ColumnType,
        value: &Value,
    ) -> Fits {
        let misfit = |why: &'static str| Err(Misfit::new(value, column_type, why));
        let decimal = match value {
            Value::String(text) => wide::decimal(text, precision, scale),
            Value::Number(number) if may_have_lost_digits(number) => {
                return misfit(
                    "it has more than 15 digits, of which some may be lost: send a text",
                );
            }
            // The shortest text that reads as the same double is what was sent.
            Value::Number(number) => wide::decimal(&number.to_string(), precision, scale),
            _ => return misfit("expected a number"),
        };
        let wide = match decimal {
            Ok(wide) => wide,
            Err(DecimalError::Syntax) => return misfit("expected a number"),
            Err(DecimalError::Scale) => return misfit("it has more digits after the point"),
            Err(DecimalError::Precision) => return misfit("it has more digits"),
        };
        let bytes = match precision {
            0..=9 => 4,
            10..=18 => 8,
            19..=38 => 16,
            _ => 32,
        };
        self.bytes.extend_from_slice(&wide.to_le_bytes()[..bytes]);
        Ok(())
    }

    /// Writes the elements of an array.
    pub(super) fn put_elements<'a>(
        &mut self,
        inner: &ColumnType,
        elements: impl ExactSizeIterator<Item = &'a Value>,
    ) -> Fits {
        put_length(elements.len(), &mut self.bytes);
        for (n, element) in elements.enumerate() {
            let fits = self.put(inner, element);
            fits.map_err(|misfit| misfit.within(&format!("[{n}]")))?;
        }
        Ok(())
    }

    fn put_map(
        &mut self,
        key: &ColumnType,
        inner: &ColumnType,
        fields: &Map<String, Value>,
    ) -> Fits {
        put_length(fields.len(), &mut self.bytes);
        for (name, value) in fields {
            let fits = match key {
                ColumnType::String => {
                    self.put_text(name);
                    Ok(())
                }
                key => self.put(key, &Value::from(name.as_str())),
            };
            let fits = fits.and_then(|()| self.put(inner, value));
            fits.map_err(|misfit| misfit.within(name))?;
        }
        Ok(())
    }

    /// Writes the fields of an object as the elements with their names.
    fn put_tuple(
        &mut self,
        elements: &[(Option<String>, ColumnType)],
        column_type: &ColumnType,
        fields: &Map<String, Value>,
    ) -> Fits {
        let mut found = 0;
        for (name, element) in elements {
            let Some(name) = name else {
                let object = Value::Object(fields.clone());
                let why = "its elements have no names: expected an array";
                return Err(Misfit::new(&object, column_type, why));
            };
            let value = fields.get(name);
            found += usize::from(value.is_some());
            let fits = self.put(element, value.unwrap_or(&Value::Null));
            fits.map_err(|misfit| misfit.within(name))?;
        }
        if found < fields.len() && !self.ignore_unknown {
            let known = |name: &str| {
                elements
                    .iter()
                    .any(|(known, _)| known.as_deref() == Some(name))
            };
            if let Some((name, value)) = fields.iter().find(|(name, _)| !known(name)) {
                let misfit = Misfit::new(value, column_type, "it has no element of this name");
                return Err(misfit.within(name));
            }
        }
        Ok(())
    }
}

const DATE_EXPECTED: &str = "expected a date like 2026-01-31, or days since 1970";

fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("JSON is written to memory");
}

/// Returns the integer that a number is exactly.
fn integer(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = number.as_u64() {
        return Some(number.into());
    }
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() <= DOUBLE_INTEGERS).then_some(float as i128)
}

/// Returns the double of a number, or of a text that is one, `NaN` and `inf` included.
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let float: f64 = text.parse().ok()?;
            // A number that is too large is not infinite.
            let named = text
                .trim_start_matches(['-', '+'])
                .starts_with(['i', 'I', 'n', 'N']);
            (float.is_finite() || named).then_some(float)
        }
        _ => None,
    }
}

/// Rounds to the nearest, ties to even.
fn bfloat16(single: f32) -> u16 {
    let bits = single.to_bits();
    if single.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    let odd = (bits >> 16) & 1;
    ((bits + 0x7FFF + odd) >> 16) as u16
}

fn days(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => time::date(text),
        Value::Number(number) => integer(number)?.try_into().ok(),
        _ => None,
    }
}

fn ticks(value: &Value, precision: u8, utc: bool) -> Result<i64, &'static str> {
    match value {
        Value::String(text) => {
            let Some(moment) = time::moment(text) else {
                return Err("expected a time like 2026-01-31T12:00:00Z");
            };
            if !moment.offset && !utc {
                return Err("it has neither Z nor an offset, and the column is not in UTC");
            }
            time::ticks(moment.seconds, moment.fraction, precision)
                .ok_or("it has more digits after the second, or is out of range")
        }
        Value::Number(number) => integer(number)
            .and_then(|ticks| ticks.try_into().ok())
            .ok_or("expected an integer, in units of the column's precision since 1970"),
        _ => Err("expected a time like 2026-01-31T12:00:00Z"),
    }
}

fn time_ticks(value: &Value, precision: u8) -> Result<i64, &'static str> {
    let ticks = match value {
        Value::String(text) => {
            let Some((seconds, fraction, negative)) = time::time_of_day(text) else {
                return Err("expected a time like 12:00:00");
            };
            let ticks = time::ticks(seconds, fraction, precision)
                .ok_or("it has more digits after the second")?;
            if negative { -ticks } else { ticks }
        }
        Value::Number(number) => integer(number)
            .and_then(|ticks| ticks.try_into().ok())
            .ok_or("expected an integer, in units of the column's precision")?,
        _ => return Err("expected a time like 12:00:00"),
    };
    let most = (TIME_SECONDS_MAX + 1) * 10_u64.pow(u32::from(precision)) - 1;
    if ticks.unsigned_abs() > most {
        return Err("it is beyond 999:59:59");
    }
    Ok(ticks)
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(address);
    }
    Some(text.parse::<Ipv4Addr>().ok()?.to_ipv6_mapped())
}

#[cfg(test)]
mod tests;
