//! What the HTTP API counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::error::ApiError;
use crate::submission::Sent;

/// Counters of the HTTP API. Clones share them.
#[derive(Debug, Clone)]
pub struct IngestMetrics {
    pub(crate) requests: Family<RequestLabels, Counter>,
    /// Requests of all labels.
    pub(crate) answered: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) server: ServerMetrics,
    pub(crate) envelopes: Tally,
    pub(crate) messages: Tally,
    pub(crate) documents: DocumentTallies,
    pub(crate) publish_latency: Histogram,
    pub(crate) statuses_queued: Gauge,
    pub(crate) statuses_dropped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// What became of the events of a route.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: Counter,
    /// Among the accepted.
    pub(crate) duplicates: Counter,
    pub(crate) refused: Counter,
}

impl Tally {
    pub(crate) fn count(&self, sent: &Result<Sent, ApiError>) {
        match sent {
            Ok(sent) => {
                self.accepted.inc();
                self.duplicates.inc_by(u64::from(sent.duplicate));
            }
            Err(_) => _ = self.refused.inc(),
        }
    }
}

/// Counters of a listener. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics {
    pub(crate) connections: Gauge,
    pub(crate) refused: Counter,
    pub(crate) stalled: Counter,
}

impl ServerMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "ponix_ingest_connections",
            "Open connections",
            self.connections.clone(),
        );
        registry.register(
            "ponix_ingest_connections_refused",
            "Connections closed because their address had too many",
            self.refused.clone(),
        );
        registry.register(
            "ponix_ingest_connections_stalled",
            "Connections closed because their client did not read",
            self.stalled.clone(),
        );
    }
}

/// The documents of every declared pipeline.
#[derive(Debug, Clone, Default)]
pub(crate) struct DocumentTallies {
    accepted: Family<PipelineLabels, Counter>,
    duplicates: Family<PipelineLabels, Counter>,
    refused: Family<PipelineLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabels {
    pipeline: String,
}

impl DocumentTallies {
    /// Returns the counters of one pipeline.
    pub(crate) fn of(&self, pipeline: &str) -> Tally {
        let pipeline = pipeline.to_owned();
        let labels = PipelineLabels { pipeline };
        Tally {
            accepted: self.accepted.get_or_create_owned(&labels),
            duplicates: self.duplicates.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "ponix_ingest_documents_accepted",
            "Documents of declared pipelines that JetStream has acknowledged",
            self.accepted.clone(),
        );
        registry.register(
            "ponix_ingest_documents_duplicate",
            "Documents among them that the stream had already",
            self.duplicates.clone(),
        );
        registry.register(
            "ponix_ingest_documents_refused",
            "Documents answered with an error",
            self.refused.clone(),
        );
    }
}

impl IngestMetrics {
    /// Returns the counters of the API's listener.
    pub fn server(&self) -> ServerMetrics {
        self.server.clone()
    }

    /// Makes the counters and names them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            answered: Counter::default(),
            in_flight: Gauge::default(),
            server: ServerMetrics::default(),
            envelopes: Tally::default(),
            messages: Tally::default(),
            documents: DocumentTallies::default(),
            // 0.25 ms to 8 s.
            publish_latency: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            statuses_queued: Gauge::default(),
            statuses_dropped: Counter::default(),
        };
        metrics.register_messages(registry);
        metrics.documents.register(registry);
        metrics.server.register(registry);
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
            "ponix_ingest_envelopes_accepted",
            "Envelopes that JetStream has acknowledged",
            metrics.envelopes.accepted.clone(),
        );
        registry.register(
            "ponix_ingest_envelopes_duplicate",
            "Envelopes among them that the stream had already",
            metrics.envelopes.duplicates.clone(),
        );
        registry.register(
            "ponix_ingest_envelopes_refused",
            "Envelopes answered with an error",
            metrics.envelopes.refused.clone(),
        );
        registry.register(
            "ponix_ingest_publish_latency_seconds",
            "From publish to PubAck",
            metrics.publish_latency.clone(),
        );
        metrics
    }

    /// Returns a few counts as JSON.
    pub fn stats(&self) -> serde_json::Value {
        let counts = |tally: &Tally| {
            json!({
                "accepted": tally.accepted.get(),
                "duplicates": tally.duplicates.get(),
                "refused": tally.refused.get(),
            })
        };
        json!({
            "requests": self.answered.get(),
            "envelopes": counts(&self.envelopes),
            "messages": counts(&self.messages),
        })
    }

    fn register_messages(&self, registry: &mut Registry) {
        registry.register(
            "ponix_ingest_messages_accepted",
            "Raw messages that JetStream has acknowledged, or the database without it",
            self.messages.accepted.clone(),
        );
        // Names of before, for a version.
        registry.register(
            "messages_published",
            "Now ponix_ingest_messages_accepted",
            self.messages.accepted.clone(),
        );
        registry.register(
            "nats_publish_latency_seconds",
            "Now ponix_ingest_publish_latency_seconds",
            self.publish_latency.clone(),
        );
        registry.register(
            "ponix_ingest_messages_duplicate",
            "Raw messages among them that the stream had already",
            self.messages.duplicates.clone(),
        );
        registry.register(
            "ponix_ingest_messages_refused",
            "Raw messages answered with an error",
            self.messages.refused.clone(),
        );
        registry.register(
            "ponix_ingest_statuses_queued",
            "Statuses that wait to be written",
            self.statuses_queued.clone(),
        );
        registry.register(
            "ponix_ingest_statuses_dropped",
            "Statuses that found no room among those that wait",
            self.statuses_dropped.clone(),
        );
    }
}
