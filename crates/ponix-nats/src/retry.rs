//! Pauses between attempts, and errors with their causes on one line.

use std::time::Duration;

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

/// An error and its causes, separated by colons.
pub(crate) fn chain(err: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    let mut parts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some errors print their source themselves.
    parts.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..8).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(100));
        assert!(pauses[7] >= Duration::from_millis(500) && pauses[7] <= Duration::from_secs(1));
    }
}
