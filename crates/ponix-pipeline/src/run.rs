//! The way of a batch: decode and transform → write → a disposition for each message.

mod decoded;
mod disposition;
mod write;

use std::sync::atomic::AtomicU64;

use ponix_nats::{
    Batch, BatchProcessor, BatchSettings, ProcessError, ProcessingResult, StageTimes,
};
use ponix_sink::{RejectGuard, RejectedBy, RowOutcome, Sink};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::decoded::{DecodedBatch, wholly_stored};
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
    /// Events in one message at most.
    pack_events_max: usize,
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
            pack_events_max: settings.pack_events_max,
        }
    }
}

impl<D: Decode, S: Sink<Row = D::Row>> BatchProcessor for PipelineProcessor<D, S> {
    async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let begun = Instant::now();
        let decoded = DecodedBatch::decode(
            batch,
            &self.decoder,
            &self.isolation,
            &self.dropped,
            self.pack_events_max,
            give_up,
        );
        let Some(DecodedBatch {
            rows,
            origins,
            mut messages,
        }) = decoded.await
        else {
            return Err(ProcessError::GaveUp { stored: Vec::new() });
        };
        let with_rows = origins.chunk_by(|a, b| a.position == b.position);
        let deliveries = with_rows.map(|rows| &batch.messages()[rows[0].position]);
        let stretch = Stretch::around(deliveries);
        let stretch = stretch.as_ref();
        let (sink, guard, window) = (&self.sink, &self.guard, &self.window);
        let encoded = sink.encode(rows).await;
        let decoded = begun.elapsed();
        let outcomes = match encoded {
            Ok(rows) => write(sink, guard, window, &rows, stretch, give_up).await,
            Err(err) => Err(err),
        };
        let times = StageTimes {
            decode: decoded,
            write: begun.elapsed().saturating_sub(decoded),
        };
        let outcomes = outcomes.map_err(|err| {
            let stored = wholly_stored(&origins, &messages, err.stored());
            process_error(err, stored)
        })?;
        let mut rejected = Vec::new();
        for (outcome, origin) in outcomes.into_iter().zip(origins) {
            let delivery = &batch.messages()[origin.position];
            if matches!(&outcome, RowOutcome::Rejected(it) if it.by == RejectedBy::Store) {
                let index = origin.event.as_ref().map(|event| event.index);
                rejected.push((delivery.stream_sequence(), index));
            }
            let message = &mut messages[origin.position];
            self.dispositions
                .settle(message, batch.stream(), delivery, outcome, &origin);
        }
        self.window.note_rejected(rejected);
        self.isolation.note_survivor(batch);
        let nak_delay = self.dispositions.nak_delay;
        let dispositions = messages.into_iter().map(|it| it.disposition(nak_delay));
        Ok(ProcessingResult::from_dispositions(dispositions.collect()).with_times(times))
    }
}

#[cfg(test)]
mod tests;
