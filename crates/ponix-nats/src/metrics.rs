//! Counters of this crate, updated once per batch.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::observation::Observation;
use crate::refusing::Refusing;

/// Label set with the connection's role, `publish` or `consume`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConnectionLabel {
    pub(crate) connection: &'static str,
    pub(crate) event: &'static str,
}

/// Label set with a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StreamLabel {
    stream: String,
}

impl StreamLabel {
    pub(crate) fn new(stream: &str) -> Self {
        let stream = stream.to_owned();
        Self { stream }
    }
}

/// Label set with a stage of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    pipeline: String,
    stream: String,
    stage: &'static str,
}

/// Label set with a pipeline, and the stream that it takes messages from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PipelineLabel {
    pipeline: String,
    stream: String,
}

/// Label set with the stream, and one of its consumers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConsumerLabel {
    stream: String,
    consumer: String,
}

/// Seconds, of a time or a duration.
type Seconds = Gauge<f64, AtomicU64>;

/// Label set with a pipeline and its stream, and the reason of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pipeline: String,
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
    received: Family<PipelineLabel, Counter>,
    received_events: Family<PipelineLabel, Counter>,
    redelivered: Family<PipelineLabel, Counter>,
    acked: Family<PipelineLabel, Counter>,
    acked_events: Family<PipelineLabel, Counter>,
    nakked: Family<PipelineLabel, Counter>,
    dead_lettered: Family<ReasonLabel, Counter>,
    in_flight: Family<PipelineLabel, Gauge>,
    in_flight_bytes: Family<PipelineLabel, Gauge>,
    batches: Family<PipelineLabel, Counter>,
    batch_messages: Family<PipelineLabel, Histogram, fn() -> Histogram>,
    latency: Family<PipelineLabel, Histogram, fn() -> Histogram>,
    stages: Family<StageLabel, Histogram, fn() -> Histogram>,
    held_batches: Family<PipelineLabel, Counter>,
    pull_rebuilds: Family<ReasonLabel, Counter>,
    stream_bytes: Family<StreamLabel, Gauge>,
    stream_bytes_max: Family<StreamLabel, Gauge>,
    stream_history: Family<StreamLabel, Seconds>,
    given_up: Family<StreamLabel, Counter>,
    pending: Family<ConsumerLabel, Gauge>,
    ack_pending: Family<ConsumerLabel, Gauge>,
    lag: Family<ConsumerLabel, Seconds>,
    last_ack: Family<ConsumerLabel, Seconds>,
    stuck: Family<ConsumerLabel, Seconds>,
}

/// What the server says about a stream and its durable consumers.
#[derive(Debug, Clone)]
pub struct StreamMetrics {
    stream: String,
    all: NatsMetrics,
    pub(crate) given_up: Counter,
}

/// Counters of the batch consumer of one pipeline. Clones share them.
///
/// At any time received = acked + nakked + dead-lettered + in flight; of packed messages, dead-lettered
/// counts events, and those with a stored event are acked all the same.
#[derive(Debug, Clone)]
pub struct ConsumerMetrics {
    label: PipelineLabel,
    pub(crate) received: Counter,
    pub(crate) received_events: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) acked: Counter,
    pub(crate) acked_events: Counter,
    pub(crate) nakked: Counter,
    dead_lettered: Family<ReasonLabel, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) batches: Counter,
    pub(crate) batch_messages: Histogram,
    /// Of each message, from its publishing to its ack.
    pub(crate) latency: Histogram,
    /// Of each batch, in the attempt that worked.
    pub(crate) decode_time: Histogram,
    /// As `decode_time`.
    pub(crate) write_time: Histogram,
    /// Of each batch.
    pub(crate) process_time: Histogram,
    /// Of each batch.
    pub(crate) settle_time: Histogram,
    pub(crate) held_batches: Counter,
    pull_rebuilds: Family<ReasonLabel, Counter>,
}

impl NatsMetrics {
    /// Returns the streams of dead letters that refused the latest one, being full or gone: messages
    /// that cannot be stored stay in their source meanwhile.
    pub fn refusing_dead_letters(&self) -> Vec<String> {
        self.refusing.now()
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
        m.refusing.register(r);
        r.register(
            "received_messages",
            "Messages handed to a batch",
            m.received.clone(),
        );
        r.register(
            "received_events",
            "Events handed to a batch: those that packed messages say they carry, and one of each other message",
            m.received_events.clone(),
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
            "acked_events",
            "Events of acked messages, without those that are dead letters",
            m.acked_events.clone(),
        );
        r.register(
            "nakked_messages",
            "Messages given back for redelivery",
            m.nakked.clone(),
        );
        r.register(
            "dead_lettered_messages",
            "Messages, and events of packed messages, moved to the dead letters",
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
            "latency_seconds",
            "From a message's publishing to its ack, after it was stored",
            m.latency.clone(),
        );
        r.register(
            "stage_seconds",
            "Time of a batch in a stage: decode (to rows that can be sent), write (to the store's answer), process (both, and holds), settle (acks and dead letters)",
            m.stages.clone(),
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
            "stream_bytes",
            "Bytes the stream holds",
            m.stream_bytes.clone(),
        );
        r.register(
            "stream_bytes_max",
            "Bytes the stream may hold; 0 without a limit",
            m.stream_bytes_max.clone(),
        );
        r.register(
            "stream_history_seconds",
            "Age of the oldest message the stream holds",
            m.stream_history.clone(),
        );
        r.register(
            "history_given_up_messages",
            "Settled messages purged inside of the replay window for want of space",
            m.given_up.clone(),
        );
        r.register(
            "pending_messages",
            "Messages the server has not delivered yet, by its word",
            m.pending.clone(),
        );
        r.register(
            "ack_pending_messages",
            "Messages delivered and not settled, over all workers, by the server's word",
            m.ack_pending.clone(),
        );
        r.register(
            "consumer_lag_seconds",
            "Age of the oldest message that is not settled; 0 when all are",
            m.lag.clone(),
        );
        r.register(
            "consumer_last_ack_timestamp_seconds",
            "Time of the newest ack the server knows of, seconds since 1970; 0 when none is known",
            m.last_ack.clone(),
        );
        r.register(
            "consumer_stuck_seconds",
            "Time for which a consumer has kept the janitor from purging without a move",
            m.stuck.clone(),
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
            received_events: Family::default(),
            redelivered: Family::default(),
            acked: Family::default(),
            acked_events: Family::default(),
            nakked: Family::default(),
            dead_lettered: Family::default(),
            in_flight: Family::default(),
            in_flight_bytes: Family::default(),
            batches: Family::default(),
            batch_messages: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1.0, 4.0, 9))
            }),
            // 5 ms to 11 hours: what waited for a store that was away shows as well.
            latency: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.005, 2.0, 24))
            }),
            stages: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 18))
            }),
            held_batches: Family::default(),
            pull_rebuilds: Family::default(),
            stream_bytes: Family::default(),
            stream_bytes_max: Family::default(),
            stream_history: Family::default(),
            given_up: Family::default(),
            pending: Family::default(),
            ack_pending: Family::default(),
            lag: Family::default(),
            last_ack: Family::default(),
            stuck: Family::default(),
        }
    }

    /// Returns the gauges of a stream.
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        let stream = stream.to_owned();
        let label = StreamLabel {
            stream: stream.clone(),
        };
        StreamMetrics {
            given_up: self.given_up.get_or_create_owned(&label),
            all: self.clone(),
            stream,
        }
    }

    /// Returns the counters of a pipeline that takes from a stream, which are there from now on.
    pub fn consumer(&self, pipeline: &str, stream: &str) -> ConsumerMetrics {
        let label = PipelineLabel {
            pipeline: pipeline.to_owned(),
            stream: stream.to_owned(),
        };
        ConsumerMetrics {
            received: self.received.get_or_create_owned(&label),
            received_events: self.received_events.get_or_create_owned(&label),
            redelivered: self.redelivered.get_or_create_owned(&label),
            acked: self.acked.get_or_create_owned(&label),
            acked_events: self.acked_events.get_or_create_owned(&label),
            nakked: self.nakked.get_or_create_owned(&label),
            dead_lettered: self.dead_lettered.clone(),
            in_flight: self.in_flight.get_or_create_owned(&label),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&label),
            batches: self.batches.get_or_create_owned(&label),
            batch_messages: self.batch_messages.get_or_create_owned(&label),
            latency: self.latency.get_or_create_owned(&label),
            decode_time: self.stage(&label, "decode"),
            write_time: self.stage(&label, "write"),
            process_time: self.stage(&label, "process"),
            settle_time: self.stage(&label, "settle"),
            held_batches: self.held_batches.get_or_create_owned(&label),
            pull_rebuilds: self.pull_rebuilds.clone(),
            label,
        }
    }

    fn stage(&self, of: &PipelineLabel, stage: &'static str) -> Histogram {
        self.stages.get_or_create_owned(&StageLabel {
            pipeline: of.pipeline.clone(),
            stream: of.stream.clone(),
            stage,
        })
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

impl StreamMetrics {
    /// Sets what was seen; `lags` are those of the durable consumers, in their order.
    pub(crate) fn set(&self, observation: &Observation, lags: &[Duration], now_ns: i64) {
        let (m, label) = (
            &self.all,
            StreamLabel {
                stream: self.stream.clone(),
            },
        );
        let (bytes, bytes_max) = (observation.state.bytes, observation.bytes_max.unwrap_or(0));
        m.stream_bytes.get_or_create(&label).set(signed(bytes));
        m.stream_bytes_max
            .get_or_create(&label)
            .set(signed(bytes_max));
        let history = observation.history(now_ns).as_secs_f64();
        m.stream_history.get_or_create(&label).set(history);
        for (consumer, lag) in observation.durables.iter().zip(lags) {
            let label = self.consumer(&consumer.name);
            let last_ack = consumer.ack_floor.last_active;
            let last_ack = last_ack.map_or(0.0, |time| time.unix_timestamp_nanos() as f64 / 1e9);
            m.pending
                .get_or_create(&label)
                .set(signed(consumer.num_pending));
            m.ack_pending
                .get_or_create(&label)
                .set(signed(consumer.num_ack_pending as u64));
            m.lag.get_or_create(&label).set(lag.as_secs_f64());
            m.last_ack.get_or_create(&label).set(last_ack);
        }
    }

    /// Returns the age of the oldest message that a durable consumer has not settled, in seconds;
    /// `None` before anybody has looked.
    pub fn lag_seconds(&self, consumer: &str) -> Option<f64> {
        let lag = self.all.lag.get(&self.consumer(consumer));
        lag.map(|seconds| seconds.get())
    }

    pub(crate) fn set_stuck(&self, consumer: &str, stuck: Duration) {
        let label = self.consumer(consumer);
        self.all
            .stuck
            .get_or_create(&label)
            .set(stuck.as_secs_f64());
    }

    /// Forgets a consumer that is gone.
    pub(crate) fn remove(&self, consumer: &str) {
        let label = self.consumer(consumer);
        self.all.pending.remove(&label);
        self.all.ack_pending.remove(&label);
        self.all.lag.remove(&label);
        self.all.last_ack.remove(&label);
        self.all.stuck.remove(&label);
    }

    fn consumer(&self, consumer: &str) -> ConsumerLabel {
        ConsumerLabel {
            stream: self.stream.clone(),
            consumer: consumer.to_owned(),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl ConsumerMetrics {
    /// Returns the pipeline's name.
    pub(crate) fn pipeline(&self) -> &str {
        &self.label.pipeline
    }

    /// Returns messages received so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Returns events received so far.
    pub fn received_events(&self) -> u64 {
        self.received_events.get()
    }

    /// Returns events of acked messages so far, without those that are dead letters.
    pub fn acked_events(&self) -> u64 {
        self.acked_events.get()
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

    /// Returns messages dead-lettered so far, for whatever reason.
    pub fn all_dead_lettered(&self) -> u64 {
        let reasons = crate::DeadLetterReason::ALL.into_iter();
        reasons.map(|reason| self.dead_lettered(reason)).sum()
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
        let PipelineLabel { pipeline, stream } = self.label.clone();
        ReasonLabel {
            pipeline,
            stream,
            reason,
        }
    }
}
