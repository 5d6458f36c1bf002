//! What the crate counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::{ErrorKind, MessageOutcome, StoreError};

/// Label set with a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    pipeline: Arc<str>,
}

/// Label set with a pipeline, and how something of it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    pipeline: Arc<str>,
    result: &'static str,
}

/// Counters of a pipeline, and those of the pool that all share; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct PostgresMetrics {
    pipeline: Arc<str>,
    messages: Family<ResultLabel, Counter>,
    batches: Family<ResultLabel, Counter>,
    rows: Family<PipelineLabel, Counter>,
    conflicts: Family<PipelineLabel, Counter>,
    splits: Family<PipelineLabel, Counter>,
    write_seconds: Family<PipelineLabel, Histogram, fn() -> Histogram>,
    pool_wait_seconds: Histogram,
    pool_connections: Gauge,
    pool_in_use: Gauge,
    pool_waiting: Gauge,
}

impl Default for PostgresMetrics {
    /// Makes counters that no registry shows.
    fn default() -> Self {
        Self {
            pipeline: "".into(),
            messages: Family::default(),
            batches: Family::default(),
            rows: Family::default(),
            conflicts: Family::default(),
            splits: Family::default(),
            write_seconds: Family::new_with_constructor(seconds),
            pool_wait_seconds: seconds(),
            pool_connections: Gauge::default(),
            pool_in_use: Gauge::default(),
            pool_waiting: Gauge::default(),
        }
    }
}

impl PostgresMetrics {
    /// Returns the same counters, those of this pipeline from now on.
    #[must_use]
    pub fn for_pipeline(&self, pipeline: &str) -> Self {
        Self {
            pipeline: pipeline.into(),
            ..self.clone()
        }
    }

    /// Makes the counters and shows them in a registry, as `ponix_postgres_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let part = registry.sub_registry_with_prefix("ponix_postgres");
        part.register(
            "messages",
            "Messages of batches that were committed, by what became of them",
            metrics.messages.clone(),
        );
        part.register(
            "batches",
            "Batches that ended, by how",
            metrics.batches.clone(),
        );
        part.register("rows", "Rows of entities stored", metrics.rows.clone());
        part.register(
            "conflicts",
            "Transactions begun again after they lost against another one",
            metrics.conflicts.clone(),
        );
        part.register(
            "splits",
            "Batches cut in two to find the messages that are refused",
            metrics.splits.clone(),
        );
        part.register_with_unit(
            "write",
            "Time from the first statement of a batch to the answer to its commit",
            Unit::Seconds,
            metrics.write_seconds.clone(),
        );
        part.register_with_unit(
            "pool_wait",
            "Time until a connection was there, connects included",
            Unit::Seconds,
            metrics.pool_wait_seconds.clone(),
        );
        part.register(
            "pool_connections",
            "Connections of the pool",
            metrics.pool_connections.clone(),
        );
        part.register(
            "pool_in_use",
            "Connections of the pool in use",
            metrics.pool_in_use.clone(),
        );
        part.register(
            "pool_waiting",
            "Operations that wait for a connection",
            metrics.pool_waiting.clone(),
        );
        metrics
    }

    /// Returns how many messages ended so in batches that were committed.
    pub fn messages(&self, written: &MessageOutcome) -> u64 {
        self.messages
            .get_or_create(&self.ended_as(written.label()))
            .get()
    }

    /// Returns how many rows of entities were stored.
    pub fn rows(&self) -> u64 {
        self.rows.get_or_create(&self.label()).get()
    }

    /// Returns how many transactions were begun again.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.get_or_create(&self.label()).get()
    }

    /// Returns how often a batch was cut in two.
    pub fn splits(&self) -> u64 {
        self.splits.get_or_create(&self.label()).get()
    }

    pub(crate) fn committed(&self, written: &[MessageOutcome], rows: u64, took: Duration) {
        for message in written {
            self.messages
                .get_or_create(&self.ended_as(message.label()))
                .inc();
        }
        self.rows.get_or_create(&self.label()).inc_by(rows);
        self.ended("ok", took);
    }

    pub(crate) fn failed(&self, error: &StoreError, took: Duration) {
        let result = match error.kind() {
            ErrorKind::Transient => "transient",
            ErrorKind::Fatal => "fatal",
        };
        self.ended(result, took);
    }

    fn ended(&self, result: &'static str, took: Duration) {
        self.batches.get_or_create(&self.ended_as(result)).inc();
        self.write_seconds
            .get_or_create(&self.label())
            .observe(took.as_secs_f64());
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.get_or_create(&self.label()).inc();
    }

    pub(crate) fn split(&self) {
        self.splits.get_or_create(&self.label()).inc();
    }

    fn label(&self) -> PipelineLabel {
        PipelineLabel {
            pipeline: Arc::clone(&self.pipeline),
        }
    }

    fn ended_as(&self, result: &'static str) -> ResultLabel {
        ResultLabel {
            pipeline: Arc::clone(&self.pipeline),
            result,
        }
    }

    pub(crate) fn pool(&self, status: &deadpool_postgres::Status, waited: Duration) {
        self.pool_wait_seconds.observe(waited.as_secs_f64());
        let in_use = status.size.saturating_sub(status.available);
        self.pool_connections.set(status.size as i64);
        self.pool_in_use.set(in_use as i64);
        self.pool_waiting.set(status.waiting as i64);
    }
}

/// A histogram from 0.5 ms to about 65 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}
