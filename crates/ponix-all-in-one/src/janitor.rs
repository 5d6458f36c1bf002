//! Runs the janitor of the stream now and then.

use std::time::Duration;

use ponix_nats::Janitor;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ns;

/// Cleans once per period until `shutdown`.
pub(crate) async fn run(janitor: Janitor, period: Duration, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = shutdown.cancelled() => return,
        }
        match janitor.clean(now_ns()).await {
            Ok(0) => {}
            Ok(messages) => {
                tracing::info!(messages, "settled messages beyond the replay window purged");
            }
            Err(err) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::from(err)),
                    "the stream could not be cleaned"
                );
            }
        }
    }
}
