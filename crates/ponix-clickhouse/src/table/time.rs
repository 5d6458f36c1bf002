//! Dates and times as texts: RFC 3339, read exactly.

/// Seconds since 1970 and what the text has after the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment<'a> {
    pub(super) seconds: i64,
    /// The digits after the point of the second.
    pub(super) fraction: &'a [u8],
    /// Whether the text says its distance from UTC.
    pub(super) offset: bool,
}

/// Reads `2026-01-31` as days since 1970.
pub(super) fn date(text: &str) -> Option<i64> {
    let (days, rest) = date_part(text.as_bytes())?;
    rest.is_empty().then_some(days)
}

/// Reads `2026-01-31T12:00:00.5+01:00`; the T may be a space, the offset may be missing.
pub(super) fn moment(text: &str) -> Option<Moment<'_>> {
    let (days, rest) = date_part(text.as_bytes())?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return None;
    };
    let (hour, rest) = two_digits(rest, 23)?;
    let (minute, rest) = two_digits(rest.strip_prefix(b":")?, 59)?;
    let (second, rest) = two_digits(rest.strip_prefix(b":")?, 59)?;
    let (fraction, rest) = fraction_part(rest)?;
    let (offset_seconds, offset) = match rest {
        [] => (0, false),
        [b'Z' | b'z'] => (0, true),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, rest) = two_digits(rest, 23)?;
            let (minutes, rest) = two_digits(rest.strip_prefix(b":")?, 59)?;
            if !rest.is_empty() {
                return None;
            }
            let size = hours * 3_600 + minutes * 60;
            (if *sign == b'-' { -size } else { size }, true)
        }
        _ => return None,
    };
    let time = hour * 3_600 + minute * 60 + second;
    let seconds = days * 86_400 + time - offset_seconds;
    Some(Moment {
        seconds,
        fraction,
        offset,
    })
}

/// Reads `-100:59:59.25` as seconds without their sign, the digits after them, and the sign.
pub(super) fn time_of_day(text: &str) -> Option<(i64, &[u8], bool)> {
    let (negative, text) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (hours, rest) = text.split_at(colon);
    if !(1..=3).contains(&hours.len()) {
        return None;
    }
    let hours = number(hours)?;
    let (minute, rest) = two_digits(&rest[1..], 59)?;
    let (second, rest) = two_digits(rest.strip_prefix(b":")?, 59)?;
    let (fraction, rest) = fraction_part(rest)?;
    let seconds = hours * 3_600 + minute * 60 + second;
    rest.is_empty().then_some((seconds, fraction, negative))
}

/// Turns seconds and the digits after them into ticks of `precision` digits, `None` if a digit
/// other than 0 is lost or the number is too large.
pub(super) fn ticks(seconds: i64, fraction: &[u8], precision: u8) -> Option<i64> {
    let precision = usize::from(precision);
    let (kept, lost) = fraction.split_at(fraction.len().min(precision));
    if lost.iter().any(|digit| *digit != b'0') {
        return None;
    }
    let missing = (precision - kept.len()) as u32;
    let part = number(kept)? * 10_i64.pow(missing);
    seconds
        .checked_mul(10_i64.pow(precision as u32))?
        .checked_add(part)
}

fn date_part(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = text.split_at_checked(4)?;
    let year = number(year)?;
    let (month, rest) = two_digits(rest.strip_prefix(b"-")?, 12)?;
    let (day, rest) = two_digits(rest.strip_prefix(b"-")?, 31)?;
    let valid = month >= 1 && day >= 1 && day <= days_of(year, month);
    valid.then(|| (days_since_1970(year, month, day), rest))
}

fn fraction_part(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((&[], text));
    };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0).then(|| rest.split_at(len))
}

fn two_digits(text: &[u8], most: i64) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let number = number(digits)?;
    (number <= most).then_some((number, rest))
}

/// Reads digits, at most 18 of them; none are 0.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// # Source
/// Howard Hinnant, `chrono`-Compatible Low-Level Date Algorithms, `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2026-01-01", 20_454),
            ("1900-01-01", -25_567),
            ("2299-12-31", 120_529),
        ] {
            assert_eq!(date(text), Some(days), "{text}");
        }
        for no in [
            "",
            "2026",
            "2026-1-1",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-01-01 ",
            "26-01-01",
            "+026-01-01",
        ] {
            assert_eq!(date(no), None, "{no}");
        }
    }

    #[test]
    fn moments_are_seconds_and_their_digits() {
        let read = |text| moment(text).map(|at| (at.seconds, at.fraction.to_vec(), at.offset));
        let day = 20_454 * 86_400;
        for (text, seconds, fraction, offset) in [
            ("2026-01-01T00:00:00Z", day, "", true),
            ("2026-01-01t01:02:03.120z", day + 3_723, "120", true),
            ("2026-01-01 01:00:00+01:00", day, "", true),
            (
                "2025-12-31T22:30:00.000000001-01:30",
                day,
                "000000001",
                true,
            ),
            ("2026-01-01T00:00:00", day, "", false),
        ] {
            assert_eq!(
                read(text),
                Some((seconds, fraction.into(), offset)),
                "{text}"
            );
        }
        for no in [
            "2026-01-01",
            "2026-01-01T",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00 UTC",
            "2026-01-01T00:00:00ZZ",
        ] {
            assert_eq!(read(no), None, "{no}");
        }
    }

    #[test]
    fn ticks_lose_no_digit() {
        assert_eq!(ticks(1, b"5", 3), Some(1_500));
        assert_eq!(ticks(-1, b"25", 3), Some(-750));
        assert_eq!(ticks(1, b"5000", 3), Some(1_500));
        assert_eq!(ticks(1, b"5001", 3), None);
        assert_eq!(ticks(1, b"000", 0), Some(1));
        assert_eq!(ticks(10_000_000_000, b"", 9), None);
    }

    #[test]
    fn times_of_day_go_beyond_a_day() {
        assert_eq!(
            time_of_day("-999:59:59.5"),
            Some((3_599_999, b"5".as_slice(), true))
        );
        assert_eq!(time_of_day("1:02:03"), Some((3_723, b"".as_slice(), false)));
        for no in ["", ":00:00", "1000:00:00", "1:2:3", "1:00", "1:00:00x"] {
            assert_eq!(time_of_day(no), None, "{no}");
        }
    }
}
