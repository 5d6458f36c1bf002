//! The life of one batch: process, hold, isolate, settle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::hold::{Held, Hold};
use super::open::Open;
use super::settle::Settler;
use super::{BatchProcessor, BatchSettings, ProcessError};
use crate::delivery::{Batch, Delivery};
use crate::failpoint;
use crate::metrics::NatsMetrics;
use crate::processing_result::{DeadLetter, DeadLetterReason, ProcessingResult, Verdict};
use crate::retry::{Backoff, chain};

/// What every batch task needs.
#[derive(Debug)]
pub(super) struct Work<P> {
    pub(super) processor: P,
    pub(super) settler: Settler,
    pub(super) settings: Arc<BatchSettings>,
    pub(super) metrics: NatsMetrics,
    /// The batches that are held; while there is one, the intake waits.
    pub(super) held: watch::Sender<Held>,
}

impl<P: BatchProcessor> Work<P> {
    /// Processes a batch and settles every message of it, reporting progress meanwhile.
    pub(super) async fn settle_batch(&self, batch: &Batch, give_up: &CancellationToken) {
        let messages = batch.len();
        let bytes: usize = batch.messages().iter().map(Delivery::bytes).sum();
        self.metrics.in_flight.inc_by(messages as i64);
        self.metrics.in_flight_bytes.inc_by(bytes as i64);
        self.metrics.batches.inc();
        self.metrics.batch_messages.observe(messages as f64);
        {
            let mut work = std::pin::pin!(self.process_and_settle(batch, give_up));
            let period = self.settings.ack_wait / 3;
            let mut progress = tokio::time::interval_at(Instant::now() + period, period);
            progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // Neither branch drops the work: it is polled again until it is done.
                tokio::select! {
                    () = &mut work => break,
                    _ = progress.tick() => self.settler.report_progress(batch).await,
                }
            }
        }
        self.metrics.in_flight.dec_by(messages as i64);
        self.metrics.in_flight_bytes.dec_by(bytes as i64);
    }

    async fn process_and_settle(&self, batch: &Batch, give_up: &CancellationToken) {
        if failpoint::is_planted("bug_ack_before_insert") {
            let acks = ProcessingResult::ack_all(batch.len()).into_verdicts();
            self.settler.settle(batch, acks).await;
        }
        let verdicts = self.verdicts(batch, give_up).await;
        failpoint::reach("after_insert");
        self.settler.settle(batch, verdicts).await;
    }

    async fn verdicts(&self, batch: &Batch, give_up: &CancellationToken) -> Vec<Verdict> {
        match self.process_or_hold(batch, give_up).await {
            Ok(verdicts) => verdicts,
            Err(err) => {
                tracing::error!(messages = batch.len(), error = %chain(&err), "a batch failed");
                self.verdicts_after_failure(batch, &err, give_up).await
            }
        }
    }

    /// Calls the processor; while the store is unusable, keeps what is not stored and calls it
    /// again. A shutdown gives that back.
    async fn process_or_hold(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<Vec<Verdict>, ProcessError> {
        let (first, longest) = self.settings.hold_backoff;
        let mut backoff = Backoff::new(first, longest);
        let mut open = Open::new(batch);
        let mut hold = None;
        loop {
            let source = match self.process_once(open.rest(), give_up).await {
                Ok(result) => {
                    if hold.is_some() {
                        tracing::info!("the store takes batches again: intake resumed");
                    }
                    return Ok(open.close(result.into_verdicts()));
                }
                Err(ProcessError::GaveUp { stored }) => {
                    open.stored(&stored);
                    return Ok(self.give_back(open));
                }
                Err(ProcessError::StoreUnusable { stored, source }) => {
                    open.stored(&stored);
                    source
                }
                Err(err) => return Err(err),
            };
            let reason = chain(&*source);
            let pause = backoff.next_pause();
            tracing::error!(
                messages = open.rest().len(),
                retry_in_ms = pause.as_millis() as u64,
                error = reason,
                "the store cannot take the batch: intake stopped, nothing is dead-lettered"
            );
            hold.get_or_insert_with(|| self.hold()).set_reason(reason);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = give_up.cancelled() => return Ok(self.give_back(open)),
            }
        }
    }

    fn hold(&self) -> Hold<'_> {
        self.metrics.held_batches.inc();
        Hold::begin(&self.held)
    }

    fn give_back(&self, open: Open) -> Vec<Verdict> {
        let naks = self.nak_all(open.rest());
        open.close(naks)
    }

    async fn process_once(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let call = AssertUnwindSafe(self.processor.process(batch, give_up)).catch_unwind();
        let result = call.await.unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            Err(ProcessError::Failed(
                format!("the processor panicked: {text}").into(),
            ))
        })?;
        if result.verdicts().len() == batch.len() {
            return Ok(result);
        }
        let (verdicts, messages) = (result.verdicts().len(), batch.len());
        Err(ProcessError::Failed(
            format!("the processor gave {verdicts} verdicts for {messages} messages").into(),
        ))
    }

    /// A failed batch is given back. Messages that have failed before are tried alone, so that
    /// one of them condemns only itself; at the limit of deliveries it goes to the dead letters.
    async fn verdicts_after_failure(
        &self,
        batch: &Batch,
        err: &ProcessError,
        give_up: &CancellationToken,
    ) -> Vec<Verdict> {
        if let [message] = batch.messages() {
            return vec![self.verdict_alone(message, err)];
        }
        let mut verdicts = self.nak_all(batch);
        for (verdict, message) in verdicts.iter_mut().zip(batch.messages()) {
            if message.deliveries() < self.settings.alone_from_delivery || give_up.is_cancelled() {
                continue;
            }
            let alone = Batch::new(batch.stream().to_owned(), vec![message.clone()]);
            match self.process_or_hold(&alone, give_up).await {
                Ok(mut verdicts) => *verdict = verdicts.remove(0),
                Err(err) => *verdict = self.verdict_alone(message, &err),
            }
        }
        verdicts
    }

    fn verdict_alone(&self, message: &Delivery, err: &ProcessError) -> Verdict {
        if message.deliveries() < self.settings.deliveries_max {
            return Verdict::Nak {
                delay: Some(self.settings.nak_delay),
            };
        }
        Verdict::DeadLetter(DeadLetter {
            reason: DeadLetterReason::MaxDeliveries,
            error: format!(
                "failed alone on delivery {}: {}",
                message.deliveries(),
                chain(err)
            ),
            event_id: None,
        })
    }

    fn nak_all(&self, batch: &Batch) -> Vec<Verdict> {
        let delay: Option<Duration> = Some(self.settings.nak_delay);
        ProcessingResult::nak_all(batch.len(), delay).into_verdicts()
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
