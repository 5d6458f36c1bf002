//! The sink of the envelopes: table `processed_envelopes`.

use std::ops::RangeInclusive;
use std::time::Duration;

use ponix_sink::{Attempt, BoxError, RowOutcome, Sink, WriteError};

use crate::encode::{self, BatchLimits, COLUMNS, EncodedBatch, EnvelopeRow};
use crate::error::{InsertError, RequestError};
use crate::insert::Inserter;
use crate::write::write;
use crate::{ClickHouseMetrics, Client, block};

const TYPE_OF_DATA: &str = "SELECT type FROM system.columns WHERE database = currentDatabase() \
                            AND table = 'processed_envelopes' AND name = 'data'";

/// How long the question for it may take: rows wait for the answer, and go as text without one.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Tells whether a block makes the same rows as text. Where somebody gave paths of `data` a type
    /// of their own, it may not: a block's numbers are converted, a text's are read.
    async fn takes_blocks(&self) -> bool {
        if let Some(known) = self.inserter.blocks().known() {
            return known;
        }
        let client = self.inserter.client();
        let ask = async {
            let is_new = client.takes_blocks().await;
            let types = client.fetch_all::<String>(TYPE_OF_DATA).await?;
            Ok::<_, RequestError>(is_new && types == ["JSON"])
        };
        // Who does not answer now is asked again.
        let Ok(Ok(takes)) = tokio::time::timeout(ASK_TIMEOUT, ask).await else {
            return false;
        };
        self.inserter.blocks().note(takes);
        takes
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
        let few = rows.len() < block::ROWS_MIN || self.paths_max == 0;
        let paths_max = if !few && self.takes_blocks().await {
            self.paths_max
        } else {
            0
        };
        Ok(encode::encode_columns(rows, self.limits, paths_max))
    }

    async fn write(
        &self,
        batches: &Vec<EncodedBatch>,
        attempt: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let written = write(&self.inserter, batches, attempt).await;
        let has_block = batches.iter().any(|batch| batch.block().is_some());
        if has_block && matches!(written, Err(WriteError::Unusable { .. })) {
            // Should a block be what the server cannot bear, text gets through.
            self.inserter.blocks().note(false);
        }
        written
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
