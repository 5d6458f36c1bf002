//! Sends one INSERT, once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ponix_sink::Control;
use tokio::time::Instant;

use crate::client::within;
use crate::encode::EncodedBatch;
use crate::error::{ErrorKind, InsertError};
use crate::{ClickHouseMetrics, Client};

/// What every INSERT is sent with.
const SETTINGS: [(&str, &str); 8] = [
    // 26.x collects small INSERTs by default and answers before they are on disk.
    ("async_insert", "0"),
    // A `Distributed` table answers when its shards have the rows, and keeps none for later.
    ("distributed_foreground_insert", "1"),
    // Copies of an event within one INSERT are rare, and looking for them costs every row a sixth
    // of its INSERT. Merges and FINAL drop them like all others.
    ("optimize_on_insert", "0"),
    ("input_format_binary_read_json_as_string", "1"),
    // `{"a.b":1,"a":{"b":2}}` is stored whole instead of being refused.
    ("json_type_escape_dots_in_keys", "1"),
    // A text that looks like a time stays the text it is: "2026-01-01T00:00:00Z" would come back
    // as "2026-01-01 00:00:00", and one path would hold values of two types.
    ("input_format_try_infer_dates", "0"),
    ("input_format_try_infer_datetimes", "0"),
    // And one that looks like a number.
    ("input_format_json_try_infer_numbers_from_strings", "0"),
];

/// The largest row that is kept to be tried again.
const CONTROL_ROW_BYTES_MAX: usize = 64 << 10;

/// Inserts encoded rows into some columns of one table. Clones share the connections, the metrics
/// and the control row.
#[derive(Debug, Clone)]
pub(crate) struct Inserter {
    client: Client,
    table: Arc<str>,
    columns: Arc<str>,
    sql: Arc<str>,
    /// The same for a block of columns.
    block_sql: Arc<str>,
    /// What stands in front of the rows.
    head: Bytes,
    metrics: ClickHouseMetrics,
    control_row: Arc<Mutex<Option<Bytes>>>,
    blocks: Blocks,
}

/// Whether blocks of columns may be sent, as far as that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(Arc<Mutex<Option<(bool, Instant)>>>);

/// How long it is taken for known.
const BLOCKS_KNOWN_FOR: Duration = Duration::from_mins(1);

impl Blocks {
    pub(crate) fn known(&self) -> Option<bool> {
        let (may_be_sent, at) = (*self.state())?;
        (at.elapsed() < BLOCKS_KNOWN_FOR).then_some(may_be_sent)
    }

    pub(crate) fn note(&self, may_be_sent: bool) {
        *self.state() = Some((may_be_sent, Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, Option<(bool, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inserter {
    /// Makes one for a table and its columns, both as they stand in SQL; rows are in `format`.
    pub(crate) fn new(
        client: &Client,
        table: &str,
        columns: &str,
        format: &str,
        metrics: ClickHouseMetrics,
    ) -> Self {
        Self {
            client: client.clone(),
            table: table.into(),
            columns: columns.into(),
            sql: format!("INSERT INTO {table} ({columns}) FORMAT {format}").into(),
            block_sql: format!("INSERT INTO {table} ({columns}) FORMAT Native").into(),
            head: Bytes::new(),
            metrics,
            control_row: Arc::default(),
            blocks: Blocks::default(),
        }
    }

    /// Puts bytes in front of the rows of each INSERT, for formats that begin with some.
    pub(crate) fn with_head(self, head: Bytes) -> Self {
        Self { head, ..self }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    pub(crate) fn metrics(&self) -> &ClickHouseMetrics {
        &self.metrics
    }

    /// Sends one INSERT, once. Success means that ClickHouse says that all rows are written: they
    /// are on disk as far as the server's settings go.
    ///
    /// # Errors
    /// [`InsertError`]. With [`ErrorKind::Rejected`] and [`ErrorKind::Fatal`] nothing of the batch
    /// is stored if it touches one partition; of several some may be. After a timeout or a lost
    /// connection the batch may or may not be stored. Sending it again is right in every case.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the INSERT off if it was not sent whole; if it was, it may be
    /// stored later. Send the same rows again in either case.
    pub(crate) async fn insert(&self, batch: &EncodedBatch) -> Result<(), InsertError> {
        fail::fail_point!("before_insert", |_| std::process::abort());
        let _in_progress = self.metrics.insert_begins();
        let begin = Instant::now();
        let (len, result) = if let Some(block) = batch.block() {
            (block.len(), self.send_block(block, batch.rows()).await)
        } else {
            let bytes = batch.bytes();
            (bytes.len(), self.send(bytes, batch.rows()).await)
        };
        match &result {
            Ok(()) => {
                self.metrics
                    .insert_stored(batch.rows(), len, begin.elapsed());
                self.keep_control_row(batch);
            }
            Err(error) => self
                .metrics
                .insert_ended(error.kind().into(), begin.elapsed()),
        }
        result
    }

    /// Asks whether a row like those stored before is still stored: the last one that was, else any
    /// that the table holds. The table absorbs the copy.
    ///
    /// # Errors
    /// The server could not be asked.
    ///
    /// # Cancel safety
    /// As [`Inserter::insert`].
    pub(crate) async fn control(&self) -> Result<Control, InsertError> {
        let row = self.control_row().clone();
        let asked = match row {
            Some(row) => self.send(row, 1).await.map(|()| Control::Stored),
            None => self.insert_any_again().await,
        };
        match asked {
            Err(error) if error.kind() == ErrorKind::Rejected => Ok(Control::Refused),
            other => other,
        }
    }

    async fn insert_any_again(&self) -> Result<Control, InsertError> {
        let Self { table, columns, .. } = self;
        let some = format!("SELECT count() FROM (SELECT 1 FROM {table} LIMIT 1)");
        if self.client.fetch_all::<u64>(&some).await?.first() != Some(&1) {
            return Ok(Control::Unknown);
        }
        let sql = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT 1");
        let timeout = self.client.config().response_timeout;
        // A copy that is dropped as one would say nothing.
        let once_more = self.client.once_more().await?;
        let settings = SETTINGS.into_iter().chain(once_more);
        let insert = settings.fold(self.client.raw(), |client, (name, value)| {
            client.with_setting(name, value)
        });
        within(timeout, insert.query_raw(&sql).execute()).await?;
        Ok(Control::Stored)
    }

    fn keep_control_row(&self, batch: &EncodedBatch) {
        let row = batch.last_row();
        if row.len() <= CONTROL_ROW_BYTES_MAX {
            // A copy: the slice would keep the whole batch in memory.
            *self.control_row() = Some(Bytes::copy_from_slice(&row));
        }
    }

    fn control_row(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.control_row
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_block(&self, block: &Bytes, rows: usize) -> Result<(), InsertError> {
        self.client
            .insert(
                &self.block_sql,
                &SETTINGS,
                Bytes::new(),
                block.clone(),
                rows,
            )
            .await
    }

    async fn send(&self, rows: Bytes, count: usize) -> Result<(), InsertError> {
        let head = self.head.clone();
        self.client
            .insert(&self.sql, &SETTINGS, head, rows, count)
            .await
    }
}
