//! The rows of a batch, and the search for those that are refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures::SinkExt;
use ponix_entities::{Catalog, Row, Table, TableIndex, quoted};
use ponix_sink::{Control, RejectedBy};
use tokio_postgres::Statement;
use tokio_postgres::error::{DbError, SqlState};
use uuid::Uuid;

use super::MessageRow;
use super::control::{control, keep_as_they_are};
use super::suspects::{Staged, suspects};
use crate::copy::{self, CopyRows, Unencodable};
use crate::error::is_about_rows;
use crate::row_id::row_id;
use crate::{MessageOutcome, PostgresMetrics, StoreError};

/// Stores the rows of messages and notes what became of each.
pub(super) struct Store<'a> {
    catalog: &'a Catalog,
    batch: &'a [MessageRow],
    outcomes: &'a mut [Option<MessageOutcome>],
    metrics: &'a PostgresMetrics,
    rows: u64,
    /// What PostgreSQL alone refuses, by SQLSTATE, and the first table that did.
    refused: HashMap<String, usize>,
    refusing_table: Option<String>,
    /// Whether the first table that refuses is asked the control question.
    guarded: bool,
    /// What it answered.
    control: Option<Control>,
    /// Tables that nobody alters until the transaction ends.
    kept: BTreeSet<TableIndex>,
}

/// Why rows were not stored.
pub(super) enum Failure {
    /// For what is in them: others may pass.
    Rows(Refusal),
    /// For something else.
    Store(StoreError),
}

/// What PostgreSQL, or the encoding, says of the rows.
pub(super) enum Refusal {
    Server(Box<DbError>),
    Unencodable { field: String, reason: String },
}

impl<'a> Store<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        batch: &'a [MessageRow],
        outcomes: &'a mut [Option<MessageOutcome>],
        metrics: &'a PostgresMetrics,
        guarded: bool,
    ) -> Self {
        Self {
            catalog,
            batch,
            outcomes,
            metrics,
            rows: 0,
            refused: HashMap::new(),
            refusing_table: None,
            guarded,
            control: None,
            kept: BTreeSet::new(),
        }
    }

    /// Returns how many messages PostgreSQL alone refuses, by SQLSTATE, and what the table that did
    /// answers to the control question.
    pub(super) fn refused(self) -> (HashMap<String, usize>, Control) {
        (self.refused, self.control.unwrap_or(Control::Unknown))
    }

    /// Returns how many rows were stored.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Stores what can be stored of these messages, given by their places in the batch; ends at once
    /// when a table is at fault, for then nothing of it counts.
    pub(super) async fn all(
        &mut self,
        transaction: &mut Transaction<'_>,
        messages: Vec<usize>,
    ) -> Result<(), StoreError> {
        let mut waiting = self.once(transaction, messages).await?;
        // What a message refers to may have come behind it.
        loop {
            let before = waiting.len();
            if before == 0 || self.rows == 0 || self.control == Some(Control::Refused) {
                return Ok(());
            }
            waiting = self.once(transaction, waiting).await?;
            if waiting.len() == before {
                return Ok(());
            }
        }
    }

    /// Goes over messages once, in halves where they are refused, and returns those that wait for
    /// what they refer to.
    async fn once(
        &mut self,
        transaction: &mut Transaction<'_>,
        messages: Vec<usize>,
    ) -> Result<Vec<usize>, StoreError> {
        let mut waiting = Vec::new();
        let mut groups = vec![messages];
        while let Some(mut group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let refusal = match self.attempt(transaction, &group).await {
                Ok(rows) => {
                    self.rows += rows;
                    for index in group {
                        self.outcomes[index] = Some(MessageOutcome::Stored);
                    }
                    continue;
                }
                Err(Failure::Rows(refusal)) => refusal,
                Err(Failure::Store(error)) => return Err(error),
            };
            if self.keep_tables(transaction, &group).await? {
                groups.push(group);
                continue;
            }
            let done = self.stored_before(transaction, &group, &refusal).await?;
            if !done.is_empty() {
                group.retain(|index| !done.contains(index));
                for index in done {
                    self.outcomes[index] = Some(MessageOutcome::AlreadyDone);
                }
                groups.push(group);
                continue;
            }
            if let [index] = group[..] {
                let outcome = outcome_of(transaction, &refusal).await?;
                if matches!(outcome, MessageOutcome::Retry { .. }) {
                    waiting.push(index);
                }
                self.note(&refusal, &outcome, &[index]);
                self.outcomes[index] = Some(outcome);
                if self.is_at_fault(transaction).await? {
                    return Ok(waiting);
                }
                continue;
            }
            let (found, outcome) = self.found_at_once(transaction, &group, &refusal).await?;
            if !found.is_empty() {
                group.retain(|index| !found.contains(index));
                if matches!(outcome, MessageOutcome::Retry { .. }) {
                    waiting.extend(&found);
                }
                self.note(
                    &refusal,
                    &outcome,
                    &found.iter().copied().collect::<Vec<_>>(),
                );
                for index in found {
                    self.outcomes[index] = Some(outcome.clone());
                }
                groups.push(group);
                continue;
            }
            self.metrics.split();
            let right = group.split_off(group.len() / 2);
            groups.push(right);
            groups.push(group);
        }
        Ok(waiting)
    }

    /// Asks the table that was the first to refuse, once, whether it takes what it took before. While
    /// rows are sought in it, everybody else who wants to alter it waits.
    async fn is_at_fault(&mut self, transaction: &mut Transaction<'_>) -> Result<bool, StoreError> {
        if let (true, None, Some(table)) = (self.guarded, self.control, &self.refusing_table) {
            self.control = Some(control(transaction, self.catalog, table).await?);
        }
        Ok(self.control == Some(Control::Refused))
    }

    /// Keeps the tables of messages as they are, and tells whether that is new for any of them.
    async fn keep_tables(
        &mut self,
        transaction: &Transaction<'_>,
        messages: &[usize],
    ) -> Result<bool, StoreError> {
        let rows = messages
            .iter()
            .flat_map(|index| rows_of(&self.batch[*index]));
        let tables: BTreeSet<_> = rows.map(|(_, row)| row.table).collect();
        let new: Vec<_> = tables.difference(&self.kept).copied().collect();
        if new.is_empty() {
            return Ok(false);
        }
        let named = |table: &TableIndex| quoted(&self.catalog.table(*table).name);
        let names: Vec<_> = new.iter().map(named).collect();
        keep_as_they_are(transaction, &names).await?;
        self.kept.extend(new);
        Ok(true)
    }

    /// Counts what is PostgreSQL's word alone.
    fn note(&mut self, refusal: &Refusal, outcome: &MessageOutcome, messages: &[usize]) {
        let by_store = matches!(
            outcome,
            MessageOutcome::Refused {
                by: RejectedBy::Store,
                ..
            }
        );
        if let (true, Refusal::Server(error)) = (by_store, refusal) {
            let code = error.code().code().to_owned();
            *self.refused.entry(code).or_default() += messages.len();
            // A value out of range names no table: that of the message's first row then.
            let named = error.table().map(str::to_owned);
            let first = messages.iter().find_map(|index| {
                let (_, row) = rows_of(&self.batch[*index]).next()?;
                Some(self.catalog.table(row.table).name.clone())
            });
            self.refusing_table = self.refusing_table.take().or(named).or(first);
        }
    }

    /// Looks for messages whose very rows are there: their claims were forgotten, and the ids of
    /// their rows, which are derived from the messages', tell.
    async fn stored_before(
        &self,
        transaction: &Transaction<'_>,
        messages: &[usize],
        refusal: &Refusal,
    ) -> Result<BTreeSet<usize>, StoreError> {
        let Some((error, table)) = self.refused_by(refusal) else {
            return Ok(BTreeSet::new());
        };
        if error.code() != &SqlState::UNIQUE_VIOLATION {
            return Ok(BTreeSet::new());
        }
        let mut owners = HashMap::new();
        for (index, id, _) in self.rows_in(table, messages) {
            owners.insert(id, index);
        }
        let ids: Vec<_> = owners.keys().collect();
        let (name, id) = (quoted(&table.name), quoted(&table.id_column));
        let sql = format!("SELECT {id} FROM {name} WHERE {id} = ANY($1)");
        let rows = transaction.query(&sql, &[&ids]).await?;
        let stored = rows.iter().map(|row| row.try_get::<_, Uuid>(0));
        let mut found = BTreeSet::new();
        for id in stored {
            found.extend(owners.get(&id?));
        }
        Ok(found)
    }

    /// Returns the table that refused rows.
    fn refused_by<'e>(&self, refusal: &'e Refusal) -> Option<(&'e DbError, &'a Table)> {
        let Refusal::Server(error) = refusal else {
            return None;
        };
        let named = |own: &&Table| Some(own.name.as_str()) == error.table();
        Some((error, self.catalog.tables().find(named)?))
    }

    /// Returns the rows of messages in a table, each with its message and its id.
    fn rows_in(&self, table: &Table, messages: &[usize]) -> Vec<(usize, Uuid, &'a Row)> {
        let mut found = Vec::new();
        for index in messages {
            let message = &self.batch[*index];
            for (position, row) in rows_of(message) {
                if self.catalog.table(row.table).name == table.name {
                    let id = row_id(message.message_id, &table.name, position);
                    found.push((*index, id, row));
                }
            }
        }
        found
    }

    /// Looks for all messages that the same constraint refuses for what is in the database.
    async fn found_at_once(
        &self,
        transaction: &mut Transaction<'_>,
        messages: &[usize],
        refusal: &Refusal,
    ) -> Result<(BTreeSet<usize>, MessageOutcome), StoreError> {
        let outcome = outcome_of(transaction, refusal).await?;
        let nothing = BTreeSet::new();
        let Some((error, table)) = self.refused_by(refusal) else {
            return Ok((nothing, outcome));
        };
        let mut rows = CopyRows::new();
        let mut owners = HashMap::new();
        for (index, id, row) in self.rows_in(table, messages) {
            owners.insert(id, index);
            if rows.push(id, row).is_err() {
                return Ok((nothing, outcome));
            }
        }
        let staged = Staged {
            id_column: &table.id_column,
            columns: copy::columns(table),
            rows: rows.finish(),
        };
        let ids = suspects(transaction, error, staged).await?;
        let found = ids.iter().filter_map(|id| owners.get(id).copied());
        Ok((found.collect(), outcome))
    }

    /// Stores all of these messages or nothing.
    async fn attempt(
        &self,
        transaction: &mut Transaction<'_>,
        messages: &[usize],
    ) -> Result<u64, Failure> {
        let tables = self.encode(messages).map_err(Failure::Rows)?;
        let savepoint = transaction.savepoint("rows").await?;
        let mut rows = 0;
        for (table, encoded) in tables {
            let statement = copy::statement(self.catalog.table(table));
            let statement = savepoint.prepare_cached(&statement).await?;
            match copy_in(&savepoint, &statement, encoded.finish()).await {
                Ok(copied) => rows += copied,
                Err(Failure::Rows(refusal)) => {
                    savepoint.rollback().await?;
                    return Err(Failure::Rows(refusal));
                }
                Err(failure) => return Err(failure),
            }
        }
        savepoint.commit().await?;
        Ok(rows)
    }

    /// Encodes rows by table, in the order in which the tables may be filled.
    fn encode(&self, messages: &[usize]) -> Result<BTreeMap<TableIndex, CopyRows>, Refusal> {
        let mut tables = BTreeMap::new();
        for message in messages.iter().map(|index| &self.batch[*index]) {
            for (position, row) in rows_of(message) {
                let table = self.catalog.table(row.table);
                let id = row_id(message.message_id, &table.name, position);
                let rows = tables.entry(row.table).or_insert_with(CopyRows::new);
                rows.push(id, row)
                    .map_err(|Unencodable { column, reason }| {
                        let field = table.columns[column].name.clone();
                        Refusal::Unencodable { field, reason }
                    })?;
            }
        }
        Ok(tables)
    }
}

/// Numbers the rows of a message; one that was not parsed has none.
fn rows_of(message: &MessageRow) -> impl Iterator<Item = (usize, &Row)> {
    let rows = message.parsed.as_ref().map(|parsed| &parsed.rows[..]);
    rows.unwrap_or_default().iter().enumerate()
}

pub(super) async fn copy_in(
    transaction: &Transaction<'_>,
    statement: &Statement,
    encoded: Bytes,
) -> Result<u64, Failure> {
    let sink = transaction.copy_in(statement).await?;
    let mut sink = std::pin::pin!(sink);
    // A row that is refused may end the COPY before everything is sent; `finish` tells.
    match sink.send(encoded).await {
        Ok(()) => Ok(sink.finish().await?),
        Err(error) => Err(error.into()),
    }
}

/// Says what became of a message that was refused alone.
async fn outcome_of(
    transaction: &Transaction<'_>,
    refusal: &Refusal,
) -> Result<MessageOutcome, StoreError> {
    let error = match refusal {
        Refusal::Unencodable { field, reason } => {
            return Ok(MessageOutcome::Refused {
                by: RejectedBy::Decoder,
                field: Some(field.clone()),
                reason: reason.clone(),
            });
        }
        Refusal::Server(error) => error,
    };
    let columns = match (error.column(), error.constraint()) {
        (Some(column), _) => vec![column.to_owned()],
        (None, Some(constraint)) => columns_of(transaction, error, constraint).await?,
        (None, None) => Vec::new(),
    };
    let field = (!columns.is_empty()).then(|| columns.join(", "));
    let named = field.as_deref().unwrap_or("it");
    if error.code() == &SqlState::FOREIGN_KEY_VIOLATION {
        let reason = format!("what {named} refers to is not there yet");
        return Ok(MessageOutcome::Retry { reason });
    }
    if error.code() == &SqlState::UNIQUE_VIOLATION {
        // Another message is the reason, not a table that somebody changed.
        let by = RejectedBy::Decoder;
        let reason = format!("another message has stored the same {named}");
        return Ok(MessageOutcome::Refused { by, field, reason });
    }
    let by = RejectedBy::Store;
    let reason = crate::error::shortened(error.message());
    Ok(MessageOutcome::Refused { by, field, reason })
}

/// Returns the columns of a constraint or unique index in the order of the table.
pub(super) async fn columns_of(
    transaction: &Transaction<'_>,
    error: &DbError,
    constraint: &str,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "SELECT a.attname FROM pg_class t \
         JOIN pg_namespace n ON n.oid = t.relnamespace \
         JOIN pg_attribute a ON a.attrelid = t.oid \
         WHERE n.nspname = $1 AND t.relname = $2 AND a.attnum > 0 AND (\
         EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = t.oid AND c.conname = $3 \
         AND a.attnum = ANY(c.conkey)) \
         OR EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE x.indrelid = t.oid AND i.relname = $3 AND a.attnum = ANY(x.indkey))) \
         ORDER BY a.attnum";
    let statement = transaction.prepare_cached(SQL).await?;
    let names = [error.schema(), error.table(), Some(constraint)].map(Option::unwrap_or_default);
    let [schema, table, constraint] = names;
    let rows = transaction
        .query(&statement, &[&schema, &table, &constraint])
        .await?;
    rows.iter()
        .map(|row| row.try_get(0).map_err(StoreError::from))
        .collect()
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) if is_about_rows(answer.code()) => {
                Self::Rows(Refusal::Server(Box::new(answer.clone())))
            }
            _ => Self::Store(error.into()),
        }
    }
}
