//! Versions of the server.

use std::fmt;

/// The oldest ClickHouse that Ponix works with.
///
/// 25.8 is the first with `json_type_escape_dots_in_keys`, without which a row with a dotted key
/// beside a nested one is refused.
pub const SERVER_VERSION_MIN: ServerVersion = ServerVersion {
    major: 25,
    minor: 8,
};

/// The first version with the setting `deduplicate_insert`.
pub(crate) const DEDUPLICATE_INSERT_SINCE: ServerVersion = ServerVersion {
    major: 26,
    minor: 2,
};

/// The first version that is known to make the same of blocks with flattened JSON as of text; older
/// ones were not compared.
pub(crate) const BLOCKS_SINCE: ServerVersion = ServerVersion {
    major: 26,
    minor: 7,
};

/// A ClickHouse release, year and number within the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The year, `25` in `25.8`.
    pub major: u32,
    /// The release of that year, `8` in `25.8`.
    pub minor: u32,
}

impl ServerVersion {
    /// Reads the answer to `SELECT version()`, such as `25.8.4.13` or `24.3.5.46-altinity`.
    ///
    /// Returns `None` for what does not begin with two numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { major, minor }),
            _ => None,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        let version = |text| ServerVersion::parse(text).expect("a version");
        assert_eq!(
            version("26.7.2.1"),
            ServerVersion {
                major: 26,
                minor: 7
            }
        );
        assert_eq!(
            version("24.3.5.46-altinity\n"),
            ServerVersion {
                major: 24,
                minor: 3
            }
        );
        assert!(version("25.10.1.1") > SERVER_VERSION_MIN);
        assert!(version("25.8.1.1") >= SERVER_VERSION_MIN);
        assert!(version("25.7.9.9") < SERVER_VERSION_MIN);
        for bad in ["", "25", "x.8", "25.x"] {
            assert_eq!(ServerVersion::parse(bad), None, "{bad}");
        }
    }
}
