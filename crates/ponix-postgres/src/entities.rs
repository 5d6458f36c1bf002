//! The tables of entities: made, extended, never narrowed.

use std::fmt;

use ponix_entities::Catalog;
use tokio_postgres::Transaction;

use crate::error::{is_about_rows, shortened};
use crate::migrate::{Lock, lock};
use crate::{ErrorKind, Postgres, StoreError};

mod plan;
mod shape;

use plan::Plan;

/// A change of a table that is not made, since rows would be lost or could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The table.
    pub table: String,
    /// What about it differs: a column, or the columns of a key.
    pub subject: String,
    /// What differs.
    pub problem: String,
    /// What the operator can do.
    pub remedy: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            subject,
            problem,
            remedy,
        } = self;
        write!(f, "table {table}, {subject}: {problem}; {remedy}")
    }
}

/// The tables could not be brought to what the entities declare; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntitiesError {
    /// Some changes are not made.
    #[error(
        "the tables cannot follow the entities without losing data: {}",
        listed(obstacles)
    )]
    Refused {
        /// All of them.
        obstacles: Vec<Obstacle>,
    },
    /// The server could not be asked, or a statement failed.
    #[error("the tables could not be brought up to date")]
    Store(#[from] StoreError),
}

impl EntitiesError {
    /// Tells whether the same can succeed later.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Fatal,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<tokio_postgres::Error> for EntitiesError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

fn listed(obstacles: &[Obstacle]) -> String {
    let lines: Vec<_> = obstacles.iter().map(Obstacle::to_string).collect();
    lines.join(" | ")
}

impl Postgres {
    /// Makes and extends the tables of entities, and returns the statements that took.
    ///
    /// See [`Postgres::extend_tables`].
    ///
    /// # Errors
    /// See [`EntitiesError`]; all or nothing is done.
    ///
    /// # Cancel safety
    /// All or nothing is done.
    pub async fn apply_entities(&self, catalog: &Catalog) -> Result<Vec<String>, EntitiesError> {
        let tables: Vec<_> = catalog.tables().map(|table| table.name.as_str()).collect();
        self.extend_tables(&tables, &ponix_entities::ddl(catalog))
            .await
    }

    /// Makes and extends tables as `ddl` would make them, and returns the statements that took.
    ///
    /// `ddl` names tables without a schema, those of `tables` and no others.
    ///
    /// New tables are made, and existing ones get new columns, keys and indexes. A column is
    /// widened (longer text, more digits) or made nullable. Whatever else differs is refused:
    /// nothing is ever dropped or narrowed. Safe with several instances at once.
    ///
    /// # Errors
    /// See [`EntitiesError`]; all or nothing is done.
    ///
    /// # Cancel safety
    /// All or nothing is done.
    pub async fn extend_tables(
        &self,
        tables: &[&str],
        ddl: &str,
    ) -> Result<Vec<String>, EntitiesError> {
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.session().await?;
        lock(&session, Lock::Tables).await?;
        let mut transaction = session.transaction().await?;
        let plan = plan_of(&mut transaction, tables, ddl).await?;
        let obstacles = plan.obstacles;
        if !obstacles.is_empty() {
            return Err(EntitiesError::Refused { obstacles });
        }
        for step in &plan.steps {
            if let Err(error) = transaction.batch_execute(&step.sql).await {
                return Err(match error.as_db_error() {
                    // Rows that are there do not fit what is added.
                    Some(answer) if is_about_rows(answer.code()) => EntitiesError::Refused {
                        obstacles: vec![step.refused(&shortened(answer.message()))],
                    },
                    _ => error.into(),
                });
            }
        }
        transaction.commit().await?;
        Ok(plan.steps.into_iter().map(|step| step.sql).collect())
    }
}

/// Compares the tables that are there with those that the DDL would make: it makes them, as
/// temporary tables, and takes them back.
async fn plan_of(
    transaction: &mut Transaction<'_>,
    tables: &[&str],
    ddl: &str,
) -> Result<Plan, StoreError> {
    let row = transaction
        .query_one("SELECT current_schema()", &[])
        .await?;
    let schema: Option<String> = row.try_get(0)?;
    let schema = schema.unwrap_or_default();
    let existing = shape::read(transaction, &schema, tables).await?;

    let trial = transaction.savepoint("trial").await?;
    trial
        .batch_execute("SET LOCAL search_path = pg_temp")
        .await?;
    trial.batch_execute(ddl).await?;
    let row = trial
        .query_one(
            "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()",
            &[],
        )
        .await?;
    let wanted = shape::read(&trial, row.try_get(0)?, tables).await?;
    trial.rollback().await?;

    Ok(plan::plan(&wanted, &existing))
}
