//! Stores rows, whatever it takes.

mod outcome;
mod retry;
mod search;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use outcome::{RejectLimit, StoredRows, WriteError, WriteOutcome};
pub use search::RejectedRow;

use self::retry::{LogGate, Retries};
use self::search::{Refused, Search};
use crate::classify::Verdict;
use crate::encode::{self, BatchLimits, COLUMNS, EncodedBatch, EnvelopeRow};
use crate::error::{ErrorKind, InsertError, RequestError};
use crate::{ClickHouseMetrics, Client, RetryReason};

/// What every INSERT is sent with.
const SETTINGS: [(&str, &str); 6] = [
    // 26.x collects small INSERTs by default and answers before they are on disk.
    ("async_insert", "0"),
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
];

/// Writes rows into `processed_envelopes`. Clones share the connections, the metrics and the limit
/// on what is logged.
#[derive(Debug, Clone)]
pub struct EnvelopeWriter {
    client: Client,
    sql: String,
    limits: BatchLimits,
    metrics: ClickHouseMetrics,
    log_gate: LogGate,
}

impl EnvelopeWriter {
    /// Makes a writer; limits, timeouts and backoff are those of the client's configuration.
    pub fn new(client: &Client, metrics: ClickHouseMetrics) -> Self {
        Self {
            client: client.clone(),
            sql: format!("INSERT INTO processed_envelopes ({COLUMNS}) FORMAT RowBinary"),
            limits: client.config().into(),
            metrics,
            log_gate: LogGate::default(),
        }
    }

    /// Encodes rows into as few INSERTs as the limits of rows, bytes and months allow.
    ///
    /// Pure, and work for the processor: about 300 bytes are copied per row. The batches know the
    /// rows by their position in the slice.
    pub fn encode(&self, rows: &[EnvelopeRow]) -> Vec<EncodedBatch> {
        encode::encode(rows, self.limits)
    }

    /// Sends one INSERT, once. Success means that ClickHouse says that all rows are written: they
    /// are on disk as far as the server's settings go.
    ///
    /// # Errors
    /// [`InsertError`]. With [`ErrorKind::Rejected`] and [`ErrorKind::Fatal`] nothing of the batch
    /// is stored if it holds one month; of several months some may be. After a timeout or a lost
    /// connection the batch may or may not be stored. Sending it again is right in every case.
    ///
    /// A materialized view that somebody attached to the table and that fails makes ClickHouse
    /// refuse the INSERT although it stores the rows: that is [`ErrorKind::Fatal`].
    ///
    /// # Cancel safety
    /// Dropping the future breaks the INSERT off if it was not sent whole; if it was, it may be
    /// stored later. Send the same rows again in either case.
    pub async fn insert(&self, batch: &EncodedBatch) -> Result<(), InsertError> {
        fail::fail_point!("before_insert", |_| std::process::abort());
        let _in_progress = self.metrics.insert_begins();
        let begin = Instant::now();
        let len = batch.bytes().len();
        let result = self.send(batch).await;
        match &result {
            Ok(()) => self
                .metrics
                .insert_stored(batch.rows(), len, begin.elapsed()),
            Err(error) => self
                .metrics
                .insert_ended(error.kind().into(), begin.elapsed()),
        }
        result
    }

    /// Writes rows until each one is stored or condemned: [`EnvelopeWriter::encode`] and
    /// [`EnvelopeWriter::write_encoded`].
    ///
    /// # Errors
    /// See [`EnvelopeWriter::write_encoded`].
    ///
    /// # Cancel safety
    /// See [`EnvelopeWriter::write_encoded`].
    pub async fn write(
        &self,
        rows: &[EnvelopeRow],
        limit: RejectLimit,
        give_up: &CancellationToken,
    ) -> Result<WriteOutcome, WriteError> {
        self.write_encoded(&self.encode(rows), limit, give_up).await
    }

    /// Writes the batches of one slice of rows until each row is stored or condemned.
    ///
    /// Transient failures are retried without end, with a growing, jittered pause; a lack of
    /// memory on the server halves the INSERT. An INSERT that is refused for its data is bisected
    /// down to the bad rows, at most 2·⌈log₂ n⌉ more INSERTs for each of them.
    ///
    /// # Errors
    /// [`WriteError`], which says which rows are stored all the same:
    /// [`WriteError::GaveUp`] when `give_up` fires, looked at between two INSERTs only;
    /// [`WriteError::Fatal`] at once; [`WriteError::RefusedAlike`] when more rows than `limit`
    /// allows are refused with one code.
    ///
    /// # Cancel safety
    /// Not safe to drop if the caller needs to know what is stored; fire `give_up` instead. After
    /// a drop, write all rows again: the table absorbs the copies.
    pub async fn write_encoded(
        &self,
        batches: &[EncodedBatch],
        limit: RejectLimit,
        give_up: &CancellationToken,
    ) -> Result<WriteOutcome, WriteError> {
        let rows = batches.iter().map(EncodedBatch::rows).sum();
        let mut state = Progress {
            stored: StoredRows::none(rows),
            rejected: Vec::new(),
            refused: Refused::new(),
            allowed: limit.allowed(rows),
            retries: Retries::new(self.client.config(), self.log_gate.clone()),
            give_up,
            sent: false,
        };
        for batch in batches {
            if let Err(stop) = self.write_batch(batch, &mut state).await {
                return Err(stop.into_error(state.stored));
            }
        }
        state.rejected.sort_by_key(|row| row.index);
        self.metrics.rows_rejected(state.rejected.len());
        if !state.rejected.is_empty() {
            let codes = &state.refused;
            tracing::warn!(
                rows,
                rejected = state.rejected.len(),
                ?codes,
                "rows refused"
            );
        }
        Ok(WriteOutcome {
            rows,
            rejected: state.rejected,
        })
    }

    async fn write_batch(
        &self,
        batch: &EncodedBatch,
        state: &mut Progress<'_>,
    ) -> Result<(), Stop> {
        let mut search = Search::new(batch.rows(), state.allowed);
        loop {
            let next = search
                .next(&state.refused, &mut rand::rng())
                .map_err(Stop::Alike)?;
            let Some(range) = next else { return Ok(()) };
            let part = batch.part(range.clone());
            match self.insert_retrying(&part, state).await? {
                Sent::Stored => {
                    search.stored();
                    state.stored.extend(part.indexes());
                }
                Sent::TooLarge => {
                    search.halve();
                    self.metrics.retry(RetryReason::Halved);
                }
                Sent::Refused { code, message } => {
                    if part.rows() > 1 {
                        self.metrics.retry(RetryReason::Bisected);
                    }
                    if let Some(row) = search.refused(code) {
                        *state.refused.entry(code).or_default() += 1;
                        let index = batch.indexes()[row];
                        state.rejected.push(RejectedRow {
                            index,
                            code,
                            message,
                        });
                    }
                }
            }
        }
    }

    /// Sends until it is stored, or refused for a reason that waiting does not mend.
    async fn insert_retrying(
        &self,
        part: &EncodedBatch,
        state: &mut Progress<'_>,
    ) -> Result<Sent, Stop> {
        let mut confirmed = false;
        loop {
            if state.sent && state.give_up.is_cancelled() {
                return Err(Stop::GaveUp(state.retries.last()));
            }
            state.sent = true;
            let Err(error) = self.insert(part).await else {
                state.retries.succeeded();
                return Ok(Sent::Stored);
            };
            match error.kind() {
                ErrorKind::Fatal => return Err(Stop::Fatal(error)),
                ErrorKind::Transient => {
                    let too_large = error.is_too_large() && part.rows() > 1;
                    if !too_large {
                        self.metrics.retry(RetryReason::Transient);
                    }
                    state.retries.pause(error, state.give_up).await;
                    if too_large {
                        return Ok(Sent::TooLarge);
                    }
                }
                ErrorKind::Rejected => {
                    let lone = part.rows() == 1;
                    if lone && !confirmed && error.verdict() == Some(Verdict::Unlisted) {
                        confirmed = true;
                        self.metrics.retry(RetryReason::Confirmed);
                        state.retries.pause(error, state.give_up).await;
                        continue;
                    }
                    return Ok(Sent::refused(error));
                }
            }
        }
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<(), InsertError> {
        self.client
            .insert(&self.sql, &SETTINGS, batch.bytes(), batch.rows())
            .await
    }
}

/// How far a write has come.
struct Progress<'a> {
    stored: StoredRows,
    rejected: Vec<RejectedRow>,
    refused: Refused,
    allowed: usize,
    retries: Retries,
    give_up: &'a CancellationToken,
    /// Whether the first INSERT went out, which happens even if `give_up` has fired.
    sent: bool,
}

enum Sent {
    Stored,
    TooLarge,
    Refused { code: u32, message: String },
}

impl Sent {
    fn refused(error: InsertError) -> Self {
        match error {
            RequestError::Server { code, message } => Self::Refused { code, message },
            other => Self::Refused {
                code: 0,
                message: other.to_string(),
            },
        }
    }
}

enum Stop {
    GaveUp(Option<InsertError>),
    Fatal(InsertError),
    Alike(search::Alike),
}

impl Stop {
    fn into_error(self, stored: StoredRows) -> WriteError {
        match self {
            Self::GaveUp(source) => WriteError::GaveUp { stored, source },
            Self::Fatal(source) => WriteError::Fatal { stored, source },
            Self::Alike(alike) => WriteError::RefusedAlike {
                stored,
                code: alike.code,
                refused: alike.rows,
            },
        }
    }
}
