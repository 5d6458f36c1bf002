//! The way of a batch: decode and transform → write → a disposition for each message.

mod decoded;
mod disposition;
mod write;

use std::sync::atomic::AtomicU64;

use ponix_nats::{Batch, BatchProcessor, BatchSettings, ProcessError, ProcessingResult};
use ponix_sink::{RejectGuard, RejectedBy, RowOutcome, Sink};
use tokio_util::sync::CancellationToken;

use self::decoded::DecodedBatch;
use self::disposition::Dispositions;
use self::write::{process_error, write};
use crate::crash_isolation::CrashIsolation;
use crate::decode::Decode;
use crate::stream_window::{StreamWindow, Stretch};

/// Processes the batches of one pipeline.
#[derive(Debug)]
pub struct PipelineProcessor<D, S> {
    decoder: D,
    sink: S,
    isolation: CrashIsolation,
    guard: RejectGuard,
    window: StreamWindow,
    dispositions: Dispositions,
    dropped: AtomicU64,
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
            dispositions: Dispositions {
                nak_delay: settings.nak_delay,
                deliveries_max: settings.deliveries_max,
            },
            dropped: AtomicU64::new(0),
        }
    }
}

impl<D: Decode, S: Sink<Row = D::Row>> BatchProcessor for PipelineProcessor<D, S> {
    async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let DecodedBatch {
            rows,
            identities,
            positions,
            mut dispositions,
        } = DecodedBatch::decode(batch, &self.decoder, &self.isolation, &self.dropped).await;
        let deliveries = positions
            .iter()
            .map(|position| &batch.messages()[*position]);
        let stretch = Stretch::around(deliveries);
        let stretch = stretch.as_ref();
        let (sink, guard, window) = (&self.sink, &self.guard, &self.window);
        let outcomes = match sink.encode(rows).await {
            Ok(rows) => write(sink, guard, window, &rows, stretch, give_up).await,
            Err(err) => Err(err),
        };
        let outcomes = outcomes.map_err(|err| process_error(err, &positions))?;
        let mut rejected = Vec::new();
        for ((outcome, identity), position) in outcomes.into_iter().zip(identities).zip(positions) {
            let delivery = &batch.messages()[position];
            if matches!(&outcome, RowOutcome::Rejected(it) if it.by == RejectedBy::Store) {
                rejected.push(delivery.stream_sequence());
            }
            dispositions[position] =
                self.dispositions
                    .of(batch.stream(), delivery, outcome, identity);
        }
        self.window.note_rejected(rejected);
        self.isolation.note_survivor(batch);
        Ok(ProcessingResult::from_dispositions(dispositions))
    }
}
