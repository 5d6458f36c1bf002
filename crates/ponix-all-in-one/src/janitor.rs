//! Looks after a stream: purges, measures, warns.

use std::time::Duration;

use ponix_nats::{Cleaning, Janitor};
use ponix_wire::now_ns;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time between two looks: a stream may fill up between two purges that are due.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Looks after the stream until `shutdown`, and purges what has left the replay window once per
/// `period`.
pub(crate) async fn run(
    mut janitor: Janitor,
    period: Duration,
    warnings: watch::Sender<Vec<String>>,
    shutdown: CancellationToken,
) {
    let mut next_purge = Instant::now() + period;
    loop {
        let next = async {
            tokio::time::sleep(period.min(LOOK_PERIOD)).await;
            let due = Instant::now() >= next_purge;
            (janitor.clean(now_ns(), due).await, due)
        };
        let Some((cleaned, due)) = shutdown.run_until_cancelled(next).await else {
            return;
        };
        match cleaned {
            Ok(cleaning) => {
                if due {
                    next_purge = Instant::now() + period;
                }
                tell(&cleaning, &warnings);
            }
            Err(err) => {
                let error = format!("{:#}", anyhow::Error::from(err));
                tracing::warn!(error, "the stream could not be looked after");
            }
        }
    }
}

fn tell(cleaning: &Cleaning, warnings: &watch::Sender<Vec<String>>) {
    if cleaning.purged > 0 {
        let (messages, short_of_space) = (cleaning.purged, cleaning.short_of_space);
        tracing::info!(messages, short_of_space, "settled messages purged");
    }
    let known = warnings.send_replace(cleaning.warnings.clone());
    for warning in cleaning.warnings.iter().filter(|w| !known.contains(w)) {
        tracing::warn!("{warning}");
    }
}
