//! The rows of many that one constraint refuses, found with one query.
//!
//! Halving finds a few bad messages among thousands quickly, but a file that is sent again, or orders
//! that come before their customers, are bad by the thousand.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use ponix_entities::quoted;
use tokio_postgres::error::{DbError, SqlState};
use uuid::Uuid;

use super::rows::{Failure, columns_of, copy_in};
use crate::StoreError;
use crate::copy::copy_statement;

/// The rows of a table that was refused, and of the one it refers to, as COPY takes them.
pub(super) struct Staged<'a> {
    pub(super) id_column: &'a str,
    /// Columns of the table, without the id.
    pub(super) columns: Vec<&'a str>,
    pub(super) rows: Bytes,
}

/// What a constraint compares with what.
struct Comparison {
    /// The other table, quoted where it needs to be.
    with: String,
    own: Vec<String>,
    other: Vec<String>,
    /// Whether a row is refused because the other one is there, or because it is not.
    refuses_present: bool,
}

/// Returns the ids of the rows that the constraint of `error` refuses for what is in the database.
///
/// Rows that are refused for others of the same batch are not found, nor are those that a table
/// of the batch still lacks: none may be found.
pub(super) async fn suspects(
    transaction: &mut Transaction<'_>,
    error: &DbError,
    staged: Staged<'_>,
) -> Result<Vec<Uuid>, StoreError> {
    let Some(comparison) = comparison(transaction, error).await? else {
        return Ok(Vec::new());
    };
    let savepoint = transaction.savepoint("suspects").await?;
    let found = search(&savepoint, error, &staged, &comparison).await;
    savepoint.rollback().await?;
    match found {
        Ok(ids) => Ok(ids),
        // Something else is wrong with the rows too.
        Err(Failure::Rows(_)) => Ok(Vec::new()),
        Err(Failure::Store(error)) => Err(error),
    }
}

async fn search(
    transaction: &Transaction<'_>,
    error: &DbError,
    staged: &Staged<'_>,
    comparison: &Comparison,
) -> Result<Vec<Uuid>, Failure> {
    let table = quoted(error.table().unwrap_or_default());
    transaction
        .batch_execute(&format!(
            "CREATE TEMP TABLE suspects (LIKE {table}) ON COMMIT DROP"
        ))
        .await?;
    let copy = copy_statement("suspects", staged.id_column, &staged.columns);
    let copy = transaction.prepare(&copy).await?;
    copy_in(transaction, &copy, staged.rows.clone()).await?;
    let Comparison {
        with, own, other, ..
    } = comparison;
    let pairs = own.iter().zip(other);
    let equal: Vec<_> = pairs
        .map(|(own, other)| format!("r.{} = s.{}", quoted(other), quoted(own)))
        .collect();
    let given: Vec<_> = own
        .iter()
        .map(|own| format!("s.{} IS NOT NULL", quoted(own)))
        .collect();
    let sql = format!(
        "SELECT s.{} FROM suspects s WHERE {} AND {}EXISTS (SELECT FROM {with} r WHERE {})",
        quoted(staged.id_column),
        given.join(" AND "),
        if comparison.refuses_present {
            ""
        } else {
            "NOT "
        },
        equal.join(" AND ")
    );
    let rows = transaction.query(&sql, &[]).await?;
    rows.iter()
        .map(|row| row.try_get(0).map_err(Failure::from))
        .collect()
}

async fn comparison(
    transaction: &Transaction<'_>,
    error: &DbError,
) -> Result<Option<Comparison>, StoreError> {
    let (Some(table), Some(constraint)) = (error.table(), error.constraint()) else {
        return Ok(None);
    };
    if error.code() == &SqlState::UNIQUE_VIOLATION {
        let own = columns_of(transaction, error, constraint).await?;
        return Ok((!own.is_empty()).then(|| Comparison {
            with: quoted(table),
            other: own.clone(),
            own,
            refuses_present: true,
        }));
    }
    if error.code() != &SqlState::FOREIGN_KEY_VIOLATION {
        return Ok(None);
    }
    const SQL: &str = "SELECT c.confrelid::regclass::text, \
         ARRAY(SELECT a.attname::text FROM UNNEST(c.conkey) WITH ORDINALITY AS k (attnum, place) \
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY place), \
         ARRAY(SELECT a.attname::text FROM UNNEST(c.confkey) WITH ORDINALITY AS k (attnum, place) \
         JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum ORDER BY place) \
         FROM pg_constraint c WHERE c.conrelid = to_regclass($1) AND c.conname = $2 \
         AND c.contype = 'f'";
    let statement = transaction.prepare_cached(SQL).await?;
    let row = transaction
        .query_opt(&statement, &[&quoted(table), &constraint])
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Comparison {
        with: row.try_get(0)?,
        own: row.try_get(1)?,
        other: row.try_get(2)?,
        refuses_present: false,
    }))
}
