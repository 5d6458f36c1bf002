//! Accepts connections, with a limit on everything a client may keep open.

mod places;
mod stall;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig as TlsConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::places::{Place, Places};
use self::stall::Stall;
use crate::config::{ServerConfig, TlsFiles};
use crate::metrics::ServerMetrics;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// With an answer: its request came with a key that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithKey;

/// Why the server cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A PEM file cannot be read.
    #[error("{} cannot be used for TLS", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: tokio_rustls::rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("the certificate and its key cannot be used")]
    Certificate(#[source] tokio_rustls::rustls::Error),
}

/// Serves until `shutdown` and the delay after it, then lets open requests end.
///
/// # Errors
/// TLS cannot be set up. What happens on a connection is no error of the server's.
///
/// # Cancel safety
/// Not cancel safe: requests in work would break off. Cancel `shutdown` and wait.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &ServerConfig,
    metrics: ServerMetrics,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let connections = GracefulShutdown::new();
    let places = Places::new(config);
    let server = Server {
        router,
        tls,
        http: http(config),
        handshake_timeout: config.header_timeout,
        stall_timeout: config.stall_timeout,
        metrics,
    };
    let mut closing = std::pin::pin!(async {
        shutdown.cancelled().await;
        // A balancer that sees /ready red stops sending only a while after.
        tokio::time::sleep(config.close_delay).await;
    });
    loop {
        let accepted = tokio::select! {
            () = &mut closing => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, Some(place))) => {
                let (server, watcher) = (server.clone(), connections.watcher());
                tokio::spawn(server.connection(stream, peer, place, watcher));
            }
            Ok((_, peer, None)) => {
                server.metrics.refused.inc();
                tracing::debug!(%peer, "an address has too many connections");
            }
            Err(err) => {
                tracing::warn!(error = %err, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(config.drain_timeout, connections.shutdown()).await;
    if drained.is_err() {
        tracing::warn!("requests were still open when the time for them was over");
    }
    Ok(())
}

fn http(config: &ServerConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(config.headers_max)
        .max_buf_size(config.header_bytes_max.max(8192));
    http
}

/// Accepts a connection once there is a place for it; without one if its address has enough.
async fn accept(
    listener: &TcpListener,
    places: &Places,
) -> io::Result<(TcpStream, IpAddr, Option<Place>)> {
    let any = places.any().await;
    let (stream, peer) = listener.accept().await?;
    let peer = peer.ip().to_canonical();
    Ok((stream, peer, places.take(any, peer)))
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    handshake_timeout: Duration,
    stall_timeout: Duration,
    metrics: ServerMetrics,
}

impl Server {
    async fn connection(self, stream: TcpStream, peer: IpAddr, place: Place, watcher: Watcher) {
        // Answers are small: waiting for more of them would only delay them.
        let _ = stream.set_nodelay(true);
        self.metrics.connections.inc();
        let stream = Stall::new(stream, self.stall_timeout, self.metrics.stalled.clone());
        match &self.tls {
            None => self.http(stream, peer, place, watcher).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.handshake_timeout, tls.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    self.http(stream, peer, place, watcher).await;
                }
            }
        }
        self.metrics.connections.dec();
    }

    async fn http<S>(&self, stream: S, peer: IpAddr, place: Place, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (router, place) = (self.router.clone(), Arc::new(place));
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let (router, place) = (router.clone(), Arc::clone(&place));
            async move {
                let answered = router.oneshot(request).await;
                answered.map(|mut response| {
                    if response.extensions().get::<WithKey>().is_some() {
                        place.known();
                    } else if place.is_kept() {
                        let headers = response.headers_mut();
                        headers.insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    response
                })
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        // A client that goes away in the middle is no event of ours.
        let _ = watcher.watch(connection).await;
    }
}

impl TlsFiles {
    /// Reads both and sees that they fit each other.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn check(&self) -> Result<(), ServeError> {
        acceptor(self).map(drop)
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServeError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| ServeError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(wrong(&files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong(&files.key))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(ServeError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
