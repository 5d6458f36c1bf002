//! The HTTP client below the `clickhouse` crate, which has no connect timeout of its own.

use std::time::Duration;

use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};

use crate::ClickHouseConfig;

/// Well below the 10 s after which ClickHouse closes an idle connection, so that a request is not
/// sent into a connection that is just being closed. Servers before 23.11 closed after 3 s.
const POOL_IDLE: Duration = Duration::from_millis(2_500);

const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

/// Builds a client of the `clickhouse` crate that knows the transport and nothing else.
///
/// Plain `http` loads no certificates.
pub(crate) fn connect(config: &ClickHouseConfig) -> clickhouse::Client {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(config.connect_timeout));
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_nodelay(true);
    let mut pool = HyperClient::builder(TokioExecutor::new());
    pool.pool_idle_timeout(POOL_IDLE);

    if config.url.starts_with("https:") {
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        clickhouse::Client::with_http_client(pool.build(https))
    } else {
        clickhouse::Client::with_http_client(pool.build(tcp))
    }
}

fn tls() -> ClientConfig {
    // Built from the provider by hand: the process-wide default is not ours to set.
    let builder = |provider: CryptoProvider| {
        ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions of TLS")
    };
    match builder(ring::default_provider()).with_native_roots() {
        Ok(roots) => roots.with_no_client_auth(),
        // A container without ca-certificates has none.
        Err(_) => builder(ring::default_provider())
            .with_webpki_roots()
            .with_no_client_auth(),
    }
}
