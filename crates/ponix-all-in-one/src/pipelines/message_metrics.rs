//! What the worker of the messages counts.

use ponix_postgres::{MessageOutcome, MessageRow};
use ponix_wire::now_ns;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of the worker. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct MessageMetrics {
    processed: Family<StatusLabel, Counter>,
    latency: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

impl MessageMetrics {
    /// Makes the counters and names them in `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            processed: Family::default(),
            // 1 ms to 9 hours: messages may wait for their database.
            latency: Histogram::new(exponential_buckets(0.001, 2.0, 26)),
        };
        registry.register(
            "ponix_messages_settled",
            "Raw messages that the worker has settled, by the status they got",
            metrics.processed.clone(),
        );
        registry.register(
            "ponix_messages_latency_seconds",
            "From a message's coming in to the commit of its rows",
            metrics.latency.clone(),
        );
        // Names of before, for a version.
        registry.register(
            "messages_processed",
            "Now ponix_messages_settled",
            metrics.processed.clone(),
        );
        registry.register(
            "message_processing_latency_seconds",
            "Now ponix_messages_latency_seconds",
            metrics.latency.clone(),
        );
        metrics
    }

    /// Counts a batch that is committed.
    pub(super) fn committed(&self, incoming: &[MessageRow], written: &[MessageOutcome]) {
        let now_ns = now_ns();
        for (message, written) in incoming.iter().zip(written) {
            let status = match written {
                MessageOutcome::Stored => {
                    let received_ns = message.received_at.unix_timestamp_nanos();
                    let waited_ns = i128::from(now_ns) - received_ns;
                    self.latency.observe(waited_ns.max(0) as f64 / 1e9);
                    "processed"
                }
                MessageOutcome::AlreadyDone => "already_processed",
                MessageOutcome::Refused { .. } => "failed",
                MessageOutcome::Retry { .. } => "processing",
            };
            self.processed.get_or_create(&StatusLabel { status }).inc();
        }
    }
}
