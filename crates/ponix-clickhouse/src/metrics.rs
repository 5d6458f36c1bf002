//! What the writer counts.

use std::sync::Arc;
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

/// Label set with a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    pipeline: Arc<str>,
}

/// Label set with a pipeline, and how an INSERT of it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    pipeline: Arc<str>,
    result: &'static str,
}

/// Label set with a pipeline, and why an INSERT of it was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    pipeline: Arc<str>,
    reason: &'static str,
}

/// A histogram from 1 ms to about 65 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

/// Counters of a pipeline's writers; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct ClickHouseMetrics {
    pipeline: Arc<str>,
    inserts: Family<ResultLabel, Counter>,
    rows: Family<PipelineLabel, Counter>,
    bytes: Family<PipelineLabel, Counter>,
    insert_seconds: Family<PipelineLabel, Histogram, fn() -> Histogram>,
    retries: Family<ReasonLabel, Counter>,
    rejected_rows: Family<PipelineLabel, Counter>,
    in_progress: Family<PipelineLabel, Gauge>,
}

impl Default for ClickHouseMetrics {
    /// Makes counters that no registry shows.
    fn default() -> Self {
        Self {
            pipeline: "".into(),
            inserts: Family::default(),
            rows: Family::default(),
            bytes: Family::default(),
            insert_seconds: Family::new_with_constructor(seconds),
            retries: Family::default(),
            rejected_rows: Family::default(),
            in_progress: Family::default(),
        }
    }
}

impl ClickHouseMetrics {
    /// Returns the same counters, those of this pipeline from now on, each there with 0.
    #[must_use]
    pub fn for_pipeline(&self, pipeline: &str) -> Self {
        let metrics = Self {
            pipeline: pipeline.into(),
            ..self.clone()
        };
        let label = metrics.label();
        for counter in [&metrics.rows, &metrics.bytes, &metrics.rejected_rows] {
            drop(counter.get_or_create(&label));
        }
        drop(metrics.in_progress.get_or_create(&label));
        metrics
    }

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
        self.inserts.get_or_create(&self.ended_as(result)).get()
    }

    /// Returns how many INSERTs were sent again for this reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries.get_or_create(&self.because(reason)).get()
    }

    /// Returns how many rows were stored, copies included.
    pub fn rows(&self) -> u64 {
        self.rows.get_or_create(&self.label()).get()
    }

    /// Returns how many rows were rejected.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected_rows.get_or_create(&self.label()).get()
    }

    pub(crate) fn insert_begins(&self) -> InProgress {
        let gauge = self.in_progress.get_or_create_owned(&self.label());
        gauge.inc();
        InProgress(gauge)
    }

    pub(crate) fn insert_stored(&self, rows: usize, bytes: usize, took: Duration) {
        let label = self.label();
        self.insert_ended(InsertResult::Ok, took);
        self.rows.get_or_create(&label).inc_by(rows as u64);
        self.bytes.get_or_create(&label).inc_by(bytes as u64);
    }

    pub(crate) fn insert_ended(&self, result: InsertResult, took: Duration) {
        self.inserts.get_or_create(&self.ended_as(result)).inc();
        self.insert_seconds
            .get_or_create(&self.label())
            .observe(took.as_secs_f64());
    }

    pub(crate) fn retry(&self, reason: RetryReason) {
        self.retries.get_or_create(&self.because(reason)).inc();
    }

    pub(crate) fn rows_rejected(&self, rows: usize) {
        self.rejected_rows
            .get_or_create(&self.label())
            .inc_by(rows as u64);
    }

    fn label(&self) -> PipelineLabel {
        let pipeline = Arc::clone(&self.pipeline);
        PipelineLabel { pipeline }
    }

    fn ended_as(&self, result: InsertResult) -> ResultLabel {
        ResultLabel {
            pipeline: Arc::clone(&self.pipeline),
            result: result.as_str(),
        }
    }

    fn because(&self, reason: RetryReason) -> ReasonLabel {
        ReasonLabel {
            pipeline: Arc::clone(&self.pipeline),
            reason: reason.as_str(),
        }
    }
}

/// An INSERT under way; it also ends when its future is dropped.
pub(crate) struct InProgress(Gauge);

impl Drop for InProgress {
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
        let metrics = ClickHouseMetrics::register(&mut registry).for_pipeline("a");
        metrics.insert_stored(10, 1_000, Duration::from_millis(5));
        metrics.insert_ended(ErrorKind::Rejected.into(), Duration::ZERO);
        metrics.retry(RetryReason::Bisected);
        drop(metrics.insert_begins());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes it");
        for line in [
            "ponix_clickhouse_inserts_total{pipeline=\"a\",result=\"ok\"} 1",
            "ponix_clickhouse_inserts_total{pipeline=\"a\",result=\"rejected\"} 1",
            "ponix_clickhouse_rows_total{pipeline=\"a\"} 10",
            "ponix_clickhouse_insert_bytes_total{pipeline=\"a\"} 1000",
            "ponix_clickhouse_insert_seconds_count{pipeline=\"a\"} 2",
            "ponix_clickhouse_retries_total{pipeline=\"a\",reason=\"bisected\"} 1",
            "ponix_clickhouse_rejected_rows_total{pipeline=\"a\"} 0",
            "ponix_clickhouse_inserts_in_progress{pipeline=\"a\"} 0",
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
