//! The life of one batch: process, hold, isolate, settle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use ponix_wire::{DeadLetterReason, error_chain};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::hold::{Held, Hold, next_success, note_success};
use super::open::Open;
use super::settle::{Link, Settler};
use super::{BatchProcessor, BatchSettings, ProcessError};
use crate::delivery::{Batch, Delivery};
use crate::failpoint;
use crate::metrics::ConsumerMetrics;
use crate::processing_result::{DeadLetter, Disposition, ProcessingResult, StageTimes};
use crate::retry::{Backoff, LogGate};

/// What every batch task needs.
#[derive(Debug)]
pub(super) struct Work<P, L> {
    pub(super) processor: P,
    pub(super) settler: Settler<L>,
    pub(super) settings: Arc<BatchSettings>,
    pub(super) metrics: ConsumerMetrics,
    /// The batches that are held; while there is one, the intake waits.
    pub(super) held: watch::Sender<Held>,
    pub(super) log_gate: LogGate,
}

impl<P: BatchProcessor, L: Link> Work<P, L> {
    /// Counts a batch that was pulled, before anything is done with it.
    pub(super) fn count(&self, batch: &Batch) {
        let redelivered = batch.messages().iter().filter(|m| m.deliveries() > 1);
        self.metrics.received.inc_by(batch.len() as u64);
        self.metrics.redelivered.inc_by(redelivered.count() as u64);
        self.metrics.in_flight.inc_by(batch.len() as i64);
        self.metrics.in_flight_bytes.inc_by(bytes(batch));
        self.metrics.batches.inc();
        self.metrics.batch_messages.observe(batch.len() as f64);
        let events: usize = batch.messages().iter().map(Delivery::events).sum();
        self.metrics.received_events.inc_by(events as u64);
    }

    /// Processes a batch and settles every message of it, reporting progress on those that are
    /// not settled yet.
    pub(super) async fn settle_batch(&self, batch: &Batch, give_up: &CancellationToken) {
        let begun = Instant::now();
        let mut times = StageTimes::default();
        let dispositions = self.dispositions(batch, &mut times, give_up);
        let dispositions = self
            .with_progress(batch.messages().iter(), dispositions)
            .await;
        let processed = begun.elapsed();
        failpoint::reach("after_insert");
        let dying = self.settler.settle(batch, dispositions, give_up).await;
        if !dying.is_empty() {
            let open: Vec<_> = dying.iter().map(|dying| dying.delivery).collect();
            let kept = self.settler.keep(batch.stream(), dying, give_up);
            let kept = self.with_progress(open.into_iter(), kept).await;
            self.settler.end(kept, give_up).await;
        }
        self.metrics.in_flight_bytes.dec_by(bytes(batch));
        let settled = begun.elapsed().saturating_sub(processed);
        self.metrics.decode_time.observe(times.decode.as_secs_f64());
        self.metrics.write_time.observe(times.write.as_secs_f64());
        self.metrics.process_time.observe(processed.as_secs_f64());
        self.metrics.settle_time.observe(settled.as_secs_f64());
        tracing::debug!(
            pipeline = self.metrics.pipeline(),
            messages = batch.len(),
            events = batch.messages().iter().map(Delivery::events).sum::<usize>(),
            bytes = bytes(batch),
            decode_ms = millis(times.decode),
            write_ms = millis(times.write),
            process_ms = millis(processed),
            settle_ms = millis(settled),
            "batch settled"
        );
    }

    /// Gives every message of a batch back, without a look at it.
    pub(super) async fn give_back(&self, batch: &Batch, give_up: &CancellationToken) {
        let naks = self.nak_all(batch);
        self.settler.settle(batch, naks, give_up).await;
        self.metrics.in_flight_bytes.dec_by(bytes(batch));
    }

    /// Does the work, and meanwhile tells the server that these messages are in work.
    async fn with_progress<'a, T>(
        &self,
        deliveries: impl Iterator<Item = &'a Delivery> + Clone + Send + Sync,
        work: impl Future<Output = T> + Send,
    ) -> T {
        let period = (self.settings.ack_wait / 3).max(Duration::from_millis(1));
        let report = async {
            let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.settler.report_progress(deliveries.clone()).await;
            }
        };
        // The work is never dropped: the report has no end. The report is, when the work is done
        // first: it may be waiting for a lost connection.
        tokio::select! {
            biased;
            done = work => done,
            () = report => unreachable!("progress is reported for ever"),
        }
    }

    async fn dispositions(
        &self,
        batch: &Batch,
        times: &mut StageTimes,
        give_up: &CancellationToken,
    ) -> Vec<Disposition> {
        let mut open = Open::new(batch);
        let dispositions = match self.process_or_hold(&mut open, times, give_up).await {
            Ok(dispositions) => dispositions,
            Err(err) => {
                tracing::error!(messages = open.rest().len(), error = %error_chain(&err), "a batch failed");
                self.dispositions_after_failure(open.rest(), &err, times, give_up)
                    .await
            }
        };
        open.close(dispositions)
    }

    /// Calls the processor; while the store is unusable, keeps what is not stored and calls it
    /// again. A shutdown gives that back. The dispositions are those of the rest.
    async fn process_or_hold(
        &self,
        open: &mut Open<'_>,
        times: &mut StageTimes,
        give_up: &CancellationToken,
    ) -> Result<Vec<Disposition>, ProcessError> {
        let (first, longest) = self.settings.hold_backoff;
        let mut backoff = Backoff::new(first, longest);
        let mut hold = None;
        let mut others = self.held.subscribe();
        while !open.rest().is_empty() {
            let successes = others.borrow_and_update().successes();
            let (waiting_helps, source) = match self.process_once(open.rest(), give_up).await {
                Ok(result) => {
                    note_success(&self.held);
                    if hold.is_some() {
                        tracing::info!("the store takes batches again");
                    }
                    // Of the attempt that worked; those before it and their pauses are a hold.
                    *times = result.times().unwrap_or_default();
                    return Ok(result.into_dispositions());
                }
                Err(ProcessError::GaveUp { stored }) => {
                    open.stored(&stored);
                    return Ok(self.nak_all(open.rest()));
                }
                Err(ProcessError::StoreUnusable {
                    stored,
                    waiting_helps,
                    source,
                }) => {
                    open.stored(&stored);
                    (waiting_helps, source)
                }
                Err(err) => return Err(err),
            };
            let reason = error_chain(&*source);
            let pause = backoff.next_pause();
            self.log_held(open.rest().len(), pause, waiting_helps, &reason);
            hold.get_or_insert_with(|| self.hold()).set_reason(reason);
            tokio::select! {
                biased;
                () = give_up.cancelled() => return Ok(self.nak_all(open.rest())),
                () = tokio::time::sleep(pause) => {}
                () = next_success(&mut others, successes) => {}
            }
        }
        Ok(Vec::new())
    }

    /// What passes by itself is told now and then, for all batches together; the rest every time.
    fn log_held(&self, messages: usize, pause: Duration, waiting_helps: bool, error: &str) {
        let retry_in_ms = pause.as_millis() as u64;
        if !waiting_helps {
            tracing::error!(
                messages,
                retry_in_ms,
                error,
                "the store cannot take the batch: intake stopped, nothing is dead-lettered"
            );
        } else if self.log_gate.opens() {
            tracing::warn!(
                messages,
                retry_in_ms,
                error,
                "the store did not take the batch, trying again: intake stopped"
            );
        }
    }

    fn hold(&self) -> Hold<'_> {
        self.metrics.held_batches.inc();
        Hold::begin(&self.held)
    }

    async fn process_once(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        // Inside of a future, so that a panic of the call itself is caught as well.
        let call = async { self.processor.process(batch, give_up).await };
        let result = AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let text = panic_text(&*panic);
                Err(ProcessError::Failed(
                    format!("the processor panicked: {text}").into(),
                ))
            })?;
        if result.dispositions().len() == batch.len() {
            return Ok(result);
        }
        let (dispositions, messages) = (result.dispositions().len(), batch.len());
        Err(ProcessError::Failed(
            format!("the processor gave {dispositions} dispositions for {messages} messages")
                .into(),
        ))
    }

    /// A failed batch is given back. Messages that have failed before are tried alone, so that
    /// one of them is rejected alone; at the limit of deliveries it goes to the dead letters.
    async fn dispositions_after_failure(
        &self,
        batch: &Batch,
        err: &ProcessError,
        times: &mut StageTimes,
        give_up: &CancellationToken,
    ) -> Vec<Disposition> {
        if let [message] = batch.messages() {
            return vec![self.disposition_alone(message, err)];
        }
        let mut dispositions = self.nak_all(batch);
        for (disposition, message) in dispositions.iter_mut().zip(batch.messages()) {
            if message.deliveries() < self.settings.alone_from_delivery || give_up.is_cancelled() {
                continue;
            }
            let alone = Batch::new(batch.stream().to_owned(), vec![message.clone()]);
            let mut open = Open::new(&alone);
            let tried = match self.process_or_hold(&mut open, times, give_up).await {
                Ok(dispositions) => dispositions,
                Err(err) => vec![self.disposition_alone(message, &err)],
            };
            *disposition = open.close(tried).remove(0);
        }
        dispositions
    }

    fn disposition_alone(&self, message: &Delivery, err: &ProcessError) -> Disposition {
        if message.deliveries() < self.settings.deliveries_max {
            return Disposition::Nak {
                delay: Some(self.settings.nak_delay),
            };
        }
        Disposition::DeadLetter(DeadLetter {
            reason: DeadLetterReason::MaxDeliveries,
            error: format!(
                "failed alone on delivery {}: {}",
                message.deliveries(),
                error_chain(err)
            ),
            event_id: None,
        })
    }

    fn nak_all(&self, batch: &Batch) -> Vec<Disposition> {
        let delay: Option<Duration> = Some(self.settings.nak_delay);
        ProcessingResult::nak_all(batch.len(), delay).into_dispositions()
    }
}

/// Milliseconds, to the hundredth.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

fn bytes(batch: &Batch) -> i64 {
    batch.messages().iter().map(|m| m.bytes() as i64).sum()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
