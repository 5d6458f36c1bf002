//! What the writer counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::ErrorKind;

/// How an INSERT ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InsertResult {
    /// Stored.
    Ok,
    /// Failed and may pass later.
    Transient,
    /// Refused for its rows.
    Rejected,
    /// Refused whatever its rows.
    Fatal,
}

impl InsertResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Transient => "transient",
            Self::Rejected => "rejected",
            Self::Fatal => "fatal",
        }
    }
}

impl From<ErrorKind> for InsertResult {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Transient => Self::Transient,
            ErrorKind::Rejected => Self::Rejected,
            ErrorKind::Fatal => Self::Fatal,
        }
    }
}

/// Why an INSERT was sent again, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// The same rows after a failure that may pass.
    Transient,
    /// Half of the rows each, since the server lacked memory for all.
    Halved,
    /// Some of the rows, to find those that are refused.
    Bisected,
    /// A single row once more, before it is rejected.
    Confirmed,
}

impl RetryReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Halved => "halved",
            Self::Bisected => "bisected",
            Self::Confirmed => "confirmed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl From<InsertResult> for ResultLabel {
    fn from(result: InsertResult) -> Self {
        let result = result.as_str();
        Self { result }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl From<RetryReason> for ReasonLabel {
    fn from(reason: RetryReason) -> Self {
        let reason = reason.as_str();
        Self { reason }
    }
}

/// Counters of all writers that share them; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct ClickHouseMetrics {
    inserts: Family<ResultLabel, Counter>,
    rows: Counter,
    bytes: Counter,
    insert_seconds: Histogram,
    retries: Family<ReasonLabel, Counter>,
    rejected_rows: Counter,
    in_progress: Gauge,
}

impl Default for ClickHouseMetrics {
    /// Makes counters that no registry shows.
    fn default() -> Self {
        Self {
            inserts: Family::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
            // 1 ms to about 65 s.
            insert_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            retries: Family::default(),
            rejected_rows: Counter::default(),
            in_progress: Gauge::default(),
        }
    }
}

impl ClickHouseMetrics {
    /// Makes the counters and shows them in a registry, as `ponix_clickhouse_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let part = registry.sub_registry_with_prefix("ponix_clickhouse");
        part.register(
            "inserts",
            "INSERTs that ended, by how",
            metrics.inserts.clone(),
        );
        part.register(
            "rows",
            "Rows of INSERTs that were stored",
            metrics.rows.clone(),
        );
        part.register(
            "insert_bytes",
            "Bytes of INSERTs that were stored, before compression",
            metrics.bytes.clone(),
        );
        part.register_with_unit(
            "insert",
            "Time from the first byte of an INSERT to the end of its answer",
            Unit::Seconds,
            metrics.insert_seconds.clone(),
        );
        part.register(
            "retries",
            "INSERTs sent again, by why",
            metrics.retries.clone(),
        );
        part.register(
            "rejected_rows",
            "Rows that ClickHouse refuses to store",
            metrics.rejected_rows.clone(),
        );
        part.register(
            "inserts_in_progress",
            "INSERTs under way",
            metrics.in_progress.clone(),
        );
        metrics
    }

    /// Returns how many INSERTs ended so.
    pub fn inserts(&self, result: InsertResult) -> u64 {
        self.inserts.get_or_create(&result.into()).get()
    }

    /// Returns how many INSERTs were sent again for this reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries.get_or_create(&reason.into()).get()
    }

    /// Returns how many rows were stored, copies included.
    pub fn rows(&self) -> u64 {
        self.rows.get()
    }

    /// Returns how many rows were rejected.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected_rows.get()
    }

    pub(crate) fn insert_begins(&self) -> InProgress<'_> {
        self.in_progress.inc();
        InProgress(&self.in_progress)
    }

    pub(crate) fn insert_stored(&self, rows: usize, bytes: usize, took: Duration) {
        self.insert_ended(InsertResult::Ok, took);
        self.rows.inc_by(rows as u64);
        self.bytes.inc_by(bytes as u64);
    }

    pub(crate) fn insert_ended(&self, result: InsertResult, took: Duration) {
        self.inserts.get_or_create(&result.into()).inc();
        self.insert_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn retry(&self, reason: RetryReason) {
        self.retries.get_or_create(&reason.into()).inc();
    }

    pub(crate) fn rows_rejected(&self, rows: usize) {
        self.rejected_rows.inc_by(rows as u64);
    }
}

/// An INSERT under way; it also ends when its future is dropped.
pub(crate) struct InProgress<'a>(&'a Gauge);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_shows_the_names_of_the_house() {
        let mut registry = Registry::default();
        let metrics = ClickHouseMetrics::register(&mut registry);
        metrics.insert_stored(10, 1_000, Duration::from_millis(5));
        metrics.insert_ended(ErrorKind::Rejected.into(), Duration::ZERO);
        metrics.retry(RetryReason::Bisected);
        drop(metrics.insert_begins());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes it");
        for line in [
            "ponix_clickhouse_inserts_total{result=\"ok\"} 1",
            "ponix_clickhouse_inserts_total{result=\"rejected\"} 1",
            "ponix_clickhouse_rows_total 10",
            "ponix_clickhouse_insert_bytes_total 1000",
            "ponix_clickhouse_insert_seconds_count 2",
            "ponix_clickhouse_retries_total{reason=\"bisected\"} 1",
            "ponix_clickhouse_rejected_rows_total 0",
            "ponix_clickhouse_inserts_in_progress 0",
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
