//! What a pipeline does, as a line now and then while it does something.

use std::time::Duration;

use ponix_nats::{ConsumerMetrics, NatsMetrics, StreamMetrics};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// A pipeline, and the counters that tell of it.
#[derive(Debug)]
pub(crate) struct Activity {
    pipeline: String,
    durable: String,
    counters: ConsumerMetrics,
    stream: StreamMetrics,
}

/// Events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Totals {
    received: u64,
    stored: u64,
    dead_letters: u64,
}

impl Activity {
    pub(crate) fn new(pipeline: &str, stream: &str, durable: &str, metrics: &NatsMetrics) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            durable: durable.to_owned(),
            counters: metrics.consumer(pipeline, stream),
            stream: metrics.stream(stream),
        }
    }

    /// Tells until `shutdown`, and once more then.
    pub(crate) async fn tell(self, shutdown: CancellationToken) {
        let (mut before, mut since) = (self.totals(), Instant::now());
        loop {
            let next = tokio::time::sleep(PERIOD);
            let ends = shutdown.run_until_cancelled(next).await.is_none();
            let (now, took) = (self.totals(), since.elapsed());
            if now != before {
                self.line(before, now, took);
            }
            if ends {
                return;
            }
            (before, since) = (now, Instant::now());
        }
    }

    fn totals(&self) -> Totals {
        Totals {
            received: self.counters.received_events(),
            stored: self.counters.acked_events(),
            dead_letters: self.counters.all_dead_lettered(),
        }
    }

    fn line(&self, before: Totals, now: Totals, took: Duration) {
        let rate = |count: u64| (count as f64 / took.as_secs_f64()).round();
        let lag = self.stream.lag_seconds(&self.durable);
        tracing::info!(
            pipeline = self.pipeline,
            events_per_s = rate(now.received - before.received),
            stored_per_s = rate(now.stored - before.stored),
            dead_letters = now.dead_letters - before.dead_letters,
            stored = now.stored,
            lag_s = lag.map(|lag| (lag * 10.0).round() / 10.0),
            "at work"
        );
    }
}
