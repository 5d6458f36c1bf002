//! The intake: pulls a batch whenever there is room, and gives each a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hold::Held;
use super::notice::Notices;
use super::pull::{PullEnd, Source};
use super::settle::{Link, Settler};
use super::work::Work;
use super::{BatchConsumerError, BatchProcessor, BatchSettings, ConsumerState};
use crate::delivery::Batch;
use crate::failpoint;
use crate::metrics::ConsumerMetrics;
use crate::retry::{Backoff, LogGate};

/// Longest pause between two attempts to read a consumer that cannot be read.
const PULL_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The place of a batch in flight; given up when dropped.
struct Slot {
    _own: OwnedSemaphorePermit,
    /// Of the room that is shared with other consumers.
    _shared: Option<OwnedSemaphorePermit>,
}

/// The consumer without its connection: what it pulls from and answers through are parameters,
/// NATS in the service and a seeded model of it in the tests.
#[derive(Debug)]
pub(super) struct Intake<P, S, L> {
    source: S,
    settings: Arc<BatchSettings>,
    work: Arc<Work<P, L>>,
    state: watch::Sender<ConsumerState>,
}

impl<P: BatchProcessor, S: Source, L: Link> Intake<P, S, L> {
    pub(super) fn new(
        source: S,
        link: L,
        processor: P,
        settings: Arc<BatchSettings>,
        metrics: ConsumerMetrics,
    ) -> Self {
        let settler = Settler {
            link,
            nak_delay: settings.nak_delay,
            metrics: metrics.clone(),
            notices: Notices::default(),
        };
        let work = Arc::new(Work {
            processor,
            settler,
            settings: Arc::clone(&settings),
            metrics,
            held: watch::Sender::new(Held::default()),
            log_gate: LogGate::default(),
        });
        Self {
            source,
            settings,
            work,
            state: watch::Sender::new(ConsumerState::Starting),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.subscribe()
    }

    /// Runs until `shutdown`, then waits for what is in flight.
    pub(super) async fn run(
        mut self,
        shutdown: CancellationToken,
    ) -> Result<(), BatchConsumerError> {
        let slots = Arc::new(Semaphore::new(self.settings.in_flight_max));
        let mut tasks = JoinSet::new();
        let mut held = self.work.held.subscribe();
        let mut backoff = pull_backoff();
        let give_up = shutdown.child_token();
        self.state.send_replace(ConsumerState::Running);
        let mut ended = loop {
            if let Some(Err(err)) = tasks.try_join_next() {
                break Err(BatchConsumerError::Panicked(err));
            }
            let slot = tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                slot = self.free_slot(&slots, &mut held) => slot,
            };
            let (messages, end) = self.source.pull(&shutdown).await;
            if !messages.is_empty() {
                failpoint::reach("after_fetch");
                let batch = Batch::new(self.source.stream_name().to_owned(), messages);
                self.work.count(&batch);
                let (work, give_up) = (Arc::clone(&self.work), give_up.clone());
                tasks.spawn(async move {
                    work.settle_batch(&batch, &give_up).await;
                    drop(slot);
                });
            }
            match end {
                PullEnd::Complete => {
                    backoff = pull_backoff();
                    self.set_state(ConsumerState::Running);
                }
                PullEnd::Rebuilt => pause(&mut backoff, &shutdown).await,
                PullEnd::Shutdown => break Ok(()),
                PullEnd::Closed => break Err(BatchConsumerError::Closed),
                PullEnd::Unavailable(reason) => {
                    tracing::error!(reason, "the consumer cannot be read, trying again");
                    self.set_state(ConsumerState::Unavailable(reason));
                    pause(&mut backoff, &shutdown).await;
                }
            }
        };
        // Whatever the reason: a batch that is held now would be held for ever.
        give_up.cancel();
        self.give_back_leftovers(&give_up).await;
        // Waited for, never aborted: a batch between insert and ack finishes.
        while let Some(done) = tasks.join_next().await {
            ended = ended.and(done.map_err(BatchConsumerError::Panicked));
        }
        self.state.send_replace(ConsumerState::Stopped);
        ended
    }

    /// Gives back what was delivered and waits for room in flight: others need not wait for `ack_wait`.
    async fn give_back_leftovers(&mut self, give_up: &CancellationToken) {
        let messages = self.source.leftovers().await;
        if !messages.is_empty() {
            let batch = Batch::new(self.source.stream_name().to_owned(), messages);
            self.work.count(&batch);
            self.work.give_back(&batch, give_up).await;
        }
    }

    /// Waits for room in flight, and while a batch is held.
    async fn free_slot(&self, slots: &Arc<Semaphore>, held: &mut watch::Receiver<Held>) -> Slot {
        loop {
            self.wait_while_held(held).await;
            tokio::select! {
                biased;
                // The batches that take up the room may be held before one of them leaves it.
                Ok(()) = held.changed() => {}
                slot = self.slot(slots) => return slot,
            }
        }
    }

    /// Waits for room of its own, and then for shared room unless nothing of its own is in flight.
    async fn slot(&self, slots: &Arc<Semaphore>) -> Slot {
        const OPEN: &str = "the semaphore is never closed";
        let own = Arc::clone(slots).acquire_owned().await.expect(OPEN);
        let Some(room) = &self.settings.room else {
            return Slot {
                _own: own,
                _shared: None,
            };
        };
        let kib = u32::try_from(self.settings.bytes_max / 1024)
            .unwrap_or(u32::MAX)
            .max(1);
        let others = u32::try_from(self.settings.in_flight_max - 1).unwrap_or(u32::MAX);
        let shared = tokio::select! {
            biased;
            // All places but this one are free.
            alone = slots.acquire_many(others) => {
                drop(alone.expect(OPEN));
                None
            }
            shared = Arc::clone(room).acquire_many_owned(kib) => Some(shared.expect(OPEN)),
        };
        Slot {
            _own: own,
            _shared: shared,
        }
    }

    async fn wait_while_held(&self, held: &mut watch::Receiver<Held>) {
        loop {
            let (reason, since_ns) = {
                let held = held.borrow_and_update();
                (held.reason().map(str::to_owned), held.since_ns())
            };
            match reason {
                Some(reason) => self.set_state(ConsumerState::Held { reason, since_ns }),
                None if matches!(*self.state.borrow(), ConsumerState::Held { .. }) => break,
                None => return,
            }
            if held.changed().await.is_err() {
                return;
            }
        }
        self.set_state(ConsumerState::Running);
    }

    fn set_state(&self, new: ConsumerState) {
        self.state.send_if_modified(|state| {
            let changed = *state != new;
            if changed {
                *state = new;
            }
            changed
        });
    }
}

async fn pause(backoff: &mut Backoff, shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(backoff.next_pause()) => {}
        () = shutdown.cancelled() => {}
    }
}

fn pull_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), PULL_PAUSE_MAX)
}
