//! The clock of the producer and the janitor. No verdict on an event depends on it.

/// Returns the time in nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
}
