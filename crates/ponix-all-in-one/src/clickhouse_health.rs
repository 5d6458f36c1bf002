//! Asks ClickHouse now and then whether it is there, for `/readyz`.

use std::time::Duration;

use ponix_clickhouse::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(2);
/// A server that hangs accepts connections and answers nothing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pings until `shutdown` and tells the result.
pub(crate) async fn watch(
    client: Client,
    health: watch::Sender<Result<(), String>>,
    shutdown: CancellationToken,
) {
    loop {
        let next = async {
            tokio::time::sleep(PERIOD).await;
            ping(&client).await
        };
        let Some(result) = shutdown.run_until_cancelled(next).await else {
            return;
        };
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

async fn ping(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, client.ping()).await {
        Ok(result) => result.map_err(|err| format!("{:#}", anyhow::Error::from(err))),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}
