//! What the HTTP API counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of the HTTP API. Clones share them.
#[derive(Debug, Clone)]
pub struct IngestMetrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) refused: Counter,
    pub(crate) publish_latency: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) route: String,
    pub(crate) status: u16,
}

impl IngestMetrics {
    /// Makes the counters and names them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            duplicates: Counter::default(),
            refused: Counter::default(),
            // 0.25 ms to 8 s.
            publish_latency: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        };
        registry.register(
            "ponix_ingest_requests",
            "Requests answered",
            metrics.requests.clone(),
        );
        registry.register(
            "ponix_ingest_requests_in_flight",
            "Requests in work",
            metrics.in_flight.clone(),
        );
        registry.register(
            "ponix_ingest_connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register(
            "ponix_ingest_envelopes_accepted",
            "Envelopes that JetStream has acknowledged",
            metrics.accepted.clone(),
        );
        registry.register(
            "ponix_ingest_envelopes_duplicate",
            "Envelopes among them that the stream had already",
            metrics.duplicates.clone(),
        );
        registry.register(
            "ponix_ingest_envelopes_refused",
            "Envelopes answered with an error",
            metrics.refused.clone(),
        );
        registry.register(
            "ponix_ingest_publish_latency_seconds",
            "From publish to PubAck",
            metrics.publish_latency.clone(),
        );
        metrics
    }
}
