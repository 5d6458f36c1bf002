//! The way of a batch: decode → write → a disposition for each message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ponix_nats::{
    Batch, BatchProcessor, BatchSettings, DeadLetter, Delivery, Disposition, ProcessError,
    ProcessingResult,
};
use ponix_sink::{
    Around, Attempt, Control, ErrorClass, RejectGuard, RejectedBy, Rejection, RowOutcome, Sink,
    WriteError,
};
use ponix_wire::DeadLetterReason;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::crash_isolation::CrashIsolation;
use crate::decode::{Decode, Decoded};
use crate::stream_window::{StreamWindow, Stretch};

/// Processes the batches of one pipeline.
#[derive(Debug)]
pub struct PipelineProcessor<D, S> {
    decoder: D,
    sink: S,
    isolation: CrashIsolation,
    guard: RejectGuard,
    window: StreamWindow,
    nak_delay: Duration,
    deliveries_max: u32,
    dropped: AtomicU64,
}

/// The rows of a batch, and what is settled already.
struct Decoding<R> {
    rows: Vec<R>,
    identities: Vec<Uuid>,
    /// Where the message of each row stands in the batch.
    positions: Vec<usize>,
    dispositions: Vec<Disposition>,
}

impl<D: Decode, S: Sink<Row = D::Row>> PipelineProcessor<D, S> {
    /// Puts a pipeline together.
    pub fn new(decoder: D, sink: S, isolation: CrashIsolation, settings: &BatchSettings) -> Self {
        Self {
            decoder,
            sink,
            isolation,
            guard: RejectGuard::default(),
            window: StreamWindow::default(),
            nak_delay: settings.nak_delay,
            deliveries_max: settings.deliveries_max,
            dropped: AtomicU64::new(0),
        }
    }

    async fn decode(&self, batch: &Batch) -> Decoding<D::Row> {
        let poison = self.isolation.find_poison(batch).await;
        let mut rows = Decoding::with_capacity(batch.len());
        for (position, (delivery, poison)) in batch.messages().iter().zip(poison).enumerate() {
            let disposition = match poison {
                Some(dead_letter) => Disposition::DeadLetter(dead_letter),
                None => match self.decoder.decode(&delivery.into()) {
                    Ok(Decoded::Row { row, identity }) => {
                        rows.push(row, identity, position);
                        Disposition::Ack
                    }
                    Ok(Decoded::Dropped) => {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                        Disposition::Ack
                    }
                    Err(err) => dead_letter(err.reason, err.text, None),
                },
            };
            rows.dispositions.push(disposition);
        }
        rows
    }

    /// Writes rows. When too many of them are refused alike and none is stored, they are judged
    /// together with what lies around them in the stream, and written once more.
    async fn write(
        &self,
        rows: &[S::Row],
        stretch: Option<&Stretch>,
        give_up: &CancellationToken,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let attempt = Attempt {
            guard: &self.guard,
            around: Around::default(),
            give_up,
        };
        let written = self.sink.write(rows, attempt).await;
        let (Err(WriteError::RefusedAlike { stored, source }), Some(stretch)) = (&written, stretch)
        else {
            return written;
        };
        // What is stored would be stored once more; the consumer comes back with the rest alone.
        if stored.count() > 0 || source.control == Control::Refused {
            return written;
        }
        match self.window.around(&self.sink, stretch).await {
            Some(around) => {
                let attempt = Attempt { around, ..attempt };
                self.sink.write(rows, attempt).await
            }
            None => written,
        }
    }

    fn disposition(
        &self,
        stream: &str,
        delivery: &Delivery,
        outcome: RowOutcome,
        identity: Uuid,
    ) -> Disposition {
        match outcome {
            RowOutcome::Stored => Disposition::Ack,
            RowOutcome::Rejected(Rejection { by, text }) => match by {
                RejectedBy::Store => {
                    dead_letter(DeadLetterReason::RejectedByStore, text, Some(identity))
                }
                RejectedBy::Decoder => dead_letter(DeadLetterReason::Value, text, Some(identity)),
                // Not under the id, which is another message's.
                RejectedBy::Identity => {
                    dead_letter(DeadLetterReason::Value, text, Some(delivery.place(stream)))
                }
            },
            RowOutcome::Later { reason } if delivery.deliveries() >= self.deliveries_max => {
                dead_letter(DeadLetterReason::MaxDeliveries, reason, Some(identity))
            }
            RowOutcome::Later { .. } => Disposition::Nak {
                delay: Some(self.nak_delay),
            },
        }
    }
}

impl<D: Decode, S: Sink<Row = D::Row>> BatchProcessor for PipelineProcessor<D, S> {
    async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let Decoding {
            rows,
            identities,
            positions,
            mut dispositions,
        } = self.decode(batch).await;
        let deliveries = positions
            .iter()
            .map(|position| &batch.messages()[*position]);
        let stretch = Stretch::around(deliveries);
        let outcomes = self
            .write(&rows, stretch.as_ref(), give_up)
            .await
            .map_err(|err| process_error(err, &positions))?;
        let mut rejected = Vec::new();
        for ((outcome, identity), position) in outcomes.into_iter().zip(identities).zip(positions) {
            let delivery = &batch.messages()[position];
            if matches!(&outcome, RowOutcome::Rejected(it) if it.by == RejectedBy::Store) {
                rejected.push(delivery.stream_sequence());
            }
            dispositions[position] = self.disposition(batch.stream(), delivery, outcome, identity);
        }
        self.window.note_rejected(rejected);
        self.isolation.note_survivor(batch);
        Ok(ProcessingResult::from_dispositions(dispositions))
    }
}

impl<R> Decoding<R> {
    fn with_capacity(messages: usize) -> Self {
        Self {
            rows: Vec::with_capacity(messages),
            identities: Vec::with_capacity(messages),
            positions: Vec::with_capacity(messages),
            dispositions: Vec::with_capacity(messages),
        }
    }

    fn push(&mut self, row: R, identity: Uuid, position: usize) {
        self.rows.push(row);
        self.identities.push(identity);
        self.positions.push(position);
    }
}

fn dead_letter(reason: DeadLetterReason, error: String, event_id: Option<Uuid>) -> Disposition {
    Disposition::DeadLetter(DeadLetter {
        reason,
        error,
        event_id,
    })
}

/// Nothing is dead-lettered for what may be the store's fault.
fn process_error(err: WriteError, positions: &[usize]) -> ProcessError {
    let rows = positions.iter().enumerate();
    let stored = rows
        .filter(|(row, _)| err.stored().contains(*row))
        .map(|(_, position)| *position)
        .collect();
    match err {
        WriteError::GaveUp { .. } => ProcessError::GaveUp { stored },
        WriteError::Unusable { class, source, .. } => ProcessError::StoreUnusable {
            stored,
            waiting_helps: class == ErrorClass::Transient,
            source,
        },
        err => ProcessError::StoreUnusable {
            stored,
            waiting_helps: false,
            source: err.into(),
        },
    }
}
