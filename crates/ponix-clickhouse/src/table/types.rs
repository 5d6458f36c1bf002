//! ClickHouse's types, read from the text that `DESCRIBE` gives and documents declare.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How deeply types may be nested.
const DEPTH_MAX: usize = 32;

/// The type of a column, as far as values of it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnType {
    /// `Bool`
    Bool,
    /// `Int8` to `Int256`, and `UInt8` to `UInt256`.
    Integer {
        /// 8, 16, 32, 64, 128 or 256.
        bits: u16,
        /// Whether it can be negative.
        signed: bool,
    },
    /// `Float32`
    Float32,
    /// `Float64`
    Float64,
    /// `BFloat16`
    BFloat16,
    /// `Decimal(P, S)`
    Decimal {
        /// Digits in all, up to 76.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `Date`
    Date,
    /// `Date32`
    Date32,
    /// `DateTime`
    DateTime {
        /// Whether the type names UTC, so that a text needs no offset.
        utc: bool,
    },
    /// `DateTime64(P)`
    DateTime64 {
        /// Digits after the second, up to 9.
        precision: u8,
        /// Whether the type names UTC, so that a text needs no offset.
        utc: bool,
    },
    /// `Time`
    Time,
    /// `Time64(P)`
    Time64 {
        /// Digits after the second, up to 9.
        precision: u8,
    },
    /// `UUID`
    Uuid,
    /// `IPv4`
    Ipv4,
    /// `IPv6`
    Ipv6,
    /// `String`
    String,
    /// `FixedString(N)`
    FixedString(usize),
    /// `Enum8` and `Enum16`.
    Enum {
        /// Whether it is `Enum16`.
        wide: bool,
        /// Names and numbers.
        values: Arc<[(String, i16)]>,
    },
    /// `JSON`
    Json,
    /// `Nullable(T)`
    Nullable(Box<ColumnType>),
    /// `Array(T)`; `Nested` is an array of tuples.
    Array(Box<ColumnType>),
    /// `Map(K, V)`
    Map(Box<ColumnType>, Box<ColumnType>),
    /// `Tuple(…)`, the names of the elements where they have some.
    Tuple(Vec<(Option<String>, ColumnType)>),
}

impl ColumnType {
    /// Tells whether NULL is a value of it.
    pub fn is_nullable(&self) -> bool {
        matches!(self, Self::Nullable(_))
    }
}

/// A type that is not one, or of which no values can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// It does not read as a type.
    #[error("type {text} is not understood at character {at}: expected {expected}")]
    Syntax {
        /// The whole type.
        text: String,
        /// Where, from 0.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// There is no such type, or none that values are written of.
    #[error("type {name} is not supported")]
    Unsupported {
        /// The type's name.
        name: String,
    },
    /// It is nested too deeply.
    #[error("a type may be nested {DEPTH_MAX} deep")]
    TooDeep,
}

impl FromStr for ColumnType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let mut reader = Reader { text, at: 0 };
        let read = reader.column_type(0)?;
        reader.spaces();
        if reader.at < text.len() {
            return Err(reader.expected("the end"));
        }
        Ok(read)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn column_type(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        if depth >= DEPTH_MAX {
            return Err(TypeError::TooDeep);
        }
        let name = self.word().ok_or_else(|| self.expected("a type"))?;
        let integer = |bits, signed| Ok(ColumnType::Integer { bits, signed });
        match name {
            "Bool" => Ok(ColumnType::Bool),
            "Int8" => integer(8, true),
            "Int16" => integer(16, true),
            "Int32" => integer(32, true),
            "Int64" => integer(64, true),
            "Int128" => integer(128, true),
            "Int256" => integer(256, true),
            "UInt8" => integer(8, false),
            "UInt16" => integer(16, false),
            "UInt32" => integer(32, false),
            "UInt64" => integer(64, false),
            "UInt128" => integer(128, false),
            "UInt256" => integer(256, false),
            "Float32" => Ok(ColumnType::Float32),
            "Float64" => Ok(ColumnType::Float64),
            "BFloat16" => Ok(ColumnType::BFloat16),
            "Decimal" => self.decimal(),
            "Decimal32" => self.decimal_of(9),
            "Decimal64" => self.decimal_of(18),
            "Decimal128" => self.decimal_of(38),
            "Decimal256" => self.decimal_of(76),
            "Date" => Ok(ColumnType::Date),
            "Date32" => Ok(ColumnType::Date32),
            "DateTime" => self.date_time(),
            "DateTime64" => self.date_time64(),
            "Time" => Ok(ColumnType::Time),
            "Time64" => {
                self.open()?;
                let precision = self.number(0..=9, "a precision from 0 to 9")?;
                self.close()?;
                Ok(ColumnType::Time64 { precision })
            }
            "UUID" => Ok(ColumnType::Uuid),
            "IPv4" => Ok(ColumnType::Ipv4),
            "IPv6" => Ok(ColumnType::Ipv6),
            "String" => Ok(ColumnType::String),
            "FixedString" => {
                self.open()?;
                let bytes = self.number(1..=0x00FF_FFFF, "a number of bytes")?;
                self.close()?;
                Ok(ColumnType::FixedString(bytes))
            }
            "Enum8" | "Enum16" => self.enumeration(name == "Enum16"),
            "JSON" => {
                self.skip_arguments()?;
                Ok(ColumnType::Json)
            }
            "Nullable" => Ok(ColumnType::Nullable(self.only_argument(depth)?)),
            // A way of storing, not of writing.
            "LowCardinality" => Ok(*self.only_argument(depth)?),
            "Array" => Ok(ColumnType::Array(self.only_argument(depth)?)),
            "Map" => {
                self.open()?;
                let key = self.column_type(depth + 1)?;
                self.comma()?;
                let value = self.column_type(depth + 1)?;
                self.close()?;
                Ok(ColumnType::Map(key.into(), value.into()))
            }
            "Tuple" => Ok(ColumnType::Tuple(self.elements(depth)?)),
            "Nested" => {
                let tuple = ColumnType::Tuple(self.elements(depth)?);
                Ok(ColumnType::Array(tuple.into()))
            }
            "SimpleAggregateFunction" => {
                self.open()?;
                self.word().ok_or_else(|| self.expected("a function"))?;
                self.skip_arguments()?;
                self.comma()?;
                let inner = self.column_type(depth + 1)?;
                self.close()?;
                Ok(inner)
            }
            "Point" => Ok(point()),
            "Ring" | "LineString" => Ok(array(point())),
            "Polygon" | "MultiLineString" => Ok(array(array(point()))),
            "MultiPolygon" => Ok(array(array(array(point())))),
            _ => Err(TypeError::Unsupported { name: name.into() }),
        }
    }

    fn only_argument(&mut self, depth: usize) -> Result<Box<ColumnType>, TypeError> {
        self.open()?;
        let inner = self.column_type(depth + 1)?;
        self.close()?;
        Ok(inner.into())
    }

    /// Reads `(T, U)` or `(a T, b U)`.
    fn elements(&mut self, depth: usize) -> Result<Vec<(Option<String>, ColumnType)>, TypeError> {
        self.open()?;
        let mut elements = Vec::new();
        if self.take(')') {
            return Ok(elements);
        }
        loop {
            let name = self.element_name()?;
            elements.push((name, self.column_type(depth + 1)?));
            if self.take(')') {
                return Ok(elements);
            }
            self.comma()?;
        }
    }

    /// Reads a name if a type follows it.
    fn element_name(&mut self) -> Result<Option<String>, TypeError> {
        self.spaces();
        if let Some(quote @ ('`' | '"')) = self.peek() {
            return Ok(Some(self.quoted(quote)?));
        }
        let begin = self.at;
        let Some(word) = self.word() else {
            return Err(self.expected("a type or a name"));
        };
        self.spaces();
        if self.peek().is_some_and(is_word) {
            return Ok(Some(word.into()));
        }
        self.at = begin;
        Ok(None)
    }

    fn decimal(&mut self) -> Result<ColumnType, TypeError> {
        self.open()?;
        let precision = self.number(1..=76, "a precision from 1 to 76")?;
        let scale = if self.take(',') {
            self.number(0..=precision, "a scale up to the precision")?
        } else {
            0
        };
        self.close()?;
        Ok(ColumnType::Decimal { precision, scale })
    }

    fn decimal_of(&mut self, precision: u8) -> Result<ColumnType, TypeError> {
        self.open()?;
        let scale = self.number(0..=precision, "a scale up to the precision")?;
        self.close()?;
        Ok(ColumnType::Decimal { precision, scale })
    }

    fn date_time(&mut self) -> Result<ColumnType, TypeError> {
        let utc = if self.take('(') {
            let utc = is_utc(&self.quoted('\'')?);
            self.close()?;
            utc
        } else {
            false
        };
        Ok(ColumnType::DateTime { utc })
    }

    fn date_time64(&mut self) -> Result<ColumnType, TypeError> {
        self.open()?;
        let precision = self.number(0..=9, "a precision from 0 to 9")?;
        let utc = self.take(',') && is_utc(&self.quoted('\'')?);
        self.close()?;
        Ok(ColumnType::DateTime64 { precision, utc })
    }

    fn enumeration(&mut self, wide: bool) -> Result<ColumnType, TypeError> {
        self.open()?;
        let (least, most) = if wide {
            (i16::MIN, i16::MAX)
        } else {
            (i16::from(i8::MIN), i16::from(i8::MAX))
        };
        let mut values: Vec<(String, i16)> = Vec::new();
        loop {
            let name = self.quoted('\'')?;
            let number = if self.take('=') {
                self.number(least..=most, "a number of the enum")?
            } else {
                let last = values.last().map_or(0, |(_, number)| *number);
                last.checked_add(1)
                    .filter(|next| *next <= most)
                    .ok_or_else(|| self.expected("fewer values"))?
            };
            values.push((name, number));
            if self.take(')') {
                break;
            }
            self.comma()?;
        }
        let values = values.into();
        Ok(ColumnType::Enum { wide, values })
    }

    /// Skips `(…)`, if there is one.
    fn skip_arguments(&mut self) -> Result<(), TypeError> {
        if !self.take('(') {
            return Ok(());
        }
        let mut open = 1;
        while open > 0 {
            match self.peek() {
                Some(quote @ ('\'' | '`' | '"')) => {
                    self.quoted(quote)?;
                    continue;
                }
                Some('(') => open += 1,
                Some(')') => open -= 1,
                Some(_) => {}
                None => return Err(self.expected(")")),
            }
            self.advance();
        }
        Ok(())
    }

    fn number<T>(
        &mut self,
        range: std::ops::RangeInclusive<T>,
        expected: &'static str,
    ) -> Result<T, TypeError>
    where
        T: FromStr + PartialOrd,
    {
        self.spaces();
        let rest = &self.text[self.at..];
        let len = rest
            .bytes()
            .enumerate()
            .take_while(|(n, byte)| byte.is_ascii_digit() || (*n == 0 && *byte == b'-'))
            .count();
        match rest[..len].parse() {
            Ok(number) if range.contains(&number) => {
                self.at += len;
                Ok(number)
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// Reads a text in quotes, with the backslashes and doubled quotes of SQL.
    fn quoted(&mut self, quote: char) -> Result<String, TypeError> {
        if !self.take(quote) {
            return Err(self.expected("a quote"));
        }
        let mut text = String::new();
        while let Some(next) = self.advance() {
            match next {
                '\\' => match self.advance() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('0') => text.push('\0'),
                    Some('b') => text.push('\u{8}'),
                    Some('f') => text.push('\u{c}'),
                    Some(other) => text.push(other),
                    None => break,
                },
                _ if next == quote => {
                    if self.peek() != Some(quote) {
                        return Ok(text);
                    }
                    self.advance();
                    text.push(quote);
                }
                _ => text.push(next),
            }
        }
        Err(self.expected("a closing quote"))
    }

    fn word(&mut self) -> Option<&'a str> {
        self.spaces();
        let rest = &self.text[self.at..];
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.at += len;
        (len > 0).then(|| &rest[..len])
    }

    fn open(&mut self) -> Result<(), TypeError> {
        self.one('(', "(")
    }

    fn close(&mut self) -> Result<(), TypeError> {
        self.one(')', ")")
    }

    fn comma(&mut self) -> Result<(), TypeError> {
        self.one(',', ",")
    }

    fn one(&mut self, character: char, expected: &'static str) -> Result<(), TypeError> {
        if self.take(character) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn take(&mut self, character: char) -> bool {
        self.spaces();
        let found = self.peek() == Some(character);
        if found {
            self.advance();
        }
        found
    }

    fn spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn expected(&self, expected: &'static str) -> TypeError {
        TypeError::Syntax {
            text: self.text.into(),
            at: self.at,
            expected,
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Etc/UTC")
}

fn point() -> ColumnType {
    ColumnType::Tuple(vec![
        (None, ColumnType::Float64),
        (None, ColumnType::Float64),
    ])
}

fn array(inner: ColumnType) -> ColumnType {
    ColumnType::Array(inner.into())
}

/// As ClickHouse names it, but for what does not matter to writing.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("Bool"),
            Self::Integer { bits, signed: true } => write!(f, "Int{bits}"),
            Self::Integer { bits, .. } => write!(f, "UInt{bits}"),
            Self::Float32 => f.write_str("Float32"),
            Self::Float64 => f.write_str("Float64"),
            Self::BFloat16 => f.write_str("BFloat16"),
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision}, {scale})"),
            Self::Date => f.write_str("Date"),
            Self::Date32 => f.write_str("Date32"),
            Self::DateTime { utc: false } => f.write_str("DateTime"),
            Self::DateTime { utc: true } => f.write_str("DateTime('UTC')"),
            Self::DateTime64 {
                precision,
                utc: false,
            } => write!(f, "DateTime64({precision})"),
            Self::DateTime64 { precision, .. } => write!(f, "DateTime64({precision}, 'UTC')"),
            Self::Time => f.write_str("Time"),
            Self::Time64 { precision } => write!(f, "Time64({precision})"),
            Self::Uuid => f.write_str("UUID"),
            Self::Ipv4 => f.write_str("IPv4"),
            Self::Ipv6 => f.write_str("IPv6"),
            Self::String => f.write_str("String"),
            Self::FixedString(bytes) => write!(f, "FixedString({bytes})"),
            Self::Enum { wide, .. } => f.write_str(if *wide { "Enum16" } else { "Enum8" }),
            Self::Json => f.write_str("JSON"),
            Self::Nullable(inner) => write!(f, "Nullable({inner})"),
            Self::Array(inner) => write!(f, "Array({inner})"),
            Self::Map(key, value) => write!(f, "Map({key}, {value})"),
            Self::Tuple(elements) => {
                f.write_str("Tuple(")?;
                for (n, (name, element)) in elements.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    if let Some(name) = name {
                        write!(f, "{name} ")?;
                    }
                    write!(f, "{element}")?;
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ColumnType {
        text.parse().expect(text)
    }

    #[test]
    fn types_read_as_they_are_printed() {
        for text in [
            "Bool",
            "Int256",
            "UInt8",
            "BFloat16",
            "Decimal(76, 20)",
            "DateTime",
            "DateTime64(3, 'UTC')",
            "Time64(6)",
            "FixedString(16)",
            "Nullable(IPv6)",
            "Map(String, Array(Nullable(Float64)))",
            "Tuple(a UInt8, b Tuple(String, Date32))",
            "Tuple()",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn what_only_matters_to_storing_is_looked_through() {
        for (text, same) in [
            ("LowCardinality(Nullable(String))", "Nullable(String)"),
            ("SimpleAggregateFunction(sum, UInt64)", "UInt64"),
            (
                "SimpleAggregateFunction(groupArrayArray(10), Array(String))",
                "Array(String)",
            ),
            (
                "JSON(max_dynamic_paths=8, a.b UInt32, SKIP REGEXP 'x\\')')",
                "JSON",
            ),
            (
                "Nested(a UInt8, `b c` String)",
                "Array(Tuple(a UInt8, b c String))",
            ),
            ("Decimal64(4)", "Decimal(18, 4)"),
            ("Decimal(10)", "Decimal(10, 0)"),
            ("DateTime('Europe/Berlin')", "DateTime"),
            ("Point", "Tuple(Float64, Float64)"),
        ] {
            assert_eq!(read(text).to_string(), same, "{text}");
        }
    }

    #[test]
    fn enums_know_their_numbers() {
        let values = |text| match read(text) {
            ColumnType::Enum { values, .. } => values.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            values("Enum8('it\\'s' = -1, 'b''' = 3)"),
            [("it's".to_owned(), -1), ("b'".to_owned(), 3)]
        );
        assert_eq!(
            values("Enum16('a', 'b')"),
            [("a".to_owned(), 1), ("b".to_owned(), 2)]
        );
    }

    #[test]
    fn what_is_no_type_is_said_where() {
        for (text, message) in [
            (
                "",
                "type  is not understood at character 0: expected a type",
            ),
            (
                "Array(",
                "type Array( is not understood at character 6: expected a type",
            ),
            (
                "Decimal(77, 1)",
                "type Decimal(77, 1) is not understood at character 8: expected a precision from 1 to 76",
            ),
            (
                "Enum8('a' = 200)",
                "type Enum8('a' = 200) is not understood at character 12: expected a number of the enum",
            ),
            (
                "String x",
                "type String x is not understood at character 7: expected the end",
            ),
            ("Strin", "type Strin is not supported"),
            ("Dynamic", "type Dynamic is not supported"),
        ] {
            let error = text.parse::<ColumnType>().expect_err(text);
            assert_eq!(error.to_string(), message);
        }
        let deep = "Array(".repeat(100) + "UInt8" + &")".repeat(100);
        assert_eq!(deep.parse::<ColumnType>(), Err(TypeError::TooDeep));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", types in "(Tuple|Array|Enum8|JSON|Map)?[(]?['`a ,)=0-9]{0,20}") {
            let _ = text.parse::<ColumnType>();
            let _ = types.parse::<ColumnType>();
        }
    }
}
