//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use ponix_nats::Publisher;
use ponix_wire::message::Format;
use prometheus_client::registry::Registry;

use crate::auth::ApiKeys;
use crate::body::BodyLimits;
use crate::config::{IngestConfig, MessagesConfig};
use crate::doors::{Door, DoorConfig, DoorError, check_path};
use crate::error::FieldProblem;
use crate::limits::Limits;
use crate::memory::Memory;
use crate::messages::correction::Corrections;
use crate::messages::waiting::Waiting;
use crate::metrics::IngestMetrics;
use crate::store::{MessageStore, StatusQueue, StatusWriter, status_writer};
use crate::stream::Stream;

/// Tells why the service is not ready; nothing when it is.
pub type Reasons = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Names the entity that a payload seems to hold, cheaply, or says why there is none and which are
/// known; the last argument is the one that the request names.
pub type Identify =
    Arc<dyn Fn(Format, &[u8], Option<&str>) -> Result<String, String> + Send + Sync>;

/// Tells everything that is wrong with a payload, as far as that shows without the store; the last
/// argument is the entity that the request names.
pub type Check = Arc<dyn Fn(Format, &[u8], Option<&str>) -> Result<(), Misfit> + Send + Sync>;

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The first field that is wrong, where it is one.
    pub field: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// What else is wrong.
    pub others: Vec<FieldProblem>,
}

/// What raw messages need.
#[derive(Clone)]
pub(crate) struct Messages {
    pub(crate) config: Arc<MessagesConfig>,
    pub(crate) store: Arc<dyn MessageStore>,
    pub(crate) identify: Identify,
    pub(crate) check: Check,
    pub(crate) way: Way,
    /// The writer of statuses ends once this is gone, also where nothing is queued.
    pub(crate) statuses: StatusQueue,
    /// Ids of messages are no ids of envelopes: a memory of their own.
    pub(crate) memory: Memory,
    pub(crate) waiting: Waiting,
    pub(crate) corrections: Corrections,
}

/// How messages get to the store.
#[derive(Clone)]
pub(crate) enum Way {
    /// Through a stream, with a status written behind the answer.
    Stream(Box<Stream>),
    /// At once, within this time.
    AtOnce(Duration),
}

/// The state of the HTTP API. Clones share it, and cost next to nothing: every request makes some.
#[derive(Clone)]
pub struct IngestState(Arc<Shared>);

/// What all requests look at.
#[derive(Clone)]
pub struct Shared {
    pub(crate) config: Arc<IngestConfig>,
    pub(crate) keys: Option<Arc<ApiKeys>>,
    pub(crate) limits: Limits,
    pub(crate) stream: Stream,
    pub(crate) metrics: IngestMetrics,
    pub(crate) registry: Arc<Registry>,
    pub(crate) reasons: Reasons,
    pub(crate) messages: Option<Messages>,
    pub(crate) doors: Vec<Arc<Door>>,
}

impl std::fmt::Debug for IngestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestState")
            .field("config", &self.config)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl std::ops::Deref for IngestState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl IngestState {
    /// Puts the parts together. `registry` is what `/metrics` shows, and `reasons` what `/ready`
    /// tells; without `keys` every request counts as the default organization's.
    pub fn new(
        config: IngestConfig,
        keys: Option<ApiKeys>,
        publisher: Publisher,
        metrics: IngestMetrics,
        registry: Arc<Registry>,
        reasons: Reasons,
    ) -> Self {
        let own_rates = keys.iter().flat_map(ApiKeys::rates);
        Self(Arc::new(Shared {
            limits: Limits::new(&config, own_rates),
            stream: Stream::new(
                publisher,
                config.publish_timeout,
                config.remembered_ids_max,
                metrics.clone(),
            )
            .packing(&config.stream, config.pack_events_max),
            keys: keys.map(Arc::new),
            config: Arc::new(config),
            metrics,
            registry,
            reasons,
            messages: None,
            doors: Vec::new(),
        }))
    }

    /// Adds the routes of raw messages. The [`StatusWriter`] must run as long as they are served.
    #[must_use]
    pub fn with_messages(
        mut self,
        config: MessagesConfig,
        store: Arc<dyn MessageStore>,
        identify: Identify,
        check: Check,
    ) -> (Self, StatusWriter) {
        let (queue, writer) = status_writer(
            Arc::clone(&store),
            config.statuses_queued_max,
            self.metrics.clone(),
        );
        let memory = Memory::new(self.config.remembered_ids_max);
        let way = if config.nats_enabled {
            Way::Stream(Box::new(self.stream.with_memory(memory.clone())))
        } else {
            Way::AtOnce(self.config.publish_timeout)
        };
        let messages = Messages {
            config: Arc::new(config),
            store,
            identify,
            check,
            way,
            statuses: queue,
            memory,
            waiting: Waiting::new(self.config.requests_max),
            corrections: Corrections::new(self.config.remembered_ids_max),
        };
        Arc::make_mut(&mut self.0).messages = Some(messages);
        (self, writer)
    }

    /// Adds `POST <path>`, and the same under `/api`: JSON documents for a declared pipeline.
    ///
    /// # Errors
    /// The path cannot be served, or is taken.
    pub fn with_door(mut self, path: &str, config: DoorConfig) -> Result<Self, DoorError> {
        check_path(path, &self.doors)?;
        let memory = Memory::new(self.config.remembered_ids_max);
        let door = Door {
            path: path.to_owned(),
            stream: self.stream.with_memory(memory),
            tally: self.metrics.documents.of(&config.pipeline),
            config,
        };
        Arc::make_mut(&mut self.0).doors.push(Arc::new(door));
        Ok(self)
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes_max: self.config.body_bytes_max,
            ratio_max: self.config.decompression_ratio_max,
            timeout: self.config.body_timeout,
        }
    }
}
