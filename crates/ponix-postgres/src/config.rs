//! What the crate wants to know before it connects.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};

/// The name under which the server lists our connections.
const APPLICATION_NAME: &str = "ponix";

/// Where PostgreSQL is and how it is talked to.
///
/// A plain struct with the defaults of production. `Debug` shows neither URL nor password.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Server and database, `postgres://user:password@host:5432/database?sslmode=…`, default
    /// `postgres://ponix:ponix@localhost:5432/ponix`.
    ///
    /// `sslmode` is `disable` (default), `require`, `verify-ca` or `verify-full`; the last three
    /// are one: TLS, and the certificate must be valid for the host name. `sslrootcert` names a
    /// PEM file with the authorities to trust instead of the system's.
    pub url: SecretString,
    /// The password, where it is not in the URL; it wins over the URL's.
    pub password: Option<SecretString>,
    /// The most connections at a time, default 8, at least 1.
    pub connections_max: usize,
    /// How long a connect may take, log-in included, default 5 s.
    pub connect_timeout: Duration,
    /// How long to wait for a free connection of the pool, default 5 s.
    pub pool_timeout: Duration,
    /// How long the server may work on one statement, default 30 s.
    pub statement_timeout: Duration,
    /// How long a whole operation may take, a batch with all its statements for instance, default
    /// 60 s. It ends what a server that hangs, or a network that is cut, would hold for ever.
    pub operation_timeout: Duration,
    /// How long one statement of a migration, or waiting for another instance that migrates, may
    /// take, default 10 min.
    pub migration_timeout: Duration,
    /// How often a transaction that lost against another one (deadlock, serialization) is begun
    /// again before the caller hears of it, default 5.
    pub conflict_retries_max: u32,
    /// For how many days after the one that is needed partitions are made ahead, default 3.
    pub partition_days_ahead: u16,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("postgres://ponix:ponix@localhost:5432/ponix"),
            password: None,
            connections_max: 8,
            connect_timeout: Duration::from_secs(5),
            pool_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            operation_timeout: Duration::from_mins(1),
            migration_timeout: Duration::from_mins(10),
            conflict_retries_max: 5,
            partition_days_ahead: 3,
        }
    }
}

impl PostgresConfig {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        Target::new(self).map(|_| ())
    }
}

/// The configuration cannot be used. No variant shows the URL or a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is none.
    #[error("the url of postgresql is not valid")]
    Url(#[source] tokio_postgres::Error),
    /// The URL begins with something else than `postgres://`.
    #[error("the url of postgresql does not begin with postgres://")]
    Scheme,
    /// A part that is needed is missing in the URL.
    #[error("the url of postgresql names no {part}")]
    Missing {
        /// `user`, `host` or `database`.
        part: &'static str,
    },
    /// An `sslmode` that is not known, or promises nothing.
    #[error("sslmode={mode} is not supported, expected disable, require, verify-ca or verify-full")]
    SslMode {
        /// What was given.
        mode: String,
    },
    /// The certificates to trust cannot be used.
    #[error("the certificates of the authorities cannot be used: {problem}")]
    RootCertificates {
        /// What is wrong.
        problem: String,
    },
    /// The pool cannot be made.
    #[error("a pool of {connections_max} connections cannot be made")]
    Pool {
        /// What was given.
        connections_max: usize,
    },
}

/// Where to connect, read from a [`PostgresConfig`].
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: tokio_postgres::Config,
    pub(crate) tls: bool,
    pub(crate) root_certificates: Option<PathBuf>,
    shown: String,
}

impl Target {
    /// Reads the URL and sets the timeouts.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self, ConfigError> {
        let url = config.url.expose_secret();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(ConfigError::Scheme);
        }
        let (url, ssl) = take_ssl(url)?;
        let mut client = tokio_postgres::Config::from_str(&url).map_err(ConfigError::Url)?;
        if let Some(password) = &config.password {
            client.password(password.expose_secret());
        }
        let missing = |part| ConfigError::Missing { part };
        let user = client.get_user().ok_or_else(|| missing("user"))?;
        let host = client.get_hosts().first().ok_or_else(|| missing("host"))?;
        let host = match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let port = client.get_ports().first().unwrap_or(&5432);
        let database = client.get_dbname().ok_or_else(|| missing("database"))?;
        let shown = format!("postgres://{user}:***@{host}:{port}/{database}");
        client
            .application_name(APPLICATION_NAME)
            .connect_timeout(config.connect_timeout)
            .tcp_user_timeout(config.operation_timeout)
            .keepalives_idle(Duration::from_secs(30))
            .ssl_mode(if ssl.tls {
                SslMode::Require
            } else {
                SslMode::Disable
            });
        Ok(Self {
            client,
            tls: ssl.tls,
            root_certificates: ssl.root_certificates,
            shown,
        })
    }

    /// Returns the settings of a connection whose statements may take so long.
    pub(crate) fn with_statement_timeout(&self, timeout: Duration) -> tokio_postgres::Config {
        let mut client = self.client.clone();
        let own = format!(
            "-c statement_timeout={ms} -c idle_in_transaction_session_timeout={ms} -c timezone=UTC",
            ms = timeout.as_millis()
        );
        let options = match client.get_options() {
            Some(given) => format!("{given} {own}"),
            None => own,
        };
        client.options(options);
        client
    }
}

impl fmt::Display for Target {
    /// Shows the URL with a masked password and without its options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[derive(Debug, Default)]
struct Ssl {
    tls: bool,
    root_certificates: Option<PathBuf>,
}

/// Takes the options that tokio-postgres does not know out of a URL.
fn take_ssl(url: &str) -> Result<(String, Ssl), ConfigError> {
    let mut ssl = Ssl::default();
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), ssl));
    };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => {
                ssl.tls = match mode {
                    "disable" => false,
                    "require" | "verify-ca" | "verify-full" => true,
                    _ => return Err(ConfigError::SslMode { mode: mode.into() }),
                };
            }
            Some(("sslrootcert", path)) => ssl.root_certificates = Some(path.into()),
            _ => kept.push(pair),
        }
    }
    if kept.is_empty() {
        return Ok((base.to_owned(), ssl));
    }
    Ok((format!("{base}?{}", kept.join("&")), ssl))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, ConfigError> {
        Target::new(&PostgresConfig {
            url: SecretString::from(url),
            ..PostgresConfig::default()
        })
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = "postgres://ann:s3cret@db.example:6000/things?application_name=x";
        let shown = target(url).expect("it is valid");
        for text in [format!("{shown}"), format!("{shown:?}")] {
            assert_eq!(text, "postgres://ann:***@db.example:6000/things");
        }
        let config = PostgresConfig {
            url: SecretString::from(url),
            password: Some(SecretString::from("s3cret")),
            ..PostgresConfig::default()
        };
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn errors_of_the_url_do_not_show_it() {
        for url in [
            "postgres://ann:s3cret@db.example:s3cret/x",
            "mysql://ann:s3cret@db/x",
            "postgres://ann:s3cret@/",
            "postgres://ann:s3cret@db/x?sslmode=prefer",
            "postgres://ann:s3cret@db/x?wrong=1",
        ] {
            let error = target(url).expect_err("it is not valid");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn tls_is_asked_for_by_sslmode() {
        let plain = target("postgres://a@b/c").expect("it is valid");
        assert!(!plain.tls);
        let tls =
            target("postgres://a@b/c?connect_timeout=3&sslmode=verify-full&sslrootcert=/ca.pem")
                .expect("it is valid");
        assert!(tls.tls);
        assert_eq!(tls.root_certificates, Some("/ca.pem".into()));
        assert_eq!(tls.client.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_password_of_its_own_wins() {
        let target = Target::new(&PostgresConfig {
            password: Some(SecretString::from("own")),
            ..PostgresConfig::default()
        })
        .expect("it is valid");
        assert_eq!(target.client.get_password(), Some(b"own".as_slice()));
    }
}
