//! The batch consumer: pulls, hands batches to a processor, settles every message.
//!
//! One task pulls, one batch at a time. Each batch then has a task of its own that processes and
//! settles it while the next is pulled; a bounded number of them is in flight. Order of effects:
//! the processor has stored the batch → acks; the dead letters have a message → its end.

mod hold;
mod open;
mod pull;
mod settle;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::PullConsumer;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::hold::Held;
pub use self::pull::RebuildReason;
use self::pull::{PullEnd, Puller};
use self::settle::Settler;
use self::work::Work;
use crate::dead_letters::DeadLetters;
use crate::delivery::Batch;
use crate::failpoint;
use crate::metrics::NatsMetrics;
use crate::processing_result::ProcessingResult;
use crate::retry::Backoff;

/// Stores batches. The only part of the consumer that knows what a message means.
pub trait BatchProcessor: Send + Sync + 'static {
    /// Processes a batch and says for each message, in order, what becomes of it.
    ///
    /// `Ack` means that the message is stored: it is never delivered again. A processor that
    /// waits for its store watches `give_up` between attempts and returns
    /// [`ProcessError::GaveUp`] when it is cancelled.
    ///
    /// # Errors
    /// See [`ProcessError`] for what the consumer does about each.
    ///
    /// # Cancel safety
    /// The consumer never drops the future of a running call.
    fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> impl Future<Output = Result<ProcessingResult, ProcessError>> + Send;
}

/// Why a batch as a whole could not be processed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Something about this batch: its messages are given back and come again, later alone.
    #[error("the batch failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store takes nothing now, whatever the batch holds: the intake stops, what is not
    /// stored is kept and tried again until the store is mended.
    #[error("the store cannot take the batch")]
    StoreUnusable {
        /// Positions in the batch of the messages that are stored all the same.
        stored: Vec<usize>,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shutdown ended the attempts: what is not stored is given back.
    #[error("gave up because of the shutdown")]
    GaveUp {
        /// Positions in the batch of the messages that are stored all the same.
        stored: Vec<usize>,
    },
}

/// Limits and times of a batch consumer.
#[derive(Debug, Clone)]
pub struct BatchSettings {
    /// Messages in a batch at most.
    pub messages_max: usize,
    /// Bytes in a batch at most. A single larger message is a batch of its own.
    pub bytes_max: usize,
    /// Time a message waits for its batch to fill at most.
    pub linger: Duration,
    /// Batches pulled and not yet settled at most, the one being pulled included.
    pub in_flight_max: usize,
    /// The consumer's `ack_wait`; messages in work report progress every third of it.
    pub ack_wait: Duration,
    /// Time until a message that was given back is delivered again.
    pub nak_delay: Duration,
    /// First and longest pause between attempts at a store that takes nothing.
    pub hold_backoff: (Duration, Duration),
    /// With messages pending and none delivered for this time, the pull is set up again.
    pub stall_timeout: Duration,
    /// From this delivery on, a message is tried alone when the batch it came in fails.
    pub alone_from_delivery: u32,
    /// From this delivery on, a message that fails alone goes to the dead letters.
    pub deliveries_max: u32,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            messages_max: 10_000,
            bytes_max: 8 << 20,
            linger: Duration::from_secs(1),
            in_flight_max: 3,
            ack_wait: Duration::from_mins(1),
            nak_delay: Duration::from_secs(5),
            hold_backoff: (Duration::from_secs(1), Duration::from_secs(30)),
            stall_timeout: Duration::from_secs(30),
            alone_from_delivery: 3,
            deliveries_max: 8,
        }
    }
}

/// What a batch consumer is doing, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerState {
    /// Not running yet.
    Starting,
    /// Pulling.
    Running,
    /// The store takes nothing; the intake has stopped. Holds the reason.
    Held(String),
    /// The stream or the consumer cannot be read. Holds the reason.
    Unavailable(String),
    /// Ended.
    Stopped,
}

/// Why a batch consumer ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchConsumerError {
    /// The connection was closed for good.
    #[error("the nats connection is closed")]
    Closed,
    /// A task of the consumer panicked outside of the processor.
    #[error("a batch task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Reads a durable consumer in batches until it is told to stop.
#[derive(Debug)]
pub struct BatchConsumer<P> {
    client: Client,
    consumer: PullConsumer,
    settings: Arc<BatchSettings>,
    work: Arc<Work<P>>,
    state: watch::Sender<ConsumerState>,
    metrics: NatsMetrics,
}

impl<P: BatchProcessor> BatchConsumer<P> {
    /// Puts a consumer together. `client` is the connection that pulls and acks.
    pub fn new(
        client: Client,
        consumer: PullConsumer,
        processor: P,
        dead_letters: DeadLetters,
        settings: BatchSettings,
        metrics: NatsMetrics,
    ) -> Self {
        let settings = Arc::new(settings);
        let state = watch::Sender::new(ConsumerState::Starting);
        let work = Arc::new(Work {
            processor,
            settler: Settler {
                client: client.clone(),
                dead_letters,
                nak_delay: settings.nak_delay,
                metrics: metrics.clone(),
            },
            settings: Arc::clone(&settings),
            metrics: metrics.clone(),
            held: watch::Sender::new(Held::default()),
        });
        Self {
            client,
            consumer,
            settings,
            work,
            state,
            metrics,
        }
    }

    /// Returns what the consumer is doing, now and on every change.
    pub fn state(&self) -> watch::Receiver<ConsumerState> {
        self.state.subscribe()
    }

    /// Runs until `shutdown` is cancelled, then finishes and settles what is in flight.
    ///
    /// # Errors
    /// A closed connection, or a panic outside of the processor.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping it abandons batches between insert and ack. They are delivered
    /// again. Cancel `shutdown` and wait instead.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BatchConsumerError> {
        let slots = Arc::new(Semaphore::new(self.settings.in_flight_max));
        let mut tasks = JoinSet::new();
        let mut puller = Puller::new(
            self.client.clone(),
            self.consumer.clone(),
            Arc::clone(&self.settings),
            self.metrics.clone(),
        );
        let mut held = self.work.held.subscribe();
        let mut backoff = self.pull_backoff();
        self.state.send_replace(ConsumerState::Running);
        let ended = loop {
            while let Some(done) = tasks.try_join_next() {
                done.map_err(BatchConsumerError::Panicked)?;
            }
            let slot = tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                slot = self.free_slot(&slots, &mut held) => slot,
            };
            let (messages, end) = puller.pull(&shutdown).await;
            if !messages.is_empty() {
                failpoint::reach("after_fetch");
                let batch = Batch::new(puller.stream_name().to_owned(), messages);
                let (work, give_up) = (Arc::clone(&self.work), shutdown.clone());
                tasks.spawn(async move {
                    if failpoint::is_planted("bug_cancelled_between_insert_and_ack") {
                        tokio::select! {
                            () = work.settle_batch(&batch, &give_up) => {}
                            () = give_up.cancelled() => {}
                        }
                    } else {
                        work.settle_batch(&batch, &give_up).await;
                    }
                    drop(slot);
                });
            }
            match end {
                PullEnd::Complete => {
                    backoff = self.pull_backoff();
                    self.set_state(ConsumerState::Running);
                }
                PullEnd::Shutdown => break Ok(()),
                PullEnd::Closed => break Err(BatchConsumerError::Closed),
                PullEnd::Unavailable(reason) => {
                    tracing::error!(reason, "the consumer cannot be read, trying again");
                    self.set_state(ConsumerState::Unavailable(reason));
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_pause()) => {}
                        () = shutdown.cancelled() => break Ok(()),
                    }
                }
            }
        };
        // Waited for, never aborted: a batch between insert and ack finishes.
        while let Some(done) = tasks.join_next().await {
            done.map_err(BatchConsumerError::Panicked)?;
        }
        self.state.send_replace(ConsumerState::Stopped);
        ended
    }

    fn pull_backoff(&self) -> Backoff {
        Backoff::new(Duration::from_millis(200), self.settings.hold_backoff.1)
    }

    /// Waits for room in flight, and while a batch is held.
    async fn free_slot(
        &self,
        slots: &Arc<Semaphore>,
        held: &mut watch::Receiver<Held>,
    ) -> tokio::sync::OwnedSemaphorePermit {
        let slot = Arc::clone(slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            let reason = held.borrow_and_update().reason().map(str::to_owned);
            let Some(reason) = reason else { return slot };
            self.set_state(ConsumerState::Held(reason));
            if held.changed().await.is_err() {
                return slot;
            }
            if held.borrow().reason().is_none() {
                self.set_state(ConsumerState::Running);
            }
        }
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
