//! What the crate wants to know before it connects.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// The highest number of months that one INSERT may carry.
///
/// ClickHouse refuses a block that touches more than 100 partitions; half of that leaves room for
/// servers with a lower limit and keeps one INSERT from leaving too many small parts behind.
pub const INSERT_MONTHS_MAX: usize = 50;

/// Where ClickHouse is and how it is talked to.
///
/// A plain struct with the defaults of production; [`ClickHouseConfig::validate`] checks the
/// bounds that each field names. `Debug` masks the password.
#[derive(Debug, Clone)]
pub struct ClickHouseConfig {
    /// The HTTP interface, `http://host:8123` or `https://host:8443`; several with commas between
    /// them when they serve the same tables: which is asked first is left to chance, and the next one
    /// is when it does not answer.
    ///
    /// `https` is spoken with the roots of the operating system, or with Mozilla's where the
    /// system has none. Neither credentials nor a query belong into it.
    pub url: String,
    /// The database that holds the tables; it is created by the migrations if it is missing.
    pub database: String,
    /// The cluster whose servers get the tables, as `remote_servers` names it; one server without.
    ///
    /// ClickHouse Cloud and databases of engine `Replicated` need none.
    pub cluster: Option<String>,
    /// How many replicas must have an INSERT before it counts: a number, or `auto` for most of them;
    /// one without. For replicated tables alone.
    pub insert_quorum: Option<String>,
    /// The user, default `ponix`.
    pub username: String,
    /// The user's password, default `ponix`.
    pub password: SecretString,
    /// How long a TCP connect may take, default 5 s.
    pub connect_timeout: Duration,
    /// How long the socket may refuse to take the next chunk of an INSERT, default 30 s.
    pub send_timeout: Duration,
    /// How long the answer to a query, or to an INSERT that was sent whole, may take, default 60 s.
    pub response_timeout: Duration,
    /// How long one statement of a migration may take, default 10 min.
    pub migration_timeout: Duration,
    /// The most rows in one INSERT, default 50,000, from 1 to 1,000,000.
    pub insert_rows_max: usize,
    /// The most bytes in one INSERT before compression, default 32 MiB, from 64 KiB to 1 GiB.
    ///
    /// A single row that is larger is sent alone.
    pub insert_bytes_max: usize,
    /// The most months, hence partitions, in one INSERT, default and maximum
    /// [`INSERT_MONTHS_MAX`], at least 1.
    pub insert_months_max: usize,
    /// The most paths of `data` in one INSERT that is sent as columns, default 256, up to 1,000; with
    /// more, and with 0 always, the data go as text, which costs the server three times as much. An
    /// INSERT of very many paths is worse off as columns.
    pub insert_paths_max: usize,
    /// The pause before the first retry, default 100 ms, at least 1 ms; it doubles with each.
    pub retry_backoff_min: Duration,
    /// The longest pause between two retries, default 10 s, at least `retry_backoff_min`.
    pub retry_backoff_max: Duration,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: "http://localhost:8123".into(),
            database: "ponix".into(),
            cluster: None,
            insert_quorum: None,
            username: "ponix".into(),
            password: "ponix".into(),
            connect_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_mins(1),
            migration_timeout: Duration::from_mins(10),
            insert_rows_max: 50_000,
            insert_bytes_max: 32 << 20,
            insert_months_max: INSERT_MONTHS_MAX,
            insert_paths_max: 256,
            retry_backoff_min: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(10),
        }
    }
}

impl ClickHouseConfig {
    /// Returns the addresses, at least one.
    pub fn urls(&self) -> Vec<&str> {
        self.url.split(',').map(str::trim).collect()
    }

    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// All problems at once, in the order of the fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if let Err(problem) = self.urls().into_iter().try_for_each(check_url) {
            problems.push(problem);
        } else if self
            .urls()
            .iter()
            .any(|url| is_tls(url) != is_tls(&self.url))
        {
            problems.push(ConfigProblem::new(
                "url",
                "must be all http:// or all https://",
            ));
        }
        if self.database.is_empty() || self.database.chars().any(char::is_control) {
            problems.push(ConfigProblem::new(
                "database",
                "must be a name without control characters",
            ));
        }
        let is_name = |name: &String| !name.is_empty() && !name.contains(char::is_control);
        if !self.cluster.as_ref().is_none_or(is_name) {
            problems.push(ConfigProblem::new(
                "cluster",
                "must be a name without control characters",
            ));
        }
        let is_quorum = |quorum: &String| {
            quorum == "auto" || quorum.parse::<u8>().is_ok_and(|replicas| replicas > 0)
        };
        if !self.insert_quorum.as_ref().is_none_or(is_quorum) {
            problems.push(ConfigProblem::new(
                "insert_quorum",
                "must be auto or a number from 1 to 255",
            ));
        }
        if self.username.is_empty() || !is_header_text(&self.username) {
            problems.push(ConfigProblem::new(
                "username",
                "must be printable ASCII and not empty",
            ));
        }
        if !is_header_text(self.password.expose_secret()) {
            problems.push(ConfigProblem::new("password", "must be printable ASCII"));
        }
        for (field, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("send_timeout", self.send_timeout),
            ("response_timeout", self.response_timeout),
            ("migration_timeout", self.migration_timeout),
        ] {
            if timeout.is_zero() {
                problems.push(ConfigProblem::new(field, "must be longer than zero"));
            }
        }
        if !(1..=1_000_000).contains(&self.insert_rows_max) {
            problems.push(ConfigProblem::new(
                "insert_rows_max",
                "must be from 1 to 1,000,000",
            ));
        }
        if !((64 << 10)..=(1 << 30)).contains(&self.insert_bytes_max) {
            problems.push(ConfigProblem::new(
                "insert_bytes_max",
                "must be from 64 KiB to 1 GiB",
            ));
        }
        if !(1..=INSERT_MONTHS_MAX).contains(&self.insert_months_max) {
            problems.push(ConfigProblem::new(
                "insert_months_max",
                "must be from 1 to 50",
            ));
        }
        if self.insert_paths_max > 1_000 {
            problems.push(ConfigProblem::new(
                "insert_paths_max",
                "must be from 0 to 1,000",
            ));
        }
        if self.retry_backoff_min < Duration::from_millis(1) {
            problems.push(ConfigProblem::new(
                "retry_backoff_min",
                "must be at least 1 ms",
            ));
        }
        if self.retry_backoff_max < self.retry_backoff_min {
            problems.push(ConfigProblem::new(
                "retry_backoff_max",
                "must be at least retry_backoff_min",
            ));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { problems })
        }
    }
}

/// Every field of a [`ClickHouseConfig`] that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// Returns the problems, at least one, in the order of the fields.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// One field that is out of its bounds. It never holds the field's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("clickhouse {field} {complaint}")]
pub struct ConfigProblem {
    /// The field of [`ClickHouseConfig`].
    pub field: &'static str,
    /// What it must be.
    pub complaint: &'static str,
}

impl ConfigProblem {
    fn new(field: &'static str, complaint: &'static str) -> Self {
        Self { field, complaint }
    }
}

fn check_url(text: &str) -> Result<(), ConfigProblem> {
    let wrong = |complaint| Err(ConfigProblem::new("url", complaint));
    let Ok(url) = Url::parse(text) else {
        return wrong("must be a URL like http://host:8123");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return wrong("must begin with http:// or https:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("must not hold credentials, they are fields of their own");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("must end before any ? or #");
    }
    Ok(())
}

/// Tells whether a URL is spoken to by TLS.
pub(crate) fn is_tls(url: &str) -> bool {
    url.trim_start().starts_with("https:")
}

/// Tells whether a text can be sent in an HTTP header, the way credentials travel.
fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(ClickHouseConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_named_at_once_and_no_secret_is_shown() {
        let config = ClickHouseConfig {
            url: "http://me:hunter2@host:8123/?x=1".into(),
            database: String::new(),
            password: "hunter2\n".into(),
            connect_timeout: Duration::ZERO,
            insert_rows_max: 0,
            insert_bytes_max: 1,
            insert_months_max: 51,
            retry_backoff_max: Duration::ZERO,
            ..ClickHouseConfig::default()
        };
        let error = config.validate().expect_err("nearly everything is wrong");
        let fields: Vec<_> = error
            .problems()
            .iter()
            .map(|problem| problem.field)
            .collect();
        assert_eq!(
            fields,
            [
                "url",
                "database",
                "password",
                "connect_timeout",
                "insert_rows_max",
                "insert_bytes_max",
                "insert_months_max",
                "retry_backoff_max"
            ]
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_url_is_http_without_credentials_and_query() {
        for good in [
            "http://localhost:8123",
            "https://ch.example.com:8443/",
            "http://[::1]:8123",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost:8123",
            "tcp://host:9000",
            "http://",
            "http://h/?a=1",
            "http://u@h",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn several_urls_are_each_checked_and_speak_alike() {
        let with = |url: &str| ClickHouseConfig {
            url: url.into(),
            cluster: Some("eu".into()),
            insert_quorum: Some("auto".into()),
            ..Default::default()
        };
        assert_eq!(with("http://a:8123, http://b:8123").urls().len(), 2);
        assert_eq!(with("http://a:8123, http://b:8123").validate(), Ok(()));
        for wrong in ["http://a,https://b", "http://a,", "http://a,http://u@b"] {
            assert!(with(wrong).validate().is_err(), "{wrong}");
        }
        let wrong = ClickHouseConfig {
            cluster: Some(String::new()),
            insert_quorum: Some("0".into()),
            ..Default::default()
        };
        let error = wrong.validate().expect_err("both are wrong");
        let fields: Vec<_> = error
            .problems()
            .iter()
            .map(|problem| problem.field)
            .collect();
        assert_eq!(fields, ["cluster", "insert_quorum"]);
    }

    #[test]
    fn the_password_never_prints() {
        let config = ClickHouseConfig {
            password: "hunter2".into(),
            ..Default::default()
        };
        let printed = format!("{config:?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("REDACTED"), "{printed}");
    }
}
