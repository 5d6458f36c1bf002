//! Numbers and times from their texts, exactly or not at all.

use ponix_wire::{DOUBLE_DIGITS, may_have_lost_digits};
use rust_decimal::Decimal;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, UtcOffset};

/// A decimal number, also with an exponent; never rounded.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    if text.contains('_') {
        return None;
    }
    match text.split_once(['e', 'E']) {
        None => Decimal::from_str_exact(text).ok(),
        Some((base, exponent)) => scaled(
            Decimal::from_str_exact(base).ok()?,
            exponent.parse::<i16>().ok()?,
        ),
    }
}

/// `base` × 10^`exponent`.
fn scaled(base: Decimal, exponent: i16) -> Option<Decimal> {
    let mut base = base.normalize();
    let scale = i64::from(base.scale()) - i64::from(exponent);
    if base.is_zero() {
        return Some(Decimal::ZERO);
    }
    if let Ok(scale) = u32::try_from(scale) {
        base.set_scale(scale).ok()?;
        return Some(base);
    }
    base.set_scale(0).ok()?;
    let power = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
    base.checked_mul(Decimal::try_from_i128_with_scale(power, 0).ok()?)
}

/// A decimal number of JSON. What has been read as a double and is long or large may have lost
/// digits; the error says what to do.
pub(crate) fn decimal_of_json(number: &serde_json::Number) -> Result<Decimal, String> {
    let text = number.to_string();
    if may_have_lost_digits(number) {
        return Err(format!(
            "{text} has more than {DOUBLE_DIGITS} digits: send it as a text"
        ));
    }
    decimal(&text).ok_or_else(|| format!("{text} is not a decimal number"))
}

/// A day, `YYYY-MM-DD`.
pub(crate) fn date(text: &str) -> Option<Date> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u16, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
            Some(number * 10 + u16::from(digit))
        })
    };
    let month = Month::try_from(u8::try_from(number(&bytes[5..7])?).ok()?).ok()?;
    let day = u8::try_from(number(&bytes[8..])?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(&bytes[..4])?), month, day).ok()?;
    (date.year() >= 1).then_some(date)
}

/// An instant of RFC 3339, in UTC.
pub(crate) fn date_time(text: &str) -> Option<OffsetDateTime> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let utc = parsed.checked_to_offset(UtcOffset::UTC)?;
    (1..=9999).contains(&utc.year()).then_some(utc)
}

#[cfg(test)]
mod tests {
    use super::{date, decimal, decimal_of_json};

    #[test]
    fn decimals_are_exact_or_refused() {
        for (text, expected) in [
            ("1", Some("1")),
            ("-0.04", Some("-0.04")),
            ("1.50e3", Some("1500")),
            ("15e-1", Some("1.5")),
            ("1e-28", Some("0.0000000000000000000000000001")),
            ("0e999", Some("0")),
            ("1e28", Some("10000000000000000000000000000")),
            ("1e29", None),
            ("1e-29", None),
            ("1e99999", None),
            ("0.00000000000000000000000000000000001", None),
            ("1.00000000000000000000000000000000001e0", None),
            ("1_000", None),
            ("", None),
            ("e", None),
            ("e5", None),
            ("NaN", None),
            ("0x10", None),
        ] {
            let found = decimal(text).map(|number| number.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_json_number_that_may_have_been_rounded_is_refused() {
        let read = |text: &str| decimal_of_json(&serde_json::from_str(text).unwrap());
        for exact in [
            "24710.35",
            "1234567890123.45",
            "0.04",
            "12345678901234567890",
            "1e14",
            "1e-20",
        ] {
            assert!(read(exact).is_ok(), "{exact}: {:?}", read(exact));
        }
        for rounded in [
            "1234567890123456.7",
            "123456789012345678901",
            "1000000000000000000000001",
            "0.12345678901234567",
        ] {
            let err = read(rounded).unwrap_err();
            assert!(err.ends_with("send it as a text"), "{err}");
        }
    }

    #[test]
    fn days_are_there_or_not() {
        for text in ["0001-01-01", "9999-12-31", "2024-02-29"] {
            assert_eq!(
                date(text).map(|date| date.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in [
            "0000-01-01",
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "2023-01-00",
            "2023-1-01",
            "+023-01-01",
            "2023/01/01",
            "2023-01-011",
            "",
            "２023-1-01",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
