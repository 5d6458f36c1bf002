//! Waiting for something to become true, with a message that says what did not.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

use crate::watchdog;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What one probe of [`eventually`] may answer.
///
/// `true`, `Some` and `Ok` end the wait, whatever they hold; `false`, `None` and `Err` mean "not
/// yet". The text of an `Err` is kept for the message when time runs out, so `Err("17 of 20 rows")`
/// makes better failures than `false`.
pub trait Answer {
    /// What the wait returns once it has ended.
    type Value;

    /// Turns the answer into the value, or into what is still missing.
    fn into_result(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();

    fn into_result(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: Display> Answer for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Calls `probe` until it answers `true`, `Some` or `Ok`, and returns what that holds.
///
/// Probes follow each other with a short pause that grows from 5 ms to 100 ms. A probe that hangs
/// is given up together with the wait, so `timeout` holds whatever the probe does. There is always
/// one probe, also with a `timeout` of zero.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// use std::time::Duration;
/// use ponix_stack::eventually;
///
/// let mut rows = 0;
/// let seen = eventually("three rows", Duration::from_secs(5), || {
///     rows += 1;
///     async move { if rows == 3 { Ok(rows) } else { Err(format!("{rows} rows")) } }
/// })
/// .await?;
/// assert_eq!(seen, 3);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// After `timeout`: names `what`, the time, the number of probes and the last answer.
///
/// # Cancel safety
///
/// Dropping it drops the running probe.
pub async fn eventually<A, F, Fut>(
    what: impl Display + Send,
    timeout: Duration,
    mut probe: F,
) -> anyhow::Result<A::Value>
where
    A: Answer + Send,
    A::Value: Send,
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = A> + Send,
{
    watchdog::watch_this_test();
    let start = Instant::now();
    let deadline = start + timeout;
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    for probes in 1_u64.. {
        match timeout_at(deadline, probe()).await.map(Answer::into_result) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => last = Some(missing),
            Err(_) => {
                let before = last.map_or(String::new(), |last| format!("; before it: {last}"));
                bail!("waited {timeout:?} for {what}: probe {probes} was still running{before}");
            }
        }
        if Instant::now() + pause > deadline {
            let last = last.unwrap_or_default();
            bail!(
                "waited {:?} for {what}: {probes} probes, last answer: {last}",
                start.elapsed()
            );
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    unreachable!("the probes are not counted to the end of u64")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn returns_the_first_good_answer() {
        let mut left = 3;
        let value = eventually("zero", SHORT, || {
            left -= 1;
            async move { (left == 0).then_some("done") }
        })
        .await
        .unwrap();
        assert_eq!(value, "done");
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_was_missing() {
        let error = eventually("20 rows", SHORT, || async { Err::<(), _>("17 rows") })
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("for 20 rows"), "{error}");
        assert!(error.ends_with("last answer: 17 rows"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_probe_does_not_hang_the_wait() {
        let error = eventually("an answer", SHORT, std::future::pending::<bool>)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("probe 1 was still running"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_once_even_without_time() {
        eventually("now", Duration::ZERO, || async { true })
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn prints_the_whole_chain_of_an_error() {
        use anyhow::Context;
        let error = eventually("rows", SHORT, || async {
            Err::<(), _>(anyhow::anyhow!("refused")).context("ping")
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(error.ends_with("ping: refused"), "{error}");
    }
}
