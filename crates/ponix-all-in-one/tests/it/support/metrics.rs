//! What `/metrics` says.

use std::collections::BTreeMap;

/// Samples by name, labels included: `ponix_clickhouse_inserts_total{result="ok"}`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Self(samples.map(sample).collect())
    }

    /// Sum of all samples of a name, whatever their labels.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        let values = self.0.iter().filter(|(sample, _)| of_name(sample));
        values.map(|(_, value)| *value as u64).sum()
    }

    /// One sample, labels included; 0 for one that is not there.
    pub(crate) fn get(&self, sample: &str) -> u64 {
        self.0.get(sample).map_or(0, |value| *value as u64)
    }

    pub(crate) fn inserts(&self) -> u64 {
        self.get(r#"ponix_clickhouse_inserts_total{result="ok"}"#)
    }

    pub(crate) fn acked(&self) -> u64 {
        self.sum("ponix_nats_acked_messages_total")
    }

    /// Messages received, and what has become of them.
    pub(crate) fn balance(&self) -> (u64, u64) {
        let settled = self.acked()
            + self.sum("ponix_nats_nakked_messages_total")
            + self.sum("ponix_nats_dead_lettered_messages_total")
            + self.sum("ponix_nats_in_flight_messages");
        (self.sum("ponix_nats_received_messages_total"), settled)
    }
}
