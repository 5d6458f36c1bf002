//! Times as PostgreSQL keeps them.

use time::OffsetDateTime;
use time::macros::utc_datetime;

/// Cuts a time to the microseconds of a `timestamptz` and to the years that partitions are named
/// after, so that what is written, read and compared is one value.
pub(crate) fn storable_time(at: OffsetDateTime) -> OffsetDateTime {
    const FIRST: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    let last = OffsetDateTime::from(utc_datetime!(9999-12-01 0:00));
    // Clamped first: at the ends of the calendar, another zone does not exist.
    let at = at.clamp(FIRST, last).to_offset(time::UtcOffset::UTC);
    let nanosecond = at.microsecond() * 1_000;
    at.replace_nanosecond(nanosecond).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn microseconds_are_kept_and_the_zone_is_utc() {
        assert_eq!(
            storable_time(datetime!(2026-11-21 1:02:03.123456789 +01:00)),
            datetime!(2026-11-21 0:02:03.123456 UTC)
        );
        assert_eq!(storable_time(datetime!(1815-06-18 0:00 UTC)).year(), 1970);
        assert_eq!(
            storable_time(datetime!(9999-12-31 23:59 -12:00)).year(),
            9999
        );
    }
}
