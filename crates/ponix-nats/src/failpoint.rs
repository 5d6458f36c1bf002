//! Points where tests make the process die, named in the variable `FAILPOINTS`.
//! Without the feature `failpoints` they compile to nothing.

/// Ends the process on the spot, as `kill -9` would, when a test has set the point to `return`.
pub(crate) fn reach(point: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point, |_| std::process::abort());
    let _ = point;
}
