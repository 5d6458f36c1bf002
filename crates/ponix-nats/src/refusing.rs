//! Which streams of dead letters take nothing, by what they answered to the latest one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use crate::metrics::StreamLabel;

/// Time for which a refusal counts. What was refused is delivered again every few seconds, perhaps to
/// another worker, which then is the one to know.
const LASTS: Duration = Duration::from_mins(1);

/// Streams of dead letters, and when each refused the latest that it was given. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusing {
    streams: Arc<Mutex<BTreeMap<String, Option<Instant>>>>,
}

impl Refusing {
    /// Notes what a stream answered.
    pub(crate) fn set(&self, stream: &str, refuses: bool) {
        let refused_at = refuses.then(Instant::now);
        let mut streams = self.streams();
        match streams.get_mut(stream) {
            Some(known) => *known = refused_at,
            // Not told of before it has refused once.
            None if refuses => {
                streams.insert(stream.to_owned(), refused_at);
            }
            None => {}
        }
    }

    /// Returns the streams that take nothing.
    pub(crate) fn now(&self) -> Vec<String> {
        let streams = self.streams();
        let refusing = streams
            .iter()
            .filter(|(_, refused_at)| counts(**refused_at));
        refusing.map(|(stream, _)| stream.clone()).collect()
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Option<Instant>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counts(refused_at: Option<Instant>) -> bool {
    refused_at.is_some_and(|at| at.elapsed() < LASTS)
}

impl Collector for Refusing {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let name = "dead_letters_refused";
        let help = "1 while the dead letters take nothing, being full or gone";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (stream, refused_at) in self.streams().iter() {
            let label = StreamLabel::new(stream);
            let gauge = ConstGauge::new(i64::from(counts(*refused_at)));
            gauge.encode(family.encode_family(&label)?)?;
        }
        Ok(())
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
        registry.register_collector(Box::new(refusing.clone()));
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
