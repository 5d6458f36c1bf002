//! What the crate counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::{ErrorKind, MessageOutcome, StoreError};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counters of everything that shares a pool; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct PostgresMetrics {
    messages: Family<ResultLabel, Counter>,
    batches: Family<ResultLabel, Counter>,
    rows: Counter,
    conflicts: Counter,
    splits: Counter,
    write_seconds: Histogram,
    pool_wait_seconds: Histogram,
    pool_connections: Gauge,
    pool_in_use: Gauge,
    pool_waiting: Gauge,
}

impl Default for PostgresMetrics {
    /// Makes counters that no registry shows.
    fn default() -> Self {
        // 0.5 ms to about 65 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_5, 2.0, 18));
        Self {
            messages: Family::default(),
            batches: Family::default(),
            rows: Counter::default(),
            conflicts: Counter::default(),
            splits: Counter::default(),
            write_seconds: seconds(),
            pool_wait_seconds: seconds(),
            pool_connections: Gauge::default(),
            pool_in_use: Gauge::default(),
            pool_waiting: Gauge::default(),
        }
    }
}

impl PostgresMetrics {
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
        let result = written.label();
        self.messages.get_or_create(&ResultLabel { result }).get()
    }

    /// Returns how many rows of entities were stored.
    pub fn rows(&self) -> u64 {
        self.rows.get()
    }

    /// Returns how many transactions were begun again.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.get()
    }

    /// Returns how often a batch was cut in two.
    pub fn splits(&self) -> u64 {
        self.splits.get()
    }

    pub(crate) fn committed(&self, written: &[MessageOutcome], rows: u64, took: Duration) {
        for message in written {
            let result = message.label();
            self.messages.get_or_create(&ResultLabel { result }).inc();
        }
        self.rows.inc_by(rows);
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
        self.batches.get_or_create(&ResultLabel { result }).inc();
        self.write_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.inc();
    }

    pub(crate) fn split(&self) {
        self.splits.inc();
    }

    pub(crate) fn pool(&self, status: &deadpool_postgres::Status, waited: Duration) {
        self.pool_wait_seconds.observe(waited.as_secs_f64());
        let in_use = status.size.saturating_sub(status.available);
        self.pool_connections.set(status.size as i64);
        self.pool_in_use.set(in_use as i64);
        self.pool_waiting.set(status.waiting as i64);
    }
}
