//! The batch consumer: pulls, hands batches to a processor, settles every message.
//!
//! One task pulls, one batch at a time. Each batch then has a task of its own that processes and
//! settles it while the next is pulled; a bounded number of them is in flight. Order of effects:
//! the processor has stored the batch → acks; the dead letters have a message → its end.

mod hold;
mod intake;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod model;
mod notice;
mod open;
mod pull;
mod settle;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::PullConsumer;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::intake::Intake;
use self::pull::Puller;
pub use self::pull::RebuildReason;
use self::settle::NatsLink;
use crate::dead_letters::DeadLetters;
use crate::delivery::Batch;
use crate::metrics::ConsumerMetrics;
use crate::processing_result::ProcessingResult;

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
        /// Whether it passes by itself, so that nobody need act: the network, the server's load.
        waiting_helps: bool,
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
    /// Events in a batch at most: each message that is not packed is one. A packed message is never
    /// split, so there may be the events of one message more.
    pub messages_max: usize,
    /// Bytes in a batch at most. A single larger message is a batch of its own.
    pub bytes_max: usize,
    /// Time a message waits for its batch to fill at most.
    pub linger: Duration,
    /// Batches pulled and not yet settled at most, the one being pulled included.
    pub in_flight_max: usize,
    /// Room that several consumers share, in KiB: a batch takes [`bytes_max`](Self::bytes_max) of it,
    /// but for one of each consumer, so that none waits for another for ever. Without, the consumer
    /// is bounded by itself alone.
    pub room: Option<Arc<Semaphore>>,
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
    /// Events in one packed message at most; one with more is a dead letter as a whole.
    pub pack_events_max: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            messages_max: 10_000,
            bytes_max: 6 << 20,
            linger: Duration::from_secs(1),
            in_flight_max: 3,
            room: None,
            ack_wait: Duration::from_mins(1),
            nak_delay: Duration::from_secs(5),
            hold_backoff: (Duration::from_secs(1), Duration::from_secs(30)),
            stall_timeout: Duration::from_secs(30),
            alone_from_delivery: 3,
            deliveries_max: 8,
            pack_events_max: ponix_wire::PACK_EVENTS_MAX,
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
    /// The store takes nothing; the intake has stopped.
    Held {
        /// Why, of the latest batch that was tried.
        reason: String,
        /// Since when, in nanoseconds since 1970-01-01T00:00:00Z.
        since_ns: i64,
    },
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
    intake: Intake<P, Puller, NatsLink>,
}

impl<P: BatchProcessor> BatchConsumer<P> {
    /// Puts a consumer together. `client` is the connection that pulls and acks.
    pub fn new(
        client: Client,
        consumer: PullConsumer,
        processor: P,
        dead_letters: DeadLetters,
        settings: BatchSettings,
        metrics: ConsumerMetrics,
    ) -> Self {
        let settings = Arc::new(settings);
        let puller = Puller::new(
            client.clone(),
            consumer,
            Arc::clone(&settings),
            metrics.clone(),
        );
        let link = NatsLink {
            client,
            dead_letters,
        };
        Self {
            intake: Intake::new(puller, link, processor, settings, metrics),
        }
    }

    /// Returns what the consumer is doing, now and on every change.
    pub fn state(&self) -> watch::Receiver<ConsumerState> {
        self.intake.state()
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
        self.intake.run(shutdown).await
    }
}
