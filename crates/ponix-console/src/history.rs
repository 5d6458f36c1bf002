//! What the pipelines of a service did in the last hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use crate::sample::{Rates, Sample};

/// Time between two moments.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Moments that are kept: an hour.
const MOMENTS_MAX: usize = 720;

/// What the pipelines did until one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// By pipeline.
    pub pipelines: BTreeMap<String, Rates>,
}

/// The last hour, moment by moment.
#[derive(Debug, Default)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: Option<(Instant, Sample)>,
    moments: VecDeque<Moment>,
}

impl History {
    /// Adds what happened since the sample of before; there is none before the second.
    pub fn add(&self, sample: Sample) -> Option<Moment> {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, before)) = kept.latest.take() else {
            kept.latest = Some((now, sample));
            return None;
        };
        let rates = sample.pipelines().filter_map(|name| {
            let rates = sample.since(&before, now.duration_since(since), name)?;
            Some((name.to_owned(), rates))
        });
        let moment = Moment {
            time_ms: Timestamp::now().as_millisecond(),
            pipelines: rates.collect(),
        };
        kept.latest = Some((now, sample));
        if kept.moments.len() == MOMENTS_MAX {
            kept.moments.pop_front();
        }
        kept.moments.push_back(moment.clone());
        Some(moment)
    }

    /// Returns the latest moment; none before the second sample.
    pub fn latest(&self) -> Option<Moment> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.moments.back().cloned()
    }

    /// Returns all moments, the oldest first.
    pub fn moments(&self) -> Vec<Moment> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.moments.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        assert!(history.add(Sample::default()).is_none());
        for _ in 0..800 {
            tokio::time::advance(PERIOD).await;
            assert!(history.add(Sample::default()).is_some());
        }
        assert_eq!(history.moments().len(), MOMENTS_MAX);
    }
}
