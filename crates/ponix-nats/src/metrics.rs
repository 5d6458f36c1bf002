//! Counters of this crate, updated once per batch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Label set with the stream that messages are taken from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StreamLabel {
    stream: String,
}

/// Label set with the stream, and the reason of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    stream: String,
    reason: &'static str,
}

/// Counters of connections and publisher, and those of every batch consumer.
#[derive(Debug, Clone)]
pub struct NatsMetrics {
    pub(crate) connection_events: Family<ConnectionLabel, Counter>,
    pub(crate) published: Counter,
    pub(crate) publish_failures: Counter,
    pub(crate) refusing: Refusing,
    received: Family<StreamLabel, Counter>,
    redelivered: Family<StreamLabel, Counter>,
    acked: Family<StreamLabel, Counter>,
    nakked: Family<StreamLabel, Counter>,
    dead_lettered: Family<ReasonLabel, Counter>,
    in_flight: Family<StreamLabel, Gauge>,
    in_flight_bytes: Family<StreamLabel, Gauge>,
    batches: Family<StreamLabel, Counter>,
    batch_messages: Family<StreamLabel, Histogram, fn() -> Histogram>,
    held_batches: Family<StreamLabel, Counter>,
    pull_rebuilds: Family<ReasonLabel, Counter>,
    pending: Family<StreamLabel, Gauge>,
}

/// Streams of dead letters that refuse what they are given, being full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusing {
    gauge: Family<StreamLabel, Gauge>,
    streams: Arc<Mutex<BTreeSet<String>>>,
}

impl Refusing {
    /// Notes what a stream answered to the latest dead letter.
    pub(crate) fn set(&self, stream: &str, refuses: bool) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if refuses {
            streams.insert(stream.to_owned())
        } else {
            streams.remove(stream)
        };
        if changed {
            let stream = stream.to_owned();
            let label = StreamLabel { stream };
            self.gauge.get_or_create(&label).set(i64::from(refuses));
        }
    }
}

/// Counters of one batch consumer, by the stream it takes from. Clones share them.
///
/// At any time received = acked + nakked + dead-lettered + in flight.
#[derive(Debug, Clone)]
pub struct ConsumerMetrics {
    stream: String,
    pub(crate) received: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) acked: Counter,
    pub(crate) nakked: Counter,
    dead_lettered: Family<ReasonLabel, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) batches: Counter,
    pub(crate) batch_messages: Histogram,
    pub(crate) held_batches: Counter,
    pull_rebuilds: Family<ReasonLabel, Counter>,
    pub(crate) pending: Gauge,
}

impl NatsMetrics {
    /// Returns the streams of dead letters that refused the latest one, being full: messages that
    /// cannot be stored stay in their source until there is room.
    pub fn refusing_dead_letters(&self) -> Vec<String> {
        let streams = self.refusing.streams.lock();
        let streams = streams.unwrap_or_else(PoisonError::into_inner);
        streams.iter().cloned().collect()
    }

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
            "dead_letters_refused",
            "1 while the dead letters take nothing, being full",
            m.refusing.gauge.clone(),
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
            refusing: Refusing::default(),
            received: Family::default(),
            redelivered: Family::default(),
            acked: Family::default(),
            nakked: Family::default(),
            dead_lettered: Family::default(),
            in_flight: Family::default(),
            in_flight_bytes: Family::default(),
            batches: Family::default(),
            batch_messages: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1.0, 4.0, 9))
            }),
            held_batches: Family::default(),
            pull_rebuilds: Family::default(),
            pending: Family::default(),
        }
    }

    /// Returns the counters of the consumer of a stream, which are there from now on.
    pub fn consumer(&self, stream: &str) -> ConsumerMetrics {
        let stream = stream.to_owned();
        let label = StreamLabel {
            stream: stream.clone(),
        };
        ConsumerMetrics {
            received: self.received.get_or_create_owned(&label),
            redelivered: self.redelivered.get_or_create_owned(&label),
            acked: self.acked.get_or_create_owned(&label),
            nakked: self.nakked.get_or_create_owned(&label),
            dead_lettered: self.dead_lettered.clone(),
            in_flight: self.in_flight.get_or_create_owned(&label),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&label),
            batches: self.batches.get_or_create_owned(&label),
            batch_messages: self.batch_messages.get_or_create_owned(&label),
            held_batches: self.held_batches.get_or_create_owned(&label),
            pull_rebuilds: self.pull_rebuilds.clone(),
            pending: self.pending.get_or_create_owned(&label),
            stream,
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
}

impl ConsumerMetrics {
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
            .get_or_create(&self.because(reason.as_str()))
            .get()
    }

    pub(crate) fn count_dead_letter(&self, reason: &'static str) {
        self.dead_lettered
            .get_or_create(&self.because(reason))
            .inc();
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
            .get_or_create(&self.because(reason.as_str()))
            .get()
    }

    pub(crate) fn count_rebuild(&self, reason: crate::RebuildReason) {
        self.pull_rebuilds
            .get_or_create(&self.because(reason.as_str()))
            .inc();
    }

    fn because(&self, reason: &'static str) -> ReasonLabel {
        ReasonLabel {
            stream: self.stream.clone(),
            reason,
        }
    }
}
