//! Bytes and times as people write them, in every file that declares something.

use std::time::Duration;

/// Units of bytes, the larger one first.
const BYTES: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];
/// Units of time in nanoseconds, the longer one first.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `6MiB`, `500 kB` or a plain number of bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        unit => BYTES.iter().find(|(name, _)| *name == unit)?.1,
    };
    let bytes = number * factor as f64;
    (bytes.fract() == 0.0 && bytes < 9e18).then_some(bytes as u64)
}

/// Reads `500ms`, `1.5s`, `2m`, `1h`, `1d`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit = if unit == "min" { "m" } else { unit };
    let nanoseconds = TIMES.iter().find(|(name, _)| *name == unit)?.1;
    Duration::try_from_secs_f64(number * nanoseconds as f64 / 1e9).ok()
}

/// Writes bytes in the largest unit that they are whole in.
pub fn shown_bytes(bytes: u64) -> String {
    let whole = |(_, size): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*size);
    match BYTES.iter().find(whole) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// Writes a time in the longest unit that it is whole in.
pub fn shown_duration(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let whole =
        |(_, length): &&(&str, u128)| nanoseconds > 0 && nanoseconds.is_multiple_of(*length);
    match TIMES.iter().find(whole) {
        Some((unit, length)) => format!("{}{unit}", nanoseconds / length),
        None => "0s".to_owned(),
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units_or_none() {
        for (text, expected) in [
            ("6MiB", Some(6 << 20)),
            ("1.5 GiB", Some(3 << 29)),
            ("2kB", Some(2_000)),
            ("1048576", Some(1 << 20)),
            ("0.3B", None),
            ("6 mib", None),
            ("MiB", None),
            ("-1MiB", None),
            ("99999999999GiB", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("2m", Some(120_000)),
            ("1 h", Some(3_600_000)),
            ("1", None),
            ("1 week", None),
            ("1e3s", None),
            (".", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (shown, value) in [
            ("0", 0),
            ("1GB", 1_000_000_000),
            ("256MiB", 256 << 20),
            ("1536MiB", 3 << 29),
            ("1001", 1_001),
        ] {
            assert_eq!(shown_bytes(value), shown);
            assert_eq!(bytes(shown), Some(value));
        }
        for (shown, value) in [
            ("0s", Duration::ZERO),
            ("2m", Duration::from_mins(2)),
            ("1d", Duration::from_hours(24)),
            ("1500ms", Duration::from_millis(1_500)),
            ("1234567ns", Duration::from_nanos(1_234_567)),
        ] {
            assert_eq!(shown_duration(value), shown);
            assert_eq!(duration(shown), Some(value));
        }
    }
}
