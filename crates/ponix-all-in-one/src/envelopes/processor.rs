//! The processor: delivered messages → rows → one INSERT → a verdict for each message.

use ponix_clickhouse::{
    Client, EncodedBatch, EnvelopeRow, EnvelopeWriter, RejectLimit, RejectedRow, StoredRows,
    WriteError, WriteOutcome,
};
use ponix_nats::{
    Batch, BatchProcessor, DeadLetter, DeadLetterReason, Delivery, ProcessError, ProcessingResult,
    decode_delivery,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::surroundings::{Stretch, Surroundings};
use super::trial;

/// From this delivery on, a message may be what ended the workers that had it before.
const SUSPECT_FROM_DELIVERY: u32 = 3;

/// Stores batches of envelopes in ClickHouse.
#[derive(Debug)]
pub(crate) struct EnvelopeProcessor {
    writer: EnvelopeWriter,
    limit: RejectLimit,
    surroundings: Surroundings,
}

/// What a batch decodes to.
#[derive(Debug, Default)]
struct Decoded {
    rows: Vec<EnvelopeRow>,
    /// Where the message of each row stands in the batch.
    positions: Vec<usize>,
    /// Positions of the messages that cannot be decoded.
    dead: Vec<(usize, DeadLetter)>,
}

impl EnvelopeProcessor {
    pub(crate) fn new(writer: EnvelopeWriter, client: Client, limit: RejectLimit) -> Self {
        Self {
            writer,
            limit,
            surroundings: Surroundings::new(client),
        }
    }

    /// Writes rows. When too many of them are refused alike and none is stored, they are judged
    /// together with what lies around them in the stream, and written once more.
    async fn write(
        &self,
        encoded: &[EncodedBatch],
        stretch: Option<&Stretch>,
        give_up: &CancellationToken,
    ) -> Result<WriteOutcome, WriteError> {
        let written = self
            .writer
            .write_encoded(encoded, self.limit, give_up)
            .await;
        let (Err(WriteError::RefusedAlike { stored, .. }), Some(stretch)) = (&written, stretch)
        else {
            return written;
        };
        // What is stored would be stored once more; the consumer comes back with the rest alone.
        if stored.count() > 0 {
            return written;
        }
        match self.surroundings.limit(stretch, self.limit).await {
            Ok(limit) => self.writer.write_encoded(encoded, limit, give_up).await,
            // Nothing is condemned on a guess.
            Err(_) => written,
        }
    }
}

impl BatchProcessor for EnvelopeProcessor {
    async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let Decoded {
            rows,
            positions,
            dead,
        } = decode(batch).await;
        let event_ids: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
        let stretch = Stretch::around(&rows);
        let encoded = self.writer.encode(&rows);
        // The encoded batches are all that is needed from here on, however long it takes.
        drop(rows);
        let outcome = self
            .write(&encoded, stretch.as_ref(), give_up)
            .await
            .map_err(|err| process_error(err, &positions))?;
        if let Some(stretch) = &stretch {
            let condemned = outcome.rejected().iter();
            self.surroundings
                .note(condemned.map(|row| stretch.sequence(row.index)));
        }
        let mut result = ProcessingResult::ack_all(batch.len());
        for (position, dead_letter) in dead {
            result = result.with_dead_letter(position, dead_letter);
        }
        for row in outcome.into_rejected() {
            let event_id = event_ids[row.index];
            result = result.with_dead_letter(positions[row.index], rejected(&row, event_id));
        }
        Ok(result)
    }
}

async fn decode(batch: &Batch) -> Decoded {
    let mut decoded = Decoded {
        dead: ending_the_process(batch).await,
        ..Decoded::default()
    };
    let condemned: Vec<usize> = decoded.dead.iter().map(|(position, _)| *position).collect();
    for (position, delivery) in batch.messages().iter().enumerate() {
        if condemned.contains(&position) {
            continue;
        }
        abort_if_planted(delivery.payload());
        match decode_delivery(delivery) {
            Ok((envelope, event_id)) => {
                decoded.positions.push(position);
                decoded.rows.push(EnvelopeRow {
                    envelope,
                    event_id,
                    published_at_ns: delivery.published_at_ns(),
                    stream_sequence: delivery.stream_sequence(),
                });
            }
            Err(dead_letter) => decoded.dead.push((position, dead_letter)),
        }
    }
    decoded
}

/// Tries the messages that have been delivered before without being settled.
async fn ending_the_process(batch: &Batch) -> Vec<(usize, DeadLetter)> {
    let is_suspect = |delivery: &Delivery| delivery.deliveries() >= SUSPECT_FROM_DELIVERY;
    let (positions, suspects): (Vec<_>, Vec<_>) = batch
        .messages()
        .iter()
        .enumerate()
        .filter(|(_, delivery)| is_suspect(delivery))
        .unzip();
    if suspects.is_empty() {
        return Vec::new();
    }
    let verdicts = trial::try_suspects(&suspects).await;
    positions
        .into_iter()
        .zip(verdicts)
        .filter_map(|(position, dead)| Some((position, dead?)))
        .collect()
}

/// Where tests plant a payload that ends the process: one that holds the failpoint's argument.
pub(crate) fn abort_if_planted(payload: &[u8]) {
    fail::fail_point!("abort_on_payload", |marker| {
        let marker = marker.unwrap_or_default();
        if payload
            .windows(marker.len().max(1))
            .any(|window| window == marker.as_bytes())
        {
            std::process::abort();
        }
    });
    let _ = payload;
}

fn rejected(row: &RejectedRow, event_id: Uuid) -> DeadLetter {
    DeadLetter {
        reason: DeadLetterReason::RejectedByStore,
        error: format!("Code: {}. {}", row.code, row.message),
        event_id: Some(event_id),
    }
}

/// Nothing is dead-lettered for what may be the store's fault.
fn process_error(err: WriteError, positions: &[usize]) -> ProcessError {
    let stored = stored_positions(err.stored(), positions);
    match err {
        WriteError::GaveUp { .. } => ProcessError::GaveUp { stored },
        err => ProcessError::StoreUnusable {
            stored,
            source: err.into(),
        },
    }
}

fn stored_positions(stored: &StoredRows, positions: &[usize]) -> Vec<usize> {
    positions
        .iter()
        .enumerate()
        .filter(|(row, _)| stored.contains(*row))
        .map(|(_, position)| *position)
        .collect()
}
