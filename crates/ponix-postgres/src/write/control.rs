//! The control question: does a table still take a row like those it took before?

use deadpool_postgres::Transaction;
use ponix_entities::{Catalog, quoted};
use ponix_sink::Control;

use crate::StoreError;
use crate::error::is_about_rows;

/// Has a row of before pass the table's constraints and triggers once more, and takes it back.
///
/// An update that changes nothing checks what an insert would. Rows of this transaction do not
/// count: they were taken just now. They have the number of their savepoint, which comes after the
/// transaction's own.
///
/// # Errors
/// The question could not be asked.
pub(super) async fn control(
    transaction: &mut Transaction<'_>,
    catalog: &Catalog,
    table: &str,
) -> Result<Control, StoreError> {
    let Some(declared) = catalog.tables().find(|own| own.name == table) else {
        return Ok(Control::Unknown);
    };
    ask_again(transaction, &quoted(&declared.name), &declared.id_column).await
}

/// Keeps tables, whose names are quoted already, as they are until the transaction ends.
///
/// A savepoint that is rolled back lets go of the table, and whoever waits to alter it goes first: a
/// constraint that refused a row may be gone when the control question is asked. Both have to meet
/// the same table, so rows that were refused are sent once more behind this.
pub(crate) async fn keep_as_they_are(
    transaction: &Transaction<'_>,
    tables: &[String],
) -> Result<(), StoreError> {
    let sql = format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", tables.join(", "));
    Ok(transaction.batch_execute(&sql).await?)
}

/// As [`control`], of a table whose name is quoted already, by one of its columns.
pub(crate) async fn ask_again(
    transaction: &mut Transaction<'_>,
    table: &str,
    column: &str,
) -> Result<Control, StoreError> {
    let column = quoted(column);
    let sql = format!(
        "UPDATE {table} SET {column} = {column} WHERE ctid = (SELECT ctid FROM {table} \
         WHERE age(xmin) > age(pg_current_xact_id()::xid) LIMIT 1)"
    );
    let savepoint = transaction.savepoint("control").await?;
    let asked = savepoint.execute(&sql, &[]).await;
    savepoint.rollback().await?;
    match asked {
        Ok(0) => Ok(Control::Unknown),
        Ok(_) => Ok(Control::Stored),
        Err(error) => match error.as_db_error() {
            Some(answer) if is_about_rows(answer.code()) => Ok(Control::Refused),
            _ => Err(error.into()),
        },
    }
}
