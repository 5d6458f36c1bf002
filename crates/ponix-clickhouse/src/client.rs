//! The connection to one ClickHouse server and database.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clickhouse::query::Query;
use clickhouse::{Compression, RowOwned, RowRead};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::error::RequestError;
use crate::servers::{Asked, Servers};
use crate::transport::{self, Frames, Pool};
use crate::version::{BLOCKS_SINCE, DEDUPLICATE_INSERT_SINCE};
use crate::{ClickHouseConfig, ConfigError, SERVER_VERSION_MIN, ServerVersion};

/// How long a server's version is believed: it may be another one behind the same address.
const VERSION_AGE_MAX: Duration = Duration::from_mins(1);

/// UNKNOWN_SETTING
const UNKNOWN_SETTING: u32 = 115;

/// How long a statement that goes to every server of a cluster is waited for; a server that is down
/// executes it when it is back.
const CLUSTER_DDL_SECS: &str = "60";

/// A client for one server, user and database, or for several servers with the same tables: each
/// request goes to one of them. Clones share the pool of connections.
///
/// Nothing is sent before the first request, so a client can be made while the server is down.
#[derive(Clone)]
pub struct Client {
    raw: clickhouse::Client,
    inserts: Pool,
    servers: Servers,
    config: Arc<ClickHouseConfig>,
    version: Arc<Mutex<Option<(ServerVersion, Instant)>>>,
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
            .with_user(&config.username)
            .with_password(config.password.expose_secret())
            .with_compression(Compression::Lz4)
            .with_product_info("ponix", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            raw,
            inserts: Pool::new(config),
            servers: Servers::new(&config.urls()),
            config: Arc::new(config.clone()),
            version: Arc::default(),
        })
    }

    /// Returns what the client was made of.
    pub fn config(&self) -> &ClickHouseConfig {
        &self.config
    }

    /// Returns the client of the `clickhouse` crate, set to the configured database.
    ///
    /// For queries of other parts; it has the connect timeout but no other, so wrap what it does. It
    /// stays with the server that is asked now.
    pub fn raw(&self) -> clickhouse::Client {
        self.at_server().1.with_database(&self.config.database)
    }

    /// Returns a client of the server that is asked now.
    fn at_server(&self) -> (Asked, clickhouse::Client) {
        let (asked, url) = self.servers.current();
        (asked, self.raw.clone().with_url(url))
    }

    /// Has another server asked from now on, if the failure is one that another may not have.
    fn noted<T>(&self, asked: Asked, result: Result<T, RequestError>) -> Result<T, RequestError> {
        if let Err(error) = &result
            && self.servers.failed(asked, error)
        {
            *self.known_version() = None;
        }
        result
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
        match self.fetch_all::<u8>("SELECT 1").await?.as_slice() {
            [1] => Ok(()),
            other => Err(RequestError::NotClickHouse {
                text: format!("SELECT 1 brought {other:?}"),
            }),
        }
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
        let (asked, raw) = self.at_server();
        let query = raw.query_raw("SELECT version()").fetch_one::<String>();
        let text = self.noted(asked, within(self.config.response_timeout, query).await)?;
        let version = ServerVersion::parse(&text).ok_or_else(|| RequestError::NotClickHouse {
            text: format!("version {text}"),
        })?;
        *self.known_version() = Some((version, Instant::now()));
        Ok(version)
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

    /// Sends one INSERT, once: success means that ClickHouse says that so many rows are written.
    /// `head` stands in front of the rows.
    ///
    /// Block deduplication is off: a token is written before the part, so that a crash in between
    /// makes the retry report success and store nothing.
    pub(crate) async fn insert(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
        head: Bytes,
        rows: Bytes,
        count: usize,
    ) -> Result<(), RequestError> {
        let once_more = self.once_more().await?;
        // Only now: asking for the version may have turned to another server.
        let (asked, url) = self.servers.current();
        let settings = settings.iter().copied().chain(once_more);
        let body = Frames::new(head, rows);
        let (inserts, config) = (&self.inserts, &self.config);
        let result = transport::insert(inserts, config, url, sql, settings, body, count).await;
        let result = self.noted(asked, result);
        if matches!(&result, Err(error) if error.code() == Some(UNKNOWN_SETTING)) {
            *self.known_version() = None;
        }
        result
    }

    /// The settings with which rows are written, be it once more, and to so many replicas as are
    /// configured.
    pub(crate) async fn once_more(&self) -> Result<Vec<(&str, &str)>, RequestError> {
        let mut settings = vec![("insert_deduplicate", "0")];
        // It overrides the first, and is unknown to older servers.
        if self.recent_version().await? >= DEDUPLICATE_INSERT_SINCE {
            settings.push(("deduplicate_insert", "disable"));
        }
        if let Some(quorum) = self.config.insert_quorum.as_deref() {
            settings.push(("insert_quorum", quorum));
        }
        Ok(settings)
    }

    /// Returns the version, asked for a minute ago at most.
    async fn recent_version(&self) -> Result<ServerVersion, RequestError> {
        let known = *self.known_version();
        match known {
            Some((version, at)) if at.elapsed() < VERSION_AGE_MAX => Ok(version),
            _ => self.server_version().await,
        }
    }

    /// Tells whether the server is new enough for blocks of columns; not, if it does not answer.
    pub(crate) async fn takes_blocks(&self) -> bool {
        let version = self.recent_version().await;
        version.is_ok_and(|version| version >= BLOCKS_SINCE)
    }

    fn known_version(&self) -> MutexGuard<'_, Option<(ServerVersion, Instant)>> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes one INSERT of rows that may be like those of another one.
    pub(crate) async fn execute_once_more(&self, sql: &str) -> Result<(), RequestError> {
        let settings = self.once_more().await?;
        self.execute_within(self.config.response_timeout, sql, &settings)
            .await
    }

    /// Executes one statement that may take as long as a migration.
    pub(crate) async fn execute_slow(&self, sql: &str) -> Result<(), RequestError> {
        self.execute_within(self.config.migration_timeout, sql, &[])
            .await
    }

    /// Executes one statement that may go to every server of a cluster. One that is down does not make
    /// it fail.
    pub(crate) async fn execute_spread(&self, sql: &str) -> Result<(), RequestError> {
        self.execute_within(self.config.migration_timeout, sql, settings_for(sql))
            .await
    }

    async fn execute_within(
        &self,
        timeout: Duration,
        sql: &str,
        settings: &[(&str, &str)],
    ) -> Result<(), RequestError> {
        let (asked, raw) = self.at_server();
        let database = raw.with_database(&self.config.database);
        let query = with_settings(database.query_raw(sql), settings);
        self.noted(asked, within(timeout, query.execute()).await)
    }

    /// Executes one statement without a database, for the time before it exists.
    pub(crate) async fn execute_outside(&self, sql: &str) -> Result<(), RequestError> {
        let (asked, raw) = self.at_server();
        let query = with_settings(raw.query_raw(sql), settings_for(sql)).execute();
        self.noted(asked, within(self.config.migration_timeout, query).await)
    }

    /// Reads all rows of one query in the configured database.
    pub(crate) async fn fetch_all<T>(&self, sql: &str) -> Result<Vec<T>, RequestError>
    where
        T: RowOwned + RowRead + Send,
    {
        let (asked, raw) = self.at_server();
        let query = raw.with_database(&self.config.database).query_raw(sql);
        let rows = within(self.config.response_timeout, query.fetch_all::<T>()).await;
        self.noted(asked, rows)
    }

    /// Reads all rows of one query without a database.
    pub(crate) async fn fetch_all_outside<T>(&self, sql: &str) -> Result<Vec<T>, RequestError>
    where
        T: RowOwned + RowRead + Send,
    {
        let (asked, raw) = self.at_server();
        let query = raw.query_raw(sql).fetch_all::<T>();
        let rows = within(self.config.response_timeout, query).await;
        self.noted(asked, rows)
    }
}

/// What a statement for every server of a cluster is sent with.
fn settings_for(sql: &str) -> &'static [(&'static str, &'static str)] {
    if !sql.contains(" ON CLUSTER ") {
        return &[];
    }
    &[
        ("distributed_ddl_task_timeout", CLUSTER_DDL_SECS),
        ("distributed_ddl_output_mode", "null_status_on_timeout"),
    ]
}

fn with_settings(query: Query, settings: &[(&str, &str)]) -> Query {
    settings.iter().fold(query, |query, (name, value)| {
        query.with_setting(*name, *value)
    })
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
