//! Types of values and how each is read from text.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// A type that a variable can have.
pub(super) trait Value: Sized {
    /// What the bounds are counted in.
    type Bounds;

    /// Reads a value. The error says what was expected, never what stood there.
    fn parse(text: &str, bounds: &Self::Bounds) -> Result<Self, String>;

    /// Bounds in words, for the reference.
    fn describe(bounds: &Self::Bounds) -> String;
}

/// Text without bounds.
#[derive(Debug)]
pub(super) struct Any;

impl Value for String {
    type Bounds = Any;

    fn parse(text: &str, _: &Any) -> Result<Self, String> {
        if text.trim().is_empty() {
            Err("a text that is not empty".into())
        } else {
            Ok(text.to_owned())
        }
    }

    fn describe(_: &Any) -> String {
        "text".into()
    }
}

impl Value for Option<String> {
    type Bounds = Any;

    fn parse(text: &str, _: &Any) -> Result<Self, String> {
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    fn describe(_: &Any) -> String {
        "text or empty".into()
    }
}

impl Value for Option<PathBuf> {
    type Bounds = Any;

    fn parse(text: &str, _: &Any) -> Result<Self, String> {
        Ok(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
    }

    fn describe(_: &Any) -> String {
        "path or empty".into()
    }
}

impl Value for Option<SecretString> {
    type Bounds = Any;

    fn parse(text: &str, _: &Any) -> Result<Self, String> {
        Ok(Some(text)
            .filter(|text| !text.is_empty())
            .map(SecretString::from))
    }

    fn describe(_: &Any) -> String {
        "secret".into()
    }
}

impl Value for u64 {
    type Bounds = RangeInclusive<u64>;

    fn parse(text: &str, bounds: &Self::Bounds) -> Result<Self, String> {
        text.trim()
            .parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| Self::describe(bounds))
    }

    fn describe(bounds: &Self::Bounds) -> String {
        format!("a whole number from {} to {}", bounds.start(), bounds.end())
    }
}

impl Value for f64 {
    type Bounds = RangeInclusive<f64>;

    fn parse(text: &str, bounds: &Self::Bounds) -> Result<Self, String> {
        text.trim()
            .parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| Self::describe(bounds))
    }

    fn describe(bounds: &Self::Bounds) -> String {
        format!("a number from {} to {}", bounds.start(), bounds.end())
    }
}

/// A time in seconds; fractions are allowed.
impl Value for Duration {
    type Bounds = RangeInclusive<f64>;

    fn parse(text: &str, bounds: &Self::Bounds) -> Result<Self, String> {
        f64::parse(text, bounds)
            .map(Self::from_secs_f64)
            .map_err(|_| Self::describe(bounds))
    }

    fn describe(bounds: &Self::Bounds) -> String {
        format!("seconds from {} to {}", bounds.start(), bounds.end())
    }
}

impl Value for bool {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(Self::describe(bounds)),
        }
    }

    fn describe(_: &Any) -> String {
        "true or false".into()
    }
}

impl Value for SocketAddr {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        text.trim().parse().map_err(|_| Self::describe(bounds))
    }

    fn describe(_: &Any) -> String {
        "an address and port such as 127.0.0.1:9090".into()
    }
}
