//! How many workers there is work for, for what starts and stops them: `/scale`.
//!
//! More workers help only while what is there gets somewhere. While a store takes nothing, each further one
//! would take batches of its own and hold them too; so the answer is then one, which goes on trying.

mod progress;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ponix_nats::ConsumerState;
use ponix_nats::async_nats::jetstream::consumer::PullConsumer;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use self::progress::Progress;

/// KEDA gives up after three seconds.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a store answers, as [`crate::store_health`] tells.
pub(crate) type StoreHealth = watch::Receiver<Result<(), String>>;

/// What a pipeline has still to do.
#[derive(Debug, Clone)]
pub(crate) struct Backlog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pipeline: String,
    consumer: PullConsumer,
    /// Messages in a batch at most.
    batch: u64,
    /// What the consumer of this process does, where it has one.
    state: Option<watch::Receiver<ConsumerState>>,
    store: Option<StoreHealth>,
    progress: Mutex<Progress>,
}

/// How many workers there is work for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Scale {
    pipeline: String,
    /// Batches that are not settled, rounded up; at most one while nothing is settled.
    batches: u64,
    /// Messages that were not delivered yet.
    pending: u64,
    /// Messages that were delivered and are not settled.
    ack_pending: u64,
    /// Why more workers would not help; left out while they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
}

impl Backlog {
    pub(crate) fn new(
        pipeline: &str,
        consumer: PullConsumer,
        batch: usize,
        state: Option<watch::Receiver<ConsumerState>>,
        store: Option<StoreHealth>,
    ) -> Self {
        Self(Arc::new(Shared {
            pipeline: pipeline.to_owned(),
            consumer,
            batch: (batch as u64).max(1),
            state,
            store,
            progress: Mutex::default(),
        }))
    }

    pub(crate) fn pipeline(&self) -> &str {
        &self.0.pipeline
    }

    /// Asks the server what is not settled.
    ///
    /// # Errors
    /// Why it cannot be told.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn look(&self) -> Result<Scale, String> {
        let name = &self.0.pipeline;
        let asked = tokio::time::timeout(ASK_TIMEOUT, self.0.consumer.get_info()).await;
        let asked =
            asked.map_err(|_| format!("{name}: no answer of nats within {ASK_TIMEOUT:?}"))?;
        let info = asked.map_err(|err| format!("{name}: {err}"))?;
        let (pending, ack_pending) = (info.num_pending, info.num_ack_pending as u64);
        let unsettled = pending + ack_pending;
        let progress = self.0.progress.lock();
        let settles = progress.unwrap_or_else(PoisonError::into_inner).look(
            Instant::now(),
            info.ack_floor.stream_sequence,
            unsettled,
        );
        let held = self.held(settles).filter(|_| unsettled > 0);
        let batches = unsettled.div_ceil(self.0.batch);
        Ok(Scale {
            pipeline: self.0.pipeline.clone(),
            batches: if held.is_some() {
                batches.min(1)
            } else {
                batches
            },
            pending,
            ack_pending,
            held,
        })
    }

    fn held(&self, settles: bool) -> Option<String> {
        let state = self.0.state.as_ref().map(|state| state.borrow().clone());
        if let Some(ConsumerState::Held { reason, .. }) = state {
            return Some(reason);
        }
        let store = self.0.store.as_ref().map(|store| store.borrow().clone());
        if let Some(Err(reason)) = store {
            return Some(reason);
        }
        (!settles).then(|| "nothing is settled".to_owned())
    }
}
