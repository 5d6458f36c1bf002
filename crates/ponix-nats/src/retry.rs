//! Pauses between attempts, and errors with their causes on one line.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Pauses that double up to a limit, each shortened by a random part.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// Returns the pause before the next attempt, between half and the whole of the current step.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(jitter())
    }
}

/// Returns the random part of a pause, from one half to one.
#[cfg(not(test))]
fn jitter() -> f64 {
    rand::random_range(0.5..=1.0)
}

/// The same pause every time, so that a seed of the model check is one run.
#[cfg(test)]
const fn jitter() -> f64 {
    0.75
}

/// Lets one line into the log in a while.
#[derive(Debug, Default)]
pub(crate) struct LogGate(Mutex<Option<Instant>>);

impl LogGate {
    const PERIOD: Duration = Duration::from_secs(10);

    pub(crate) fn opens(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opens = last.is_none_or(|at| at.elapsed() >= Self::PERIOD);
        if opens {
            *last = Some(Instant::now());
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_gets_one_line_in_ten_seconds() {
        let gate = LogGate::default();
        assert!(gate.opens() && !gate.opens());
        tokio::time::advance(LogGate::PERIOD).await;
        assert!(gate.opens() && !gate.opens());
    }

    #[test]
    fn pauses_grow_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..8).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(100));
        assert!(pauses[7] >= Duration::from_millis(500) && pauses[7] <= Duration::from_secs(1));
    }
}
