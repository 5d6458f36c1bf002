//! The clock of the machine.

use std::time::SystemTime;

/// Nanoseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock of the machine"
)]
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}
