//! Tries a step of the start-up again until it works.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;

use crate::remedy;

/// Pause between attempts, and so the least time between two log lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Repeats `step` while its error says that waiting may help and there is time.
///
/// # Errors
/// The first error that waiting does not mend, or the last one when the time is over.
///
/// # Cancel safety
/// As that of `step`.
pub(crate) async fn until_ready<T, E, F>(
    what: &'static str,
    deadline: Instant,
    is_transient: impl Fn(&E) -> bool,
    mut step: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    E: Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut attempts = 0_u32;
    loop {
        attempts += 1;
        let err = match step().await {
            Ok(value) => return Ok(value),
            Err(err) => err,
        };
        let waiting_helps = is_transient(&err);
        let error = format!("{:#}", anyhow::Error::from(err));
        let error = match remedy::of(&error) {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error,
        };
        if !waiting_helps {
            return Err(anyhow::Error::msg(error));
        }
        if Instant::now() + PAUSE >= deadline {
            let waited_secs = started.elapsed().as_secs();
            let context = format!("{what}: gave up after {attempts} attempts in {waited_secs} s");
            return Err(anyhow::Error::msg(error).context(context));
        }
        tracing::warn!(attempts, error, "{what}: not ready yet, trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
