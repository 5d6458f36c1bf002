//! Which streams of dead letters take nothing, by what they answered to the latest one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::metrics::StreamLabel;

/// Time for which a refusal counts. What was refused is delivered again every few seconds, perhaps to
/// another worker, which then is the one to know.
const LASTS: Duration = Duration::from_mins(1);

/// Streams of dead letters that have refused one, and how each answered last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusing {
    gauge: Family<StreamLabel, Refusal>,
    streams: Arc<Mutex<BTreeMap<String, Refusal>>>,
}

/// When a stream refused the latest that it was given, if it did: a gauge that is 1 as long as that counts.
#[derive(Debug, Clone, Default)]
struct Refusal(Arc<Mutex<Option<Instant>>>);

impl Refusing {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "dead_letters_refused",
            "1 while the dead letters take nothing, being full or gone",
            self.gauge.clone(),
        );
    }

    /// Notes what a stream answered.
    pub(crate) fn set(&self, stream: &str, refuses: bool) {
        let mut streams = self.streams();
        if let Some(known) = streams.get(stream) {
            known.set(refuses);
        } else if refuses {
            // Not told of before it has refused once.
            let refusal = self.gauge.get_or_create_owned(&StreamLabel::new(stream));
            refusal.set(true);
            streams.insert(stream.to_owned(), refusal);
        }
    }

    /// Returns the streams that take nothing.
    pub(crate) fn now(&self) -> Vec<String> {
        let streams = self.streams();
        let refusing = streams.iter().filter(|(_, refusal)| refusal.counts());
        refusing.map(|(stream, _)| stream.clone()).collect()
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Refusal>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn set(&self, refuses: bool) {
        *self.at() = refuses.then(Instant::now);
    }

    fn counts(&self) -> bool {
        self.at().is_some_and(|at| at.elapsed() < LASTS)
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TypedMetric for Refusal {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Refusal {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&i64::from(self.counts()))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_until_one_is_taken_or_for_a_while() {
        let refusing = Refusing::default();
        let mut registry = Registry::default();
        refusing.register(&mut registry);
        let gauge = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string takes everything");
            let line = text
                .lines()
                .find(|line| line.starts_with("dead_letters_refused{"));
            line.map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        refusing.set("a", false);
        assert_eq!((refusing.now().len(), gauge()), (0, None));
        refusing.set("a", true);
        assert_eq!(
            (refusing.now(), gauge()),
            (vec!["a".into()], Some("1".into()))
        );
        refusing.set("a", false);
        assert_eq!((refusing.now().len(), gauge()), (0, Some("0".into())));
        refusing.set("a", true);
        tokio::time::advance(LASTS).await;
        assert_eq!((refusing.now().len(), gauge()), (0, Some("0".into())));
    }
}
