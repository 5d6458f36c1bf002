//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ponix_nats::Publisher;
use prometheus_client::registry::Registry;

use crate::auth::ApiKeys;
use crate::body::BodyLimits;
use crate::config::IngestConfig;
use crate::limits::Limits;
use crate::metrics::IngestMetrics;
use crate::publish::Publishing;

/// Tells why the service is not ready; nothing when it is.
pub type Reasons = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The state of the HTTP API. Clones share it.
#[derive(Clone)]
pub struct IngestState {
    pub(crate) config: Arc<IngestConfig>,
    pub(crate) keys: Option<Arc<ApiKeys>>,
    pub(crate) limits: Limits,
    pub(crate) publishing: Publishing,
    pub(crate) metrics: IngestMetrics,
    pub(crate) registry: Arc<Registry>,
    pub(crate) reasons: Reasons,
    pub(crate) counts: Arc<Counts>,
}

impl std::fmt::Debug for IngestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestState")
            .field("config", &self.config)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What `/stats` shows.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
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
        Self {
            limits: Limits::new(
                config.requests_max,
                config.address_rate,
                config.key_rate,
                own_rates,
            ),
            publishing: Publishing::new(
                publisher,
                config.publish_timeout,
                config.remembered_ids_max,
                metrics.clone(),
            ),
            keys: keys.map(Arc::new),
            config: Arc::new(config),
            metrics,
            registry,
            reasons,
            counts: Arc::default(),
        }
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes_max: self.config.body_bytes_max,
            ratio_max: self.config.decompression_ratio_max,
            timeout: self.config.body_timeout,
        }
    }
}
