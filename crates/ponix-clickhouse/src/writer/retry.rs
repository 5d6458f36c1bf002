//! Pauses between retries, and what the log says of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ClickHouseConfig;
use crate::error::{InsertError, chain};

/// How often failures are logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Lets one line through in a while, for all writes of a writer together.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogGate(Arc<Mutex<Option<Instant>>>);

impl LogGate {
    fn opens(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opens = last.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if opens {
            *last = Some(Instant::now());
        }
        opens
    }
}

/// The failures since the last success.
#[derive(Debug)]
pub(crate) struct Retries {
    backoff_min: Duration,
    backoff_max: Duration,
    failures: u32,
    since: Option<Instant>,
    log_gate: LogGate,
    logged: bool,
    last: Option<InsertError>,
}

impl Retries {
    pub(crate) fn new(config: &ClickHouseConfig, log_gate: LogGate) -> Self {
        Self {
            backoff_min: config.retry_backoff_min,
            backoff_max: config.retry_backoff_max,
            failures: 0,
            since: None,
            log_gate,
            logged: false,
            last: None,
        }
    }

    /// Takes the last failure out.
    pub(crate) fn last(&mut self) -> Option<InsertError> {
        self.last.take()
    }

    /// Forgets the failures, and says so if they were logged.
    pub(crate) fn succeeded(&mut self) {
        if let (Some(since), true) = (self.since, self.logged) {
            let after_ms = since.elapsed().as_millis() as u64;
            tracing::info!(failures = self.failures, after_ms, "inserts pass again");
        }
        self.failures = 0;
        self.since = None;
        self.logged = false;
        self.last = None;
    }

    /// Waits after a failure, at most until the caller gives up.
    pub(crate) async fn pause(&mut self, error: InsertError, give_up: &CancellationToken) {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        let longest = longest(self.backoff_min, self.backoff_max, self.failures);
        let pause = rand::rng().random_range(longest / 2..=longest);
        if self.log_gate.opens() {
            self.logged = true;
            tracing::warn!(
                error = chain(&error),
                failures = self.failures,
                for_ms = since.elapsed().as_millis() as u64,
                pause_ms = pause.as_millis() as u64,
                "insert failed, trying again",
            );
        }
        self.last = Some(error);
        let _ = tokio::time::timeout(pause, give_up.cancelled()).await;
    }
}

/// Doubles with every failure, from the least to the most.
fn longest(min: Duration, max: Duration, failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    min.saturating_mul(doubled).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> InsertError {
        InsertError::TimedOut {
            after: Duration::from_mins(1),
        }
    }

    fn retries() -> Retries {
        Retries::new(&ClickHouseConfig::default(), LogGate::default())
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let ms = Duration::from_millis;
        let pauses = [1, 2, 3, 7, 8, 40].map(|n| longest(ms(100), ms(10_000), n));
        assert_eq!(pauses, [100, 200, 400, 6_400, 10_000, 10_000].map(ms));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_between_half_and_all_of_it() {
        let mut retries = retries();
        for _ in 0..10 {
            let begin = Instant::now();
            retries.pause(late(), &CancellationToken::new()).await;
            let longest = longest(retries.backoff_min, retries.backoff_max, retries.failures);
            // The paused clock moves in whole milliseconds.
            assert!(begin.elapsed() >= longest / 2, "{:?}", begin.elapsed());
            assert!(begin.elapsed() <= longest + Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_gets_one_line_in_ten_seconds() {
        let (one, other) = (LogGate::default(), LogGate::default());
        assert!(one.opens() && !one.opens() && !one.clone().opens() && other.opens());
        tokio::time::advance(LOG_EVERY).await;
        assert!(one.opens() && !one.opens());
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_ends_the_pause() {
        let mut retries = retries();
        retries.failures = 20;
        let give_up = CancellationToken::new();
        give_up.cancel();
        let begin = Instant::now();
        retries.pause(late(), &give_up).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(retries.last().is_some());
    }
}
