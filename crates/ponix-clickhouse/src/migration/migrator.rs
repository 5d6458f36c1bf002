//! Applies, reverts and lists migrations.

use super::file::{MigrationFile, in_order};
use super::parse::{ParseError, Statement};
use super::plan::{self, Refusal};
use super::records;
use crate::error::{ErrorKind, RequestError};
use crate::layout::{Copies, Layout, LayoutError, SpreadError};
use crate::{Client, VersionError};

/// Brings a database to the schema of this program, or back by one step.
///
/// # Cancel safety
/// No method is stopped halfway for good: a migration that was begun and not recorded is begun
/// again from its first statement by the next [`Migrator::up`] or [`Migrator::down`].
#[derive(Debug, Clone)]
pub struct Migrator {
    client: Client,
    files: Vec<MigrationFile>,
}

/// One migration and whether it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The version.
    pub version: i64,
    /// The file's name, `None` if this program has no file of that version.
    pub file: Option<String>,
    /// Whether it is applied.
    pub state: MigrationState,
}

/// Whether a migration is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationState {
    /// Not yet.
    Pending,
    /// It is.
    Applied {
        /// When, in seconds since 1970, by the server's clock.
        at_unix_secs: i64,
    },
    /// It is, but the file was changed since.
    Changed {
        /// When, in seconds since 1970, by the server's clock.
        at_unix_secs: i64,
    },
}

/// A database that could not be migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The files are not in order.
    #[error("a migration file is wrong")]
    Parse(#[from] ParseError),
    /// Files and database do not go together; nothing was changed.
    #[error("the migrations do not fit the database")]
    Refused(#[from] Refusal),
    /// The server is too old, or did not answer.
    #[error("the server cannot be migrated")]
    Server(#[from] VersionError),
    /// The database does not exist and the user may not create it.
    #[error("the database {database} is missing and cannot be created")]
    DatabaseMissing {
        /// The configured name.
        database: String,
        /// Why not.
        #[source]
        source: RequestError,
    },
    /// The servers of the cluster and the configuration, or a table, do not go together.
    #[error("the tables cannot lie as configured")]
    Layout(#[from] LayoutError),
    /// A statement cannot be spread over a cluster; nothing of its file was changed.
    #[error("{file}:{line}: the statement is for one server only")]
    Spread {
        /// The file's name.
        file: String,
        /// The statement's line in it.
        line: usize,
        /// Why.
        #[source]
        source: SpreadError,
    },
    /// A statement failed; those before it stay, and all are repeated the next time.
    #[error("{file}:{line}: the statement failed")]
    Statement {
        /// The file's name.
        file: String,
        /// The statement's line in it.
        line: usize,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// What is applied could not be read or recorded.
    #[error("the record of the migrations cannot be read or written")]
    Records(#[source] RequestError),
}

impl MigrateError {
    /// Tells whether waiting helps ([`ErrorKind::Transient`]) or not ([`ErrorKind::Fatal`]).
    pub fn kind(&self) -> ErrorKind {
        let request = match self {
            Self::Parse(_)
            | Self::Refused(_)
            | Self::Spread { .. }
            | Self::Server(VersionError::TooOld { .. }) => return ErrorKind::Fatal,
            Self::Layout(error) => {
                return match error.kind() {
                    ErrorKind::Transient => ErrorKind::Transient,
                    ErrorKind::Rejected | ErrorKind::Fatal => ErrorKind::Fatal,
                };
            }
            Self::Server(VersionError::Request(source))
            | Self::DatabaseMissing { source, .. }
            | Self::Statement { source, .. }
            | Self::Records(source) => source,
        };
        match request.kind() {
            ErrorKind::Transient => ErrorKind::Transient,
            ErrorKind::Rejected | ErrorKind::Fatal => ErrorKind::Fatal,
        }
    }
}

impl Migrator {
    /// Makes a migrator of the migrations in this crate.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            files: MigrationFile::embedded(),
        }
    }

    /// Makes a migrator of other files, in any order.
    ///
    /// # Errors
    /// Two files with the same version.
    pub fn with_files(client: &Client, files: Vec<MigrationFile>) -> Result<Self, ParseError> {
        Ok(Self {
            client: client.clone(),
            files: in_order(files)?,
        })
    }

    /// Applies what is pending and returns the names of those files, oldest first.
    ///
    /// Creates the database if it is missing. Checks everything before it changes anything else:
    /// the server's version, every applied file, every version of the database. Any number of
    /// instances may do this at once; each returns what it applied itself.
    ///
    /// # Errors
    /// [`MigrateError`]; what was applied before it stays applied.
    pub async fn up(&self) -> Result<Vec<String>, MigrateError> {
        let layout = self.begin().await?;
        self.check_tables(&layout).await?;
        let mut applied = Vec::new();
        while let Some(file) = self.next_pending(&layout).await? {
            self.apply(file, &layout).await?;
            tracing::info!(file = file.name(), "migration applied");
            applied.push(file.name().to_owned());
        }
        self.check_tables(&layout).await?;
        Ok(applied)
    }

    /// Prepares the database and its records, and tells how tables are spread.
    async fn begin(&self) -> Result<Layout, MigrateError> {
        self.client.check_version().await?;
        self.ensure_database().await?;
        let layout = Layout::ask(&self.client).await?;
        if layout.is_spread() {
            tracing::info!(?layout, "tables are spread over servers");
        }
        records::create(&self.client, &layout)
            .await
            .map_err(MigrateError::Records)?;
        Ok(layout)
    }

    /// Migrations leave alone what is there: a table of one server stays one of one server.
    async fn check_tables(&self, layout: &Layout) -> Result<(), MigrateError> {
        let urls = self.client.config().urls().len();
        if urls == 1 && !layout.is_spread() {
            return Ok(());
        }
        let sql = "SELECT name, engine FROM system.tables WHERE database = currentDatabase() \
                   AND name = 'processed_envelopes'";
        let found = self.client.fetch_all::<(String, String)>(sql).await;
        for (table, engine) in found.map_err(MigrateError::Records)? {
            layout.check_table(&table, &engine, urls)?;
        }
        Ok(())
    }

    /// Reverts the newest migration and returns its file's name, `None` if none is applied.
    ///
    /// # Errors
    /// [`MigrateError`]; the migration then still counts as applied.
    pub async fn down(&self) -> Result<Option<String>, MigrateError> {
        let layout = self.begin().await?;
        let records = self.newest_records(&layout).await?;
        let Some(file) = plan::newest(&self.files, &records::applied(&records))? else {
            return Ok(None);
        };
        self.execute(file, &file.section().down, &layout).await?;
        records::forget(&self.client, file.version())
            .await
            .map_err(MigrateError::Records)?;
        tracing::info!(file = file.name(), "migration reverted");
        Ok(Some(file.name().to_owned()))
    }

    /// Lists every migration of the files and of the database, oldest first. Changes nothing: of a
    /// database that does not exist, every migration is pending.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn status(&self) -> Result<Vec<MigrationStatus>, MigrateError> {
        let mut records = match self.records().await {
            Err(MigrateError::Records(error)) if error.code() == Some(UNKNOWN_DATABASE) => {
                records::Records::new()
            }
            records => records?,
        };
        let mut list: Vec<_> = self
            .files
            .iter()
            .map(|file| MigrationStatus {
                version: file.version(),
                file: Some(file.name().to_owned()),
                state: state(file, records.remove(&file.version())),
            })
            .collect();
        list.extend(
            records
                .into_iter()
                .map(|(version, record)| MigrationStatus {
                    version,
                    file: None,
                    state: MigrationState::Applied {
                        at_unix_secs: record.applied_at,
                    },
                }),
        );
        list.sort_by_key(|status| status.version);
        Ok(list)
    }

    async fn ensure_database(&self) -> Result<(), MigrateError> {
        let database = &self.client.config().database;
        // Asking first: a user who may not create databases needs no such right if it is there.
        match self.client.ping().await {
            Err(error) if error.code() == Some(UNKNOWN_DATABASE) => {}
            _ => return Ok(()),
        }
        // Without a cluster where it replicates by itself.
        let cluster = match Layout::ask(&self.client).await? {
            Layout::Replicas { cluster } | Layout::Shards { cluster } => Some(cluster),
            _ => None,
        };
        let create = Layout::create_database(cluster.as_deref(), database);
        self.client
            .execute_outside(&create)
            .await
            .map_err(|source| MigrateError::DatabaseMissing {
                database: database.clone(),
                source,
            })
    }

    async fn records(&self) -> Result<records::Records, MigrateError> {
        records::read(&self.client)
            .await
            .map_err(MigrateError::Records)
    }

    /// Reads what any server of a cluster has recorded.
    async fn newest_records(&self, layout: &Layout) -> Result<records::Records, MigrateError> {
        if layout.is_spread() {
            let caught_up = records::catch_up(&self.client).await;
            caught_up.map_err(MigrateError::Records)?;
        }
        self.records().await
    }

    /// Reads the records anew each time, since another instance may have applied the next one.
    async fn next_pending(&self, layout: &Layout) -> Result<Option<&MigrationFile>, MigrateError> {
        let records = self.newest_records(layout).await?;
        let plan = plan::plan(&self.files, &records::applied(&records))?;
        for file in &plan.unrecorded {
            records::record_checksum(&self.client, file)
                .await
                .map_err(MigrateError::Records)?;
        }
        Ok(plan.pending.first().copied())
    }

    async fn apply(&self, file: &MigrationFile, layout: &Layout) -> Result<(), MigrateError> {
        if let Err(error) = self.execute(file, &file.section().up, layout).await {
            // Another instance that is ahead may be what made the statement fail.
            if self.records().await?.contains_key(&file.version()) {
                return Ok(());
            }
            return Err(error);
        }
        records::record(&self.client, file)
            .await
            .map_err(MigrateError::Records)
    }

    async fn execute(
        &self,
        file: &MigrationFile,
        statements: &[Statement],
        layout: &Layout,
    ) -> Result<(), MigrateError> {
        let database = &self.client.config().database;
        let spread = |statement: &Statement| {
            let (sql, line) = (&statement.sql, statement.line);
            let spread = layout.spread(database, Copies::PerShard, sql);
            spread
                .map(|spread| (line, spread))
                .map_err(|source| MigrateError::Spread {
                    file: file.name().into(),
                    line,
                    source,
                })
        };
        // All of them before the first is executed.
        let spread: Vec<_> = statements.iter().map(spread).collect::<Result<_, _>>()?;
        for (line, spread) in spread {
            for sql in spread {
                fail::fail_point!("migration_statement", |_| std::process::abort());
                let executed = self.client.execute_spread(&sql).await;
                executed.map_err(|source| MigrateError::Statement {
                    file: file.name().into(),
                    line,
                    source,
                })?;
            }
        }
        Ok(())
    }
}

/// `UNKNOWN_DATABASE`
const UNKNOWN_DATABASE: u32 = 81;

fn state(file: &MigrationFile, record: Option<records::Record>) -> MigrationState {
    let Some(record) = record else {
        return MigrationState::Pending;
    };
    let at_unix_secs = record.applied_at;
    match record.checksum {
        Some(checksum) if checksum != file.checksum() => MigrationState::Changed { at_unix_secs },
        _ => MigrationState::Applied { at_unix_secs },
    }
}
