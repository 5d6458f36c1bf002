//! What `/metrics` of a service says of its pipelines, and what happened between two looks at it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::streams::PipelineStreams;

/// What the counters of a service said at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pipelines: BTreeMap<String, Counters>,
}

/// Counters of a pipeline, and what the server says of its consumer.
#[derive(Debug, Clone, Default)]
struct Counters {
    received: f64,
    stored: f64,
    dead_lettered: f64,
    given_back: f64,
    redelivered: f64,
    batches: f64,
    in_flight: f64,
    /// Events by the most seconds that they took, each bucket with all below it.
    latency: Vec<(f64, f64)>,
    pending: Option<f64>,
    lag_seconds: Option<f64>,
}

/// What a pipeline did between two samples, and where it stood at the second one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Events taken into batches, per second.
    pub received_per_s: f64,
    /// Events acked after they were stored, per second.
    pub stored_per_s: f64,
    /// Events moved to the dead letters, per second.
    pub dead_letters_per_s: f64,
    /// Messages given back to be delivered again, per second.
    pub given_back_per_s: f64,
    /// Messages received that had been delivered before, per second.
    pub redelivered_per_s: f64,
    /// Events of a batch, on average; `None` without a batch.
    pub batch_events: Option<f64>,
    /// Time from publishing to the ack that half of the messages needed at most, in seconds.
    pub latency_p50_s: Option<f64>,
    /// As `latency_p50_s`, of 99 in 100.
    pub latency_p99_s: Option<f64>,
    /// Messages received and not settled.
    pub in_flight: f64,
    /// Messages that are not delivered yet; `None` while the server has not been asked.
    pub pending: Option<f64>,
    /// Age of the oldest message that is not settled; `None` while the server has not been asked.
    pub lag_s: Option<f64>,
}

impl Sample {
    /// Reads the text of `/metrics`; of pipelines that it does not tell of there is nothing.
    pub fn read(text: &str, pipelines: &[PipelineStreams]) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| line.starts_with("ponix_nats_")) {
            if let Some((name, labels, value)) = parse(line) {
                sample.take(name, &labels, value, pipelines);
            }
        }
        sample
    }

    /// Names the pipelines that it tells of.
    pub fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.pipelines.keys().map(String::as_str)
    }

    /// Returns what a pipeline did since `before`; `None` when one of the two says nothing of it.
    /// After a restart between the two, what the service counted since.
    pub fn since(&self, before: &Self, took: Duration, pipeline: &str) -> Option<Rates> {
        let now = self.pipelines.get(pipeline)?;
        let none = Counters::default();
        let mut before = before.pipelines.get(pipeline)?;
        if now.received < before.received || now.stored < before.stored {
            before = &none;
        }
        let seconds = took.as_secs_f64().max(f64::EPSILON);
        let rate = |of: fn(&Counters) -> f64| (of(now) - of(before)).max(0.0) / seconds;
        let batches = now.batches - before.batches;
        let received = now.received - before.received;
        let latency: Vec<_> = now
            .latency
            .iter()
            .map(|(most, count)| {
                let old = before
                    .latency
                    .iter()
                    .find(|(bound, _)| bound.total_cmp(most).is_eq());
                (*most, count - old.map_or(0.0, |(_, count)| *count))
            })
            .collect();
        Some(Rates {
            received_per_s: rate(|one| one.received),
            stored_per_s: rate(|one| one.stored),
            dead_letters_per_s: rate(|one| one.dead_lettered),
            given_back_per_s: rate(|one| one.given_back),
            redelivered_per_s: rate(|one| one.redelivered),
            batch_events: (batches > 0.0).then(|| received / batches),
            latency_p50_s: quantile(&latency, 0.5),
            latency_p99_s: quantile(&latency, 0.99),
            in_flight: now.in_flight,
            pending: now.pending,
            lag_s: now.lag_seconds,
        })
    }

    fn take(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
        pipelines: &[PipelineStreams],
    ) {
        let label = |wanted: &str| {
            let found = labels.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| *value)
        };
        let name = name.trim_start_matches("ponix_nats_");
        if let Some(pipeline) = label("pipeline") {
            let counters = self.pipelines.entry(pipeline.to_owned()).or_default();
            match name {
                "received_events_total" => counters.received = value,
                "acked_events_total" => counters.stored = value,
                "dead_lettered_messages_total" => counters.dead_lettered += value,
                "nakked_messages_total" => counters.given_back = value,
                "redelivered_messages_total" => counters.redelivered = value,
                "batches_total" => counters.batches = value,
                "in_flight_messages" => counters.in_flight = value,
                "latency_seconds_bucket" => {
                    let most = label("le").and_then(|most| match most {
                        "+Inf" => Some(f64::INFINITY),
                        most => most.parse().ok(),
                    });
                    counters.latency.extend(most.map(|most| (most, value)));
                }
                _ => {}
            }
            return;
        }
        let (Some(stream), Some(consumer)) = (label("stream"), label("consumer")) else {
            return;
        };
        let of_consumer = |one: &&PipelineStreams| one.stream == stream && one.consumer == consumer;
        for pipeline in pipelines.iter().filter(of_consumer) {
            let counters = self.pipelines.entry(pipeline.name.clone()).or_default();
            match name {
                "pending_messages" => counters.pending = Some(value),
                "consumer_lag_seconds" => counters.lag_seconds = Some(value),
                _ => {}
            }
        }
    }
}

/// Returns the least bound below which this share of the events lies, between the bounds in
/// proportion; `None` without events, and the last bound for what lies beyond it.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let wanted = total * share;
    let mut below = (0.0, 0.0);
    for (most, count) in buckets {
        if *count >= wanted {
            if most.is_infinite() {
                return Some(below.0);
            }
            let part = (wanted - below.1) / (count - below.1).max(f64::EPSILON);
            return Some(below.0 + (most - below.0) * part);
        }
        below = (*most, *count);
    }
    Some(below.0)
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Reads `name{label="value",…} number`; labels of Ponix contain neither quotes nor backslashes.
fn parse(line: &str) -> Option<(&str, Labels<'_>, f64)> {
    let (name, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = name.split_once('{') else {
        return Some((name, Vec::new(), value));
    };
    let labels = labels.strip_suffix('}')?.split("\",");
    let labels = labels.filter_map(|text| {
        let (name, value) = text.split_once("=\"")?;
        Some((name, value.trim_end_matches('"')))
    });
    Some((name, labels.collect(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipelines() -> Vec<PipelineStreams> {
        vec![PipelineStreams {
            name: "a".into(),
            stream: "s".into(),
            consumer: "c".into(),
            dead_letters: "d".into(),
        }]
    }

    fn sample(received: u64, fast: u64, all: u64) -> Sample {
        let text = format!(
            "# TYPE ponix_nats_received_events counter\n\
             ponix_nats_received_events_total{{pipeline=\"a\",stream=\"s\"}} {received}\n\
             ponix_nats_acked_events_total{{pipeline=\"a\",stream=\"s\"}} {all}\n\
             ponix_nats_dead_lettered_messages_total{{pipeline=\"a\",stream=\"s\",reason=\"value\"}} 1\n\
             ponix_nats_dead_lettered_messages_total{{pipeline=\"a\",stream=\"s\",reason=\"decode\"}} 2\n\
             ponix_nats_batches_total{{pipeline=\"a\",stream=\"s\"}} {}\n\
             ponix_nats_latency_seconds_bucket{{le=\"1.0\",pipeline=\"a\",stream=\"s\"}} {fast}\n\
             ponix_nats_latency_seconds_bucket{{le=\"+Inf\",pipeline=\"a\",stream=\"s\"}} {all}\n\
             ponix_nats_pending_messages{{stream=\"s\",consumer=\"c\"}} 7\n\
             ponix_nats_pending_messages{{stream=\"s\",consumer=\"other\"}} 9\n\
             ponix_nats_consumer_lag_seconds{{stream=\"s\",consumer=\"c\"}} 1.5\n",
            received / 10
        );
        Sample::read(&text, &pipelines())
    }

    #[test]
    fn what_happened_is_the_difference() {
        let (before, now) = (sample(100, 50, 100), sample(300, 250, 300));
        let rates = now.since(&before, Duration::from_secs(2), "a").unwrap();
        assert_eq!((rates.received_per_s, rates.stored_per_s), (100.0, 100.0));
        assert_eq!((rates.batch_events, rates.pending), (Some(10.0), Some(7.0)));
        assert_eq!((rates.lag_s, rates.dead_letters_per_s), (Some(1.5), 0.0));
        assert_eq!(rates.latency_p50_s, Some(0.5));
        assert_eq!(now.since(&before, Duration::from_secs(2), "b"), None);
    }

    #[test]
    fn a_restart_between_two_samples_is_no_negative_rate() {
        let (before, now) = (sample(300, 250, 300), sample(100, 0, 100));
        let rates = now.since(&before, Duration::from_secs(10), "a").unwrap();
        assert_eq!(Some(rates.received_per_s), Some(10.0));
        // All lie beyond the last bound.
        assert_eq!(rates.latency_p99_s, Some(1.0));
    }

    #[test]
    fn no_events_have_no_latency() {
        let now = sample(100, 50, 100);
        let rates = now.since(&now, Duration::from_secs(1), "a").unwrap();
        assert_eq!((rates.latency_p50_s, rates.batch_events), (None, None));
    }
}
