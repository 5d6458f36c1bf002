//! What `/metrics` says.

use std::collections::BTreeMap;

/// Samples by name, labels included: `ponix_clickhouse_inserts_total{result="ok"}`.
#[derive(Debug, Clone)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text; lines that are no samples are left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// Sum of all samples of a name, whatever their labels; 0 where there is none.
    pub fn sum(&self, name: &str) -> u64 {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        let values = self.0.iter().filter(|(sample, _)| of_name(sample));
        values.map(|(_, value)| *value as u64).sum()
    }

    /// One sample, labels included; 0 for one that is not there.
    pub fn get(&self, sample: &str) -> u64 {
        self.0.get(sample).map_or(0, |value| *value as u64)
    }

    /// INSERTs that were sent, however they ended.
    pub fn inserts(&self) -> u64 {
        self.sum("ponix_clickhouse_inserts_total")
    }

    /// Messages acked.
    pub fn acked(&self) -> u64 {
        self.sum("ponix_nats_acked_messages_total")
    }

    /// Messages given back.
    pub fn nakked(&self) -> u64 {
        self.sum("ponix_nats_nakked_messages_total")
    }

    /// Messages moved to the dead letters.
    pub fn dead_lettered(&self) -> u64 {
        self.sum("ponix_nats_dead_lettered_messages_total")
    }

    /// Messages received that the server had delivered before.
    pub fn redelivered(&self) -> u64 {
        self.sum("ponix_nats_redelivered_messages_total")
    }

    /// Messages pulled and not yet settled.
    pub fn in_flight(&self) -> u64 {
        self.sum("ponix_nats_in_flight_messages")
    }

    /// Messages received, and what has become of them: both are the same.
    pub fn balance(&self) -> (u64, u64) {
        let settled = self.acked() + self.nakked() + self.dead_lettered() + self.in_flight();
        (self.sum("ponix_nats_received_messages_total"), settled)
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_summed_over_their_labels() {
        let metrics = Metrics::parse(
            "# TYPE x counter\nx_total{a=\"1\"} 3\nx_total{a=\"2\"} 1\nx_total_other 9\n",
        );
        assert_eq!(metrics.sum("x_total"), 4);
        assert_eq!(metrics.get("x_total{a=\"2\"}"), 1);
        assert_eq!((metrics.sum("missing"), metrics.get("x_total")), (0, 0));
    }
}
