//! Where the status of every message is kept: what the HTTP API needs of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ponix_wire::message::{Accepted, MessageStatus, Status};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::RawMessage;
use crate::metrics::IngestMetrics;

/// Messages whose status is written at once at most.
const RECORD_BATCH_MAX: usize = 1_000;
/// How long statuses are gathered: a write for each would cost more than the messages themselves.
const RECORD_LINGER: Duration = Duration::from_millis(100);
/// Pause after the store could not be written.
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// The store does not answer now.
#[derive(Debug, thiserror::Error)]
#[error("the store of the messages does not answer")]
pub struct StoreUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What became of a message in the synchronous mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persisted {
    /// Its rows are there now.
    Stored,
    /// They were there already.
    AlreadyDone,
    /// It is wrong; nothing of it was stored.
    Refused {
        /// The field that is meant, where there is one.
        field: Option<String>,
        /// What is wrong, in words for the client.
        reason: String,
    },
}

/// Which messages are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusList {
    /// With this status alone.
    pub status: Option<Status>,
    /// Only those that came in before this message.
    pub before: Option<Uuid>,
    /// So many at most.
    pub limit: usize,
}

/// Keeps messages and their status; the service implements it over its database.
pub trait MessageStore: Send + Sync + 'static {
    /// Returns the status of an organization's message; `None` also for another organization's.
    fn status<'a>(
        &'a self,
        organization: &'a str,
        message_id: Uuid,
    ) -> BoxFuture<'a, Result<Option<MessageStatus>, StoreUnavailable>>;

    /// Returns the statuses of those of these messages that are the organization's and known.
    fn statuses<'a>(
        &'a self,
        organization: &'a str,
        message_ids: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>>;

    /// Lists the organization's messages, the newest first.
    fn list<'a>(
        &'a self,
        organization: &'a str,
        list: &'a StatusList,
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>>;

    /// Records messages that JetStream has; never moves a status backwards.
    fn record_accepted<'a>(
        &'a self,
        messages: &'a [Accepted],
    ) -> BoxFuture<'a, Result<(), StoreUnavailable>>;

    /// Stores messages at once and returns what became of each, in their order. With `atomic`
    /// nothing is stored when one of them is refused.
    fn persist<'a>(
        &'a self,
        messages: &'a [RawMessage],
        atomic: bool,
    ) -> BoxFuture<'a, Result<Vec<Persisted>, StoreUnavailable>>;
}

/// Writes the status `accepted` behind the answers. [`StatusWriter::run`] must be running.
pub struct StatusWriter {
    queue: mpsc::Receiver<Accepted>,
    queued: Queued,
    metrics: IngestMetrics,
    store: Arc<dyn MessageStore>,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter").finish_non_exhaustive()
    }
}

/// What waits to be written: somebody may ask for it before it is.
type Queued = Arc<Mutex<HashMap<Uuid, Accepted>>>;

/// The way to a [`StatusWriter`].
#[derive(Debug, Clone)]
pub(crate) struct StatusQueue {
    queue: mpsc::Sender<Accepted>,
    queued: Queued,
    metrics: IngestMetrics,
}

pub(crate) fn status_writer(
    store: Arc<dyn MessageStore>,
    queued_max: usize,
    metrics: IngestMetrics,
) -> (StatusQueue, StatusWriter) {
    let (sender, receiver) = mpsc::channel(queued_max.max(1));
    let queued = Queued::default();
    let queue = StatusQueue {
        queue: sender,
        queued: Arc::clone(&queued),
        metrics: metrics.clone(),
    };
    let writer = StatusWriter {
        queue: receiver,
        queued,
        metrics,
        store,
    };
    (queue, writer)
}

impl StatusQueue {
    /// Leaves a status to be written. One that finds no room is counted and left out: the worker
    /// writes the status of every message anyway.
    pub(crate) fn push(&self, message: Accepted) {
        let Ok(place) = self.queue.try_reserve() else {
            self.metrics.statuses_dropped.inc();
            return;
        };
        lock(&self.queued).insert(message.message_id, message.clone());
        self.metrics.statuses_queued.inc();
        place.send(message);
    }

    /// Returns a message whose status is not written yet.
    pub(crate) fn queued(&self, message_id: Uuid) -> Option<Accepted> {
        lock(&self.queued).get(&message_id).cloned()
    }
}

impl StatusWriter {
    /// Writes until the last clone of the state is gone and all is written, or until `give_up`.
    ///
    /// # Cancel safety
    /// Not cancel safe: statuses that are not written yet are lost, the messages are not.
    pub async fn run(mut self, give_up: CancellationToken) {
        let mut batch = Vec::with_capacity(RECORD_BATCH_MAX);
        while self.gather(&mut batch).await {
            let writing = write(self.store.as_ref(), &batch);
            let written = give_up.run_until_cancelled(writing).await.is_some();
            self.metrics.statuses_queued.dec_by(batch.len() as i64);
            if !written {
                return;
            }
            let mut queued = lock(&self.queued);
            for message in &batch {
                queued.remove(&message.message_id);
            }
            drop(queued);
            batch.clear();
        }
    }

    /// Fills a batch for at most the linger time, and tells whether there is anything in it.
    async fn gather(&mut self, batch: &mut Vec<Accepted>) -> bool {
        if self.queue.recv_many(batch, RECORD_BATCH_MAX).await == 0 {
            return false;
        }
        let until = Instant::now() + RECORD_LINGER;
        while batch.len() < RECORD_BATCH_MAX {
            let more = RECORD_BATCH_MAX - batch.len();
            match timeout_at(until, self.queue.recv_many(batch, more)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        true
    }
}

fn lock(
    queued: &Mutex<HashMap<Uuid, Accepted>>,
) -> std::sync::MutexGuard<'_, HashMap<Uuid, Accepted>> {
    queued.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(store: &dyn MessageStore, batch: &[Accepted]) {
    let mut told = false;
    while let Err(err) = store.record_accepted(batch).await {
        if !told {
            tracing::warn!(error = %err, "statuses cannot be written, trying again");
            told = true;
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}
