//! The sink of the envelopes: table `processed_envelopes`.

use std::ops::RangeInclusive;

use ponix_sink::{Attempt, BoxError, RowOutcome, Sink, WriteError};

use crate::encode::{self, BatchLimits, COLUMNS, EncodedBatch, EnvelopeRow};
use crate::error::InsertError;
use crate::insert::Inserter;
use crate::write::write;
use crate::{ClickHouseMetrics, Client};

/// Writes envelopes. Clones share the connections, the metrics and the control row.
#[derive(Debug, Clone)]
pub struct EnvelopeSink {
    inserter: Inserter,
    limits: BatchLimits,
    paths_max: usize,
}

impl EnvelopeSink {
    /// Makes a sink; limits and timeouts are those of the client's configuration.
    pub fn new(client: &Client, metrics: ClickHouseMetrics) -> Self {
        Self {
            inserter: Inserter::new(client, "processed_envelopes", COLUMNS, "RowBinary", metrics),
            limits: client.config().into(),
            paths_max: client.config().insert_paths_max,
        }
    }

    /// Sends one INSERT, once. Success means that ClickHouse says that all rows are written: they
    /// are on disk as far as the server's settings go.
    ///
    /// # Errors
    /// [`InsertError`]. A materialized view that somebody attached to the table and that fails is
    /// [`ErrorKind::Fatal`](crate::ErrorKind), although the rows are stored. After a timeout or a lost connection the batch may or may not be stored.
    /// Sending it again is right in every case.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the INSERT off if it was not sent whole; if it was, it may be
    /// stored later. Send the same rows again in either case.
    pub async fn insert(&self, batch: &EncodedBatch) -> Result<(), InsertError> {
        self.inserter.insert(batch).await
    }
}

impl Sink for EnvelopeSink {
    type Row = EnvelopeRow;
    type Encoded = Vec<EncodedBatch>;

    /// As few INSERTs as the limits of rows, bytes and months allow, as columns where that does. Work
    /// for the processor alone. The batches know the rows by their position.
    async fn encode(&self, rows: Vec<EnvelopeRow>) -> Result<Vec<EncodedBatch>, WriteError> {
        let paths_max = match self.inserter.client().takes_blocks() {
            true => self.paths_max,
            false => 0,
        };
        Ok(encode::encode_columns(rows, self.limits, paths_max))
    }

    async fn write(
        &self,
        batches: &Vec<EncodedBatch>,
        attempt: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        write(&self.inserter, batches, attempt).await
    }

    async fn ping(&self) -> Result<(), BoxError> {
        Ok(self.inserter.client().ping().await?)
    }

    async fn stored_between(
        &self,
        sequences: RangeInclusive<u64>,
        published_at_ns: RangeInclusive<i64>,
    ) -> Result<Option<u64>, BoxError> {
        let client = self.inserter.client();
        let stored = client.stored_between(sequences, published_at_ns).await?;
        Ok(Some(stored))
    }
}
