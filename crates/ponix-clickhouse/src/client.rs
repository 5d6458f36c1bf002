//! The connection to one ClickHouse server and database.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::query::Query;
use clickhouse::{Compression, RowOwned, RowRead};
use secrecy::ExposeSecret as _;

use crate::error::RequestError;
use crate::{ClickHouseConfig, ConfigError, SERVER_VERSION_MIN, ServerVersion, transport};

/// A client for one server, user and database. Clones share the pool of connections.
///
/// Nothing is sent before the first request, so a client can be made while the server is down.
#[derive(Clone)]
pub struct Client {
    raw: clickhouse::Client,
    config: Arc<ClickHouseConfig>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// Every field of the configuration that is out of its bounds.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let raw = transport::connect(config)
            .with_url(&config.url)
            .with_user(&config.username)
            .with_password(config.password.expose_secret())
            .with_compression(Compression::Lz4)
            .with_product_info("ponix", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            raw,
            config: Arc::new(config.clone()),
        })
    }

    /// Returns what the client was made of.
    pub fn config(&self) -> &ClickHouseConfig {
        &self.config
    }

    /// Returns the client of the `clickhouse` crate, set to the configured database.
    ///
    /// For queries of other parts; it has the connect timeout but no other, so wrap what it does.
    pub fn raw(&self) -> clickhouse::Client {
        self.raw.clone().with_database(&self.config.database)
    }

    /// Asks the server for an answer, with the configured user, password and database.
    ///
    /// Unlike ClickHouse's `/ping` it fails when the credentials or the database are wrong.
    ///
    /// # Errors
    /// [`RequestError`], of which [`RequestError::kind`] tells whether waiting helps.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn ping(&self) -> Result<(), RequestError> {
        self.execute("SELECT 1").await
    }

    /// Asks the server for its version. The database need not exist.
    ///
    /// # Errors
    /// [`RequestError`]; a version that does not begin with two numbers is
    /// [`RequestError::NotClickHouse`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn server_version(&self) -> Result<ServerVersion, RequestError> {
        let query = self.raw.query_raw("SELECT version()").fetch_one::<String>();
        let text = within(self.config.response_timeout, query).await?;
        ServerVersion::parse(&text).ok_or_else(|| RequestError::NotClickHouse {
            text: format!("version {text}"),
        })
    }

    /// Checks that the server is at least [`SERVER_VERSION_MIN`] and returns its version.
    ///
    /// # Errors
    /// [`VersionError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn check_version(&self) -> Result<ServerVersion, VersionError> {
        let found = self.server_version().await?;
        if found < SERVER_VERSION_MIN {
            return Err(VersionError::TooOld { found });
        }
        Ok(found)
    }

    /// Executes one statement in the configured database and waits for the whole answer.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), RequestError> {
        within(self.config.response_timeout, self.query(sql).execute()).await
    }

    /// Executes one statement that may take as long as a migration.
    pub(crate) async fn execute_slow(&self, sql: &str) -> Result<(), RequestError> {
        within(self.config.migration_timeout, self.query(sql).execute()).await
    }

    /// Executes one statement without a database, for the time before it exists.
    pub(crate) async fn execute_outside(&self, sql: &str) -> Result<(), RequestError> {
        within(
            self.config.response_timeout,
            self.raw.query_raw(sql).execute(),
        )
        .await
    }

    /// Reads all rows of one query in the configured database.
    pub(crate) async fn fetch_all<T>(&self, sql: &str) -> Result<Vec<T>, RequestError>
    where
        T: RowOwned + RowRead + Send,
    {
        within(
            self.config.response_timeout,
            self.query(sql).fetch_all::<T>(),
        )
        .await
    }

    fn query(&self, sql: &str) -> Query {
        self.raw().query_raw(sql)
    }
}

/// Bounds a request of the `clickhouse` crate in time and reads its error.
pub(crate) async fn within<T>(
    timeout: Duration,
    request: impl IntoFuture<Output = clickhouse::error::Result<T>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(timeout, request).await {
        Ok(answer) => answer.map_err(|error| RequestError::from_crate(error, timeout)),
        Err(_) => Err(RequestError::TimedOut { after: timeout }),
    }
}

/// The server cannot be used, or could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The server is older than [`SERVER_VERSION_MIN`].
    #[error("clickhouse {found} is too old, the oldest that is supported is {SERVER_VERSION_MIN}")]
    TooOld {
        /// The server's version.
        found: ServerVersion,
    },
    /// The server did not tell its version.
    #[error("the version of clickhouse is unknown")]
    Request(#[from] RequestError),
}
