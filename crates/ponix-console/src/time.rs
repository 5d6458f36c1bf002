//! Times and lengths of time as people write them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ponix_wire::quantity;

/// Reads a length of time such as `90s`, `15m` or `1h30m`.
///
/// # Errors
/// What is wrong, and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |err: &dyn std::fmt::Display| format!("{err}; write it as 90s, 15m or 1h30m");
    let duration: SignedDuration = text.parse().map_err(|err: jiff::Error| wrong(&err))?;
    Duration::try_from(duration).map_err(|_| wrong(&"must not be negative"))
}

/// Reads a time, or how long ago it was.
///
/// # Errors
/// How to write it.
pub fn time_or_ago(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: Result<SignedDuration, _> = text.parse();
    let days = || SignedDuration::try_from(quantity::duration(text)?).ok();
    ago.ok()
        .or_else(days)
        .and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| "write it as 2026-03-01T00:00:00Z, or as 2h for two hours ago".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let time_of = |text| time_or_ago(text).map(|time| time.to_string());
        assert_eq!(
            time_of("2026-03-01T00:00:00Z").as_deref(),
            Ok("2026-03-01T00:00:00Z")
        );
        let before = time_or_ago("2h").expect("a time");
        let ago = Timestamp::now().duration_since(before);
        assert_eq!(ago.as_hours(), 2);
        let before = time_or_ago("1d").expect("a time");
        assert_eq!(Timestamp::now().duration_since(before).as_hours(), 24);
        assert!(time_of("yesterday").is_err_and(|text| text.contains("2h")));
    }
}
