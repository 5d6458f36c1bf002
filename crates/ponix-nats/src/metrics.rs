//! Counters of this crate, updated once per batch.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Label set with the connection's role, `publish` or `consume`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConnectionLabel {
    pub(crate) connection: &'static str,
    pub(crate) event: &'static str,
}

/// Label set with the reason of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Counters of connections, publisher and batch consumer.
///
/// At any time received = acked + nakked + dead-lettered + in flight.
#[derive(Debug, Clone)]
pub struct NatsMetrics {
    pub(crate) connection_events: Family<ConnectionLabel, Counter>,
    pub(crate) published: Counter,
    pub(crate) publish_failures: Counter,
    pub(crate) received: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) acked: Counter,
    pub(crate) nakked: Counter,
    pub(crate) dead_lettered: Family<ReasonLabel, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) batches: Counter,
    pub(crate) batch_messages: Histogram,
    pub(crate) held_batches: Counter,
    pub(crate) pull_rebuilds: Family<ReasonLabel, Counter>,
    pub(crate) pending: Gauge,
}

impl NatsMetrics {
    /// Creates the counters and registers them under `ponix_nats_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        let r = registry.sub_registry_with_prefix("ponix_nats");
        let m = &metrics;
        r.register(
            "connection_events",
            "Connection state changes",
            m.connection_events.clone(),
        );
        r.register(
            "published_messages",
            "Messages with a PubAck",
            m.published.clone(),
        );
        r.register(
            "publish_failures",
            "Publishes without a PubAck",
            m.publish_failures.clone(),
        );
        r.register(
            "received_messages",
            "Messages handed to a batch",
            m.received.clone(),
        );
        r.register(
            "redelivered_messages",
            "Received messages the server had delivered before",
            m.redelivered.clone(),
        );
        r.register(
            "acked_messages",
            "Messages acked after processing",
            m.acked.clone(),
        );
        r.register(
            "nakked_messages",
            "Messages given back for redelivery",
            m.nakked.clone(),
        );
        r.register(
            "dead_lettered_messages",
            "Messages moved to the dead letters",
            m.dead_lettered.clone(),
        );
        r.register(
            "in_flight_messages",
            "Messages pulled and not yet settled",
            m.in_flight.clone(),
        );
        r.register(
            "in_flight_bytes",
            "Payload bytes pulled and not yet settled",
            m.in_flight_bytes.clone(),
        );
        r.register(
            "batches",
            "Batches handed to the processor",
            m.batches.clone(),
        );
        r.register(
            "batch_messages",
            "Messages per batch",
            m.batch_messages.clone(),
        );
        r.register(
            "held_batches",
            "Times a batch was held because the store could not take it",
            m.held_batches.clone(),
        );
        r.register(
            "pull_rebuilds",
            "Pulls that were set up again, by reason",
            m.pull_rebuilds.clone(),
        );
        r.register(
            "pending_messages",
            "Messages in the stream not yet delivered, as of the last delivery",
            m.pending.clone(),
        );
        metrics
    }

    /// Creates counters that nobody reads, for tests and tools.
    pub fn unregistered() -> Self {
        Self {
            connection_events: Family::default(),
            published: Counter::default(),
            publish_failures: Counter::default(),
            received: Counter::default(),
            redelivered: Counter::default(),
            acked: Counter::default(),
            nakked: Counter::default(),
            dead_lettered: Family::default(),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            batches: Counter::default(),
            batch_messages: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            held_batches: Counter::default(),
            pull_rebuilds: Family::default(),
            pending: Gauge::default(),
        }
    }

    /// Returns messages published with a PubAck so far.
    pub fn published(&self) -> u64 {
        self.published.get()
    }

    /// Returns publishes that ended without a PubAck so far.
    pub fn publish_failures(&self) -> u64 {
        self.publish_failures.get()
    }

    /// Returns messages received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Returns messages acked so far.
    pub fn acked(&self) -> u64 {
        self.acked.get()
    }

    /// Returns messages nakked so far.
    pub fn nakked(&self) -> u64 {
        self.nakked.get()
    }

    /// Returns messages dead-lettered so far for one reason, by its label.
    pub fn dead_lettered(&self, reason: crate::DeadLetterReason) -> u64 {
        self.dead_lettered
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .get()
    }

    /// Returns messages pulled and not yet settled.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Returns how often a batch was held because the store could not take it.
    pub fn held_batches(&self) -> u64 {
        self.held_batches.get()
    }

    /// Returns how often a pull was set up again, by reason.
    pub fn pull_rebuilds(&self, reason: crate::RebuildReason) -> u64 {
        self.pull_rebuilds
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .get()
    }
}
