//! Asks a store now and then whether it is there, for `/readyz`.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(2);
/// A server that hangs accepts connections and answers nothing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pings `store` until `shutdown` and tells the result.
pub(crate) async fn watch<E: Into<anyhow::Error>, F: Future<Output = Result<(), E>> + Send>(
    store: &'static str,
    ping: impl Fn() -> F + Send + Sync,
    health: watch::Sender<Result<(), String>>,
    shutdown: CancellationToken,
) {
    loop {
        let next = async {
            tokio::time::sleep(PERIOD).await;
            match tokio::time::timeout(TIMEOUT, ping()).await {
                Ok(result) => result.map_err(|err| format!("{:#}", err.into())),
                Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
            }
        };
        let Some(result) = shutdown.run_until_cancelled(next).await else {
            return;
        };
        health.send_if_modified(|last| {
            let changed = *last != result;
            if last.is_ok() != result.is_ok() {
                match &result {
                    Ok(()) => tracing::info!(store, "the store answers again"),
                    Err(error) => tracing::warn!(store, error, "the store does not answer"),
                }
            }
            *last = result;
            changed
        });
    }
}
