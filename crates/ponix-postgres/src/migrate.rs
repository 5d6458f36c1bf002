//! Our own tables, brought up to date by refinery.

use refinery::error::Kind;
use refinery::{Migration, Target};

use crate::{ErrorKind, Postgres, StoreError};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// What only one session at a time does. Advisory locks are per database; the numbers are ours
/// ("ponix" in ASCII, and one more).
#[derive(Debug, Clone, Copy)]
#[repr(i64)]
pub(crate) enum Lock {
    /// Making and changing tables.
    Tables = 0x70_6f6e_6978,
    /// Forgetting old messages.
    Prune,
}

/// The migrations did not pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A newer program has migrated the database.
    #[error(
        "the database is at schema version {database}, this program knows versions up to \
         {program}: start a newer program"
    )]
    DatabaseTooNew {
        /// The version the database is at.
        database: i64,
        /// The newest version of this program.
        program: i64,
    },
    /// A migration that was applied differs from ours.
    #[error("a migration that was applied differs from the one of this program")]
    Differs(#[source] refinery::Error),
    /// A migration failed; all of it was rolled back.
    #[error("a migration failed")]
    Failed(#[source] refinery::Error),
    /// The server could not be asked.
    #[error("the migrations could not be begun")]
    Store(#[from] StoreError),
}

impl MigrateError {
    /// Tells whether the same can succeed later.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DatabaseTooNew { .. } | Self::Differs(_) => ErrorKind::Fatal,
            Self::Store(error) => error.kind(),
            Self::Failed(error) => kind_of_cause(error),
        }
    }
}

fn kind_of_cause(error: &refinery::Error) -> ErrorKind {
    let Kind::Connection(_, cause) = error.kind() else {
        return ErrorKind::Fatal;
    };
    match cause.downcast_ref::<tokio_postgres::Error>() {
        Some(error) => match error.as_db_error() {
            Some(answer) => StoreError::from(answer).kind(),
            None => ErrorKind::Transient,
        },
        None => ErrorKind::Fatal,
    }
}

impl Postgres {
    /// Brings our own tables up to date and returns how many migrations that took.
    ///
    /// Safe with several instances at once: one migrates, the others wait for it and then find
    /// nothing to do.
    ///
    /// # Errors
    /// See [`MigrateError`]; the database is as it was before the migration that failed.
    ///
    /// # Cancel safety
    /// The session ends with the future; PostgreSQL rolls back what was not committed and frees the
    /// lock.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        let mut session = self.session().await?;
        lock(&session, Lock::Tables).await?;
        let runner = embedded::migrations::runner();
        let versions = runner.get_migrations().iter().map(Migration::version);
        let program = i64::from(versions.max().unwrap_or(0));
        let database = database_version(&session).await?;
        if database > program {
            return Err(MigrateError::DatabaseTooNew { database, program });
        }
        let runner = runner.set_target(Target::Latest).set_grouped(false);
        let report = runner.run_async(&mut session).await;
        let report = report.map_err(|error| match error.kind() {
            Kind::DivergentVersion(..) | Kind::MissingVersion(..) => MigrateError::Differs(error),
            _ => MigrateError::Failed(error),
        })?;
        Ok(report.applied_migrations().len())
    }
}

/// Waits for a lock. It is held until the session ends.
pub(crate) async fn lock(session: &tokio_postgres::Client, lock: Lock) -> Result<(), StoreError> {
    session
        .execute("SELECT pg_advisory_lock($1)", &[&(lock as i64)])
        .await?;
    Ok(())
}

async fn database_version(session: &tokio_postgres::Client) -> Result<i64, StoreError> {
    const TABLE: &str = "refinery_schema_history";
    let there = session
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&TABLE])
        .await?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let sql = format!("SELECT coalesce(max(version), 0)::bigint FROM {TABLE}");
    Ok(session.query_one(&sql, &[]).await?.get(0))
}
