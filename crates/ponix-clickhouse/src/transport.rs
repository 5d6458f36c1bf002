//! HTTP: the client below the `clickhouse` crate, which has no connect timeout of its own, and the
//! one that INSERTs go through.

mod frames;
mod insert;

use std::time::Duration;

use hyper::Request;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client as HyperClient, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};

pub(crate) use self::frames::Frames;
pub(crate) use self::insert::insert;
use crate::ClickHouseConfig;

/// Well below the 10 s after which ClickHouse closes an idle connection, so that a request is not
/// sent into a connection that is just being closed. Servers before 23.11 closed after 3 s.
const POOL_IDLE: Duration = Duration::from_millis(2_500);

const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

/// Builds a client of the `clickhouse` crate that knows the transport and nothing else.
pub(crate) fn connect(config: &ClickHouseConfig) -> clickhouse::Client {
    match connector(config) {
        Connector::Plain(tcp) => clickhouse::Client::with_http_client(pool().build(tcp)),
        Connector::Tls(https) => clickhouse::Client::with_http_client(pool().build(https)),
    }
}

/// The connections that INSERTs go through. Clones share them.
#[derive(Clone)]
pub(crate) enum Pool {
    Plain(HyperClient<HttpConnector, Frames>),
    Tls(HyperClient<HttpsConnector<HttpConnector>, Frames>),
}

impl Pool {
    pub(crate) fn new(config: &ClickHouseConfig) -> Self {
        match connector(config) {
            Connector::Plain(tcp) => Self::Plain(pool().build(tcp)),
            Connector::Tls(https) => Self::Tls(pool().build(https)),
        }
    }

    fn request(&self, request: Request<Frames>) -> ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        }
    }
}

enum Connector {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

/// Plain `http` loads no certificates.
fn connector(config: &ClickHouseConfig) -> Connector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(config.connect_timeout));
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_nodelay(true);
    if !crate::config::is_tls(&config.url) {
        return Connector::Plain(tcp);
    }
    tcp.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls())
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Connector::Tls(https)
}

fn pool() -> Builder {
    let mut pool = HyperClient::builder(TokioExecutor::new());
    pool.pool_idle_timeout(POOL_IDLE);
    pool
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
