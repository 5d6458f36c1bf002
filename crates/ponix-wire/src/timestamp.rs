//! Timestamps: protobuf's pair of seconds and nanoseconds, and nanoseconds since 1970.

use std::time::SystemTime;

use prost_types::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ConversionError;

const NS_PER_S: i64 = 1_000_000_000;

/// Returns the time of the machine's clock, nanoseconds since 1970. What becomes of an event never
/// depends on it.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

/// Converts nanoseconds since 1970-01-01T00:00:00Z, which may be negative.
pub fn timestamp_from_ns(ns: i64) -> Timestamp {
    let nanos = i32::try_from(ns.rem_euclid(NS_PER_S)).expect("a remainder of 10^9 fits 32 bits");
    Timestamp {
        seconds: ns.div_euclid(NS_PER_S),
        nanos,
    }
}

/// Converts to nanoseconds since 1970-01-01T00:00:00Z.
///
/// `field` is the name for the error.
///
/// # Errors
///
/// [`ConversionError::TimeOutOfRange`] outside 1970-01-01 to 2262-04-11T23:47:16.854775807Z, or
/// when the nanoseconds are not from 0 to 999,999,999.
pub fn timestamp_to_ns(field: &'static str, timestamp: &Timestamp) -> Result<i64, ConversionError> {
    storable_ns(timestamp.seconds, timestamp.nanos).ok_or(ConversionError::TimeOutOfRange { field })
}

/// Converts an RFC 3339 date and time such as `2026-03-01T12:00:00.123456789+01:00`.
///
/// Digits after the ninth of the second's fraction are cut. `field` is the name for the error.
///
/// # Errors
///
/// [`ConversionError::NotRfc3339`], or [`ConversionError::TimeOutOfRange`] outside 1970-01-01 to
/// 2262-04-11T23:47:16.854775807Z.
pub fn timestamp_from_rfc3339(
    field: &'static str,
    text: &str,
) -> Result<Timestamp, ConversionError> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|source| ConversionError::NotRfc3339 { field, source })?;
    match i64::try_from(parsed.unix_timestamp_nanos()) {
        Ok(ns) if ns >= 0 => Ok(timestamp_from_ns(ns)),
        _ => Err(ConversionError::TimeOutOfRange { field }),
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z if ClickHouse's `DateTime64(9)` holds them without
/// wrapping around.
pub(crate) fn storable_ns(seconds: i64, nanos: i32) -> Option<i64> {
    if seconds < 0 || !(0..NS_PER_S).contains(&i64::from(nanos)) {
        return None;
    }
    seconds.checked_mul(NS_PER_S)?.checked_add(i64::from(nanos))
}

#[cfg(test)]
mod tests {
    use super::{storable_ns, timestamp_from_ns, timestamp_from_rfc3339, timestamp_to_ns};
    use crate::ConversionError;

    #[test]
    fn nanoseconds_survive_the_way_there_and_back() {
        for ns in [
            0,
            1,
            999_999_999,
            1_000_000_000,
            1_772_366_400_123_456_789,
            i64::MAX,
        ] {
            assert_eq!(timestamp_to_ns("t", &timestamp_from_ns(ns)), Ok(ns));
        }
    }

    #[test]
    fn nanoseconds_before_1970_count_up_from_the_second_before() {
        let timestamp = timestamp_from_ns(-1);
        assert_eq!((timestamp.seconds, timestamp.nanos), (-1, 999_999_999));
    }

    #[test]
    fn only_what_datetime64_holds_is_storable() {
        assert_eq!(storable_ns(9_223_372_036, 854_775_807), Some(i64::MAX));
        assert_eq!(storable_ns(9_223_372_036, 854_775_808), None);
        assert_eq!(storable_ns(i64::MAX, 0), None);
        assert_eq!(storable_ns(-1, 999_999_999), None);
        assert_eq!(storable_ns(0, -1), None);
        assert_eq!(storable_ns(0, 1_000_000_000), None);
    }

    #[test]
    fn rfc3339_keeps_nanoseconds_and_offset() {
        let timestamp =
            timestamp_from_rfc3339("occurred_at", "2026-03-01T13:00:00.123456789+01:00").unwrap();
        assert_eq!(
            timestamp_to_ns("occurred_at", &timestamp),
            Ok(1_772_366_400_123_456_789)
        );
    }

    #[test]
    fn rfc3339_errors_name_the_field() {
        let refused = |text| timestamp_from_rfc3339("occurred_at", text).unwrap_err();
        assert!(matches!(
            refused("yesterday"),
            ConversionError::NotRfc3339 {
                field: "occurred_at",
                ..
            }
        ));
        assert!(matches!(
            refused("2026-03-01 12:00"),
            ConversionError::NotRfc3339 { .. }
        ));
        for outside in [
            "1969-12-31T23:59:59Z",
            "2262-04-11T23:47:16.854775808Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(
                refused(outside),
                ConversionError::TimeOutOfRange {
                    field: "occurred_at"
                }
            );
        }
    }
}
