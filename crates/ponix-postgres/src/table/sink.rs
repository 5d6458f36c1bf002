//! A batch of records in one transaction: claims, rows, statuses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures::SinkExt as _;
use ponix_sink::{
    Attempt, BoxError, Control, Record, RejectedBy, RowOutcome, Sink, StoredRows, WriteError,
};
use time::OffsetDateTime;
use tokio_postgres::error::{DbError, SqlState};
use uuid::Uuid;

use super::columns::Table;
use super::line::{Line, shown, text};
use super::{TableConfig, TableError};
use crate::claims::claim;
use crate::error::{is_about_rows, shortened};
use crate::status::{self, StatusRow};
use crate::storable_time::storable_time;
use crate::write::{ask_again, keep_as_they_are};
use crate::{MessageOutcome, Postgres, Status, StoreError};

/// Writes records into one table. Clones share the pool.
///
/// A record is claimed by its identity and the table's name, in the transaction that stores its
/// row: one that was stored before is not stored again, by whichever worker.
#[derive(Debug, Clone)]
pub struct TableSink {
    postgres: Postgres,
    table: Arc<Table>,
}

impl TableSink {
    /// Makes or extends the table where its columns are declared, and reads what it has. The tables
    /// of [`Postgres::migrate`] must be there.
    ///
    /// # Errors
    /// See [`TableError`].
    ///
    /// # Cancel safety
    /// The table is made or extended as a whole, or not at all.
    pub async fn prepare(postgres: Postgres, config: TableConfig) -> Result<Self, TableError> {
        let table = Arc::new(Table::prepare(&postgres, config).await?);
        Ok(Self { postgres, table })
    }

    async fn write_once(
        &self,
        records: &[Record],
        attempt: Attempt<'_>,
    ) -> Result<Vec<MessageOutcome>, StoreError> {
        let postgres = &self.postgres;
        postgres
            .ensure_days(records.iter().map(received_at))
            .await?;
        let ids: Vec<_> = records
            .iter()
            .map(|record| self.table.config.claim_id(record.identity))
            .collect();
        // In the order of the ids: everybody claims in that order.
        let mut firsts: BTreeMap<Uuid, usize> = BTreeMap::new();
        for (index, id) in ids.iter().enumerate() {
            firsts.entry(*id).or_insert(index);
        }
        let wanted: Vec<_> = firsts
            .iter()
            .map(|(id, index)| (*id, received_at(&records[*index])))
            .collect();

        let mut client = postgres.client().await?;
        let mut transaction = client.transaction().await?;
        let claims = claim(&transaction, &wanted).await?;
        let mut batch = Batch::new(&self.table, records);
        for (id, index) in &firsts {
            let known = claims[id].known.as_ref();
            if known.is_some_and(|known| known.status == Status::Processed) {
                batch.outcomes[*index] = Some(MessageOutcome::AlreadyDone);
            } else {
                batch.take(*index);
            }
        }
        batch.store(&mut transaction).await?;
        let control = batch.control.unwrap_or(Control::Unknown);
        let outcomes = batch.outcomes;
        attempt
            .guard
            .admit(records.len(), batch.refused, attempt.around, control)?;
        let stored = firsts
            .iter()
            .filter(|(_, index)| outcomes[**index] == Some(MessageOutcome::Stored));
        let statuses: Vec<_> = stored
            .map(|(id, _)| self.status(*id, claims[id].received_at))
            .collect();
        status::write(&transaction, &statuses)
            .await
            .map_err(|error| postgres.day_or_conflict(error))?;
        transaction.commit().await?;
        client.give_back();
        let answer = |(index, id): (usize, &Uuid)| {
            let outcome = outcomes[firsts[id]].clone();
            match outcome.unwrap_or(MessageOutcome::Retry {
                reason: "not looked at".into(),
            }) {
                MessageOutcome::Stored if firsts[id] != index => MessageOutcome::AlreadyDone,
                outcome => outcome,
            }
        };
        Ok(ids.iter().enumerate().map(answer).collect())
    }

    fn status(&self, id: Uuid, received_at: OffsetDateTime) -> StatusRow<'_> {
        StatusRow {
            message_id: id,
            received_at,
            organization: None,
            status: Status::Processed,
            entity_type: Some(&self.table.config.table),
            source: None,
            retry_count: 0,
            error: None,
        }
    }
}

impl Sink for TableSink {
    type Row = Record;
    /// The records: which of them are written at all, their claims tell.
    type Encoded = Vec<Record>;

    async fn encode(&self, records: Vec<Record>) -> Result<Vec<Record>, WriteError> {
        Ok(records)
    }

    /// One transaction, which is there as a whole or not at all: nothing is stored on an error.
    async fn write(
        &self,
        rows: &Vec<Record>,
        attempt: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let metrics = self.postgres.metrics();
        let written = self
            .postgres
            .retry_on_conflict(|| self.write_once(rows, attempt))
            .await;
        match written {
            Ok(outcomes) => {
                let is_new = |outcome: &&MessageOutcome| **outcome == MessageOutcome::Stored;
                let stored = outcomes.iter().filter(is_new).count() as u64;
                metrics.committed(&outcomes, stored, begun.elapsed());
                Ok(outcomes.into_iter().map(RowOutcome::from).collect())
            }
            Err(error) => {
                metrics.failed(&error, begun.elapsed());
                Err(error.nothing_written(rows.len()))
            }
        }
    }

    async fn ping(&self) -> Result<(), BoxError> {
        Ok(self.postgres.ping().await?)
    }
}

fn received_at(record: &Record) -> OffsetDateTime {
    let at = OffsetDateTime::from_unix_timestamp_nanos(record.published_at_ns.into());
    storable_time(at.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// The records of a batch on their way into the table.
struct Batch<'a> {
    table: &'a Table,
    records: &'a [Record],
    /// Places of records and their lines, by the columns that they fill.
    lines: BTreeMap<Vec<bool>, Vec<(usize, Vec<u8>)>>,
    outcomes: Vec<Option<MessageOutcome>>,
    /// What PostgreSQL alone refuses, by SQLSTATE.
    refused: HashMap<String, usize>,
    /// What the table answered to the control question, once it has refused a record.
    control: Option<Control>,
    /// Nobody alters the table until the transaction ends.
    kept: bool,
}

/// Why lines were not taken.
enum Failure {
    /// For what is in them.
    Rows(Box<DbError>),
    /// For something else.
    Store(StoreError),
}

impl<'a> Batch<'a> {
    fn new(table: &'a Table, records: &'a [Record]) -> Self {
        Self {
            table,
            records,
            lines: BTreeMap::new(),
            outcomes: vec![None; records.len()],
            refused: HashMap::new(),
            control: None,
            kept: false,
        }
    }

    /// Encodes a record, to be stored.
    fn take(&mut self, index: usize) {
        match self.table.line(&self.records[index]) {
            Ok(Line { columns, bytes }) => {
                self.lines.entry(columns).or_default().push((index, bytes));
            }
            Err(reason) => self.outcomes[index] = Some(rejected(RejectedBy::Decoder, reason)),
        }
    }

    /// Stores what can be stored. PostgreSQL names the line that it refuses: what stands before it
    /// and behind it is sent again without it. Where it names none, halves are sent. Ends at once when
    /// the table is at fault, for then nothing of it counts.
    async fn store(&mut self, transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
        for (columns, lines) in std::mem::take(&mut self.lines) {
            let statement = self.table.statement(&columns);
            let mut parts = vec![&lines[..]];
            while let Some(part) = parts.pop() {
                if part.is_empty() {
                    continue;
                }
                let error = match copy(transaction, &statement, part).await {
                    Ok(()) => {
                        for (index, _) in part {
                            self.outcomes[*index] = Some(MessageOutcome::Stored);
                        }
                        continue;
                    }
                    Err(Failure::Rows(error)) => error,
                    Err(Failure::Store(error)) => return Err(error),
                };
                if !self.kept {
                    keep_as_they_are(transaction, std::slice::from_ref(&self.table.name)).await?;
                    self.kept = true;
                    parts.push(part);
                    continue;
                }
                let place = line_of(&error).or((part.len() == 1).then_some(0));
                let Some(place) = place.filter(|place| *place < part.len()) else {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                    continue;
                };
                let index = part[place].0;
                self.outcomes[index] = Some(self.refusal(transaction, index, &error).await?);
                if self.is_at_fault(transaction).await? {
                    return Ok(());
                }
                parts.push(&part[place + 1..]);
                parts.push(&part[..place]);
            }
        }
        Ok(())
    }

    /// Asks the table once, when it refuses records, whether it takes what it took before.
    async fn is_at_fault(&mut self, transaction: &mut Transaction<'_>) -> Result<bool, StoreError> {
        if !self.refused.is_empty() && self.control.is_none() {
            let columns = &self.table.columns;
            let column = columns.first().map(|column| column.name.as_str());
            let (table, column) = (&self.table.name, column.unwrap_or_default());
            self.control = Some(ask_again(transaction, table, column).await?);
        }
        Ok(self.control == Some(Control::Refused))
    }

    /// Says what becomes of a record that PostgreSQL refuses.
    async fn refusal(
        &mut self,
        transaction: &mut Transaction<'_>,
        index: usize,
        error: &DbError,
    ) -> Result<MessageOutcome, StoreError> {
        if *error.code() == SqlState::FOREIGN_KEY_VIOLATION {
            let reason = "what it refers to is not there yet".to_owned();
            return Ok(MessageOutcome::Retry { reason });
        }
        if *error.code() == SqlState::UNIQUE_VIOLATION {
            // Another event is the reason, not a table that somebody changed.
            let reason = format!(
                "another event has stored the same key ({})",
                error.constraint().unwrap_or("unique")
            );
            return Ok(rejected(RejectedBy::Decoder, reason));
        }
        // Only a value can be wrong for ever: does it read as the type that its column had?
        if error.code().code().starts_with("22")
            && let Some(reason) = self.misfit(transaction, index).await?
        {
            return Ok(rejected(RejectedBy::Decoder, reason));
        }
        *self
            .refused
            .entry(error.code().code().to_owned())
            .or_default() += 1;
        Ok(rejected(RejectedBy::Store, shortened(error.message())))
    }

    /// Returns which value of a record does not read as its column's type, and what PostgreSQL says.
    async fn misfit(
        &self,
        transaction: &mut Transaction<'_>,
        index: usize,
    ) -> Result<Option<String>, StoreError> {
        let fields = &self.records[index].fields;
        for column in &self.table.columns {
            let Some(value) = fields.get(&column.name) else {
                continue;
            };
            let Ok(Some(text)) = text(column, value) else {
                continue;
            };
            let sql = format!("SELECT $1::text::{}", column.sql_type);
            let savepoint = transaction.savepoint("value").await?;
            let read = savepoint.query_opt(&sql, &[&text]).await;
            savepoint.rollback().await?;
            match read.as_ref().map_err(tokio_postgres::Error::as_db_error) {
                Err(Some(answer)) if is_about_rows(answer.code()) => {
                    let (name, kind) = (&column.name, &column.sql_type);
                    let value = shown(value);
                    let why = shortened(answer.message());
                    return Ok(Some(format!("{name}: {value} does not fit {kind}: {why}")));
                }
                // A type of its own that has no cast is not ours to judge.
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Copies all of these lines or none.
async fn copy(
    transaction: &mut Transaction<'_>,
    statement: &str,
    lines: &[(usize, Vec<u8>)],
) -> Result<(), Failure> {
    let bytes: Vec<u8> = lines
        .iter()
        .flat_map(|(_, line)| line.iter().copied())
        .collect();
    let savepoint = transaction.savepoint("lines").await?;
    let copied = async {
        let sink = savepoint.copy_in(statement).await?;
        let mut sink = std::pin::pin!(sink);
        // A line that is refused may end the COPY before everything is sent; `finish` tells.
        sink.send(Bytes::from(bytes)).await?;
        sink.finish().await
    };
    match copied.await {
        Ok(_) => Ok(savepoint.commit().await?),
        Err(error) => {
            let failure = Failure::from(error);
            if matches!(failure, Failure::Rows(_)) {
                savepoint.rollback().await?;
            }
            Err(failure)
        }
    }
}

/// Returns the place of the line that an error is about, from 0.
///
/// # Source
/// `COPY table, line 3, column value: "x"` in the context of errors, `CopyFromErrorCallback` of
/// PostgreSQL. Other languages have other words; the number is the first behind a comma.
fn line_of(error: &DbError) -> Option<usize> {
    let context = error
        .where_()?
        .lines()
        .find(|line| line.starts_with("COPY "))?;
    let (_, rest) = context.split_once(", ")?;
    let digits: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse::<usize>().ok()?.checked_sub(1)
}

fn rejected(by: RejectedBy, reason: String) -> MessageOutcome {
    MessageOutcome::Refused {
        by,
        field: None,
        reason,
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) if is_about_rows(answer.code()) => Self::Rows(Box::new(answer.clone())),
            _ => Self::Store(error.into()),
        }
    }
}

impl StoreError {
    /// What a sink answers when its transaction is not there.
    pub(crate) fn nothing_written(self, rows: usize) -> WriteError {
        let stored = StoredRows::none(rows);
        match self {
            Self::RefusedAlike(source) => WriteError::RefusedAlike { stored, source },
            error => WriteError::Unusable {
                stored,
                class: error.kind().into(),
                source: error.into(),
            },
        }
    }
}
