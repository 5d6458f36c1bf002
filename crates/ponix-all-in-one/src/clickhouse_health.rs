//! Asks ClickHouse now and then whether it is there, for `/readyz`.

use std::time::Duration;

use ponix_clickhouse::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(2);

/// Pings until `shutdown` and tells the result.
pub(crate) async fn watch(
    client: Client,
    health: watch::Sender<Result<(), String>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
        let result = client
            .ping()
            .await
            .map_err(|err| format!("{:#}", anyhow::Error::from(err)));
        health.send_if_modified(|last| {
            let changed = *last != result;
            if last.is_ok() != result.is_ok() {
                match &result {
                    Ok(()) => tracing::info!("clickhouse answers again"),
                    Err(error) => tracing::warn!(error, "clickhouse does not answer"),
                }
            }
            *last = result;
            changed
        });
    }
}
