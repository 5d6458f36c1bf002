//! Accepts connections, with a limit on everything a client may keep open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::{IngestConfig, TlsFiles};
use crate::metrics::IngestMetrics;
use crate::router::Peer;

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

/// Serves until `shutdown`, then lets open requests end.
///
/// # Errors
/// TLS cannot be set up. What happens on a connection is no error of the server's.
///
/// # Cancel safety
/// Not cancel safe: requests in work would break off. Cancel `shutdown` and wait.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &IngestConfig,
    metrics: IngestMetrics,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let connections = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(
        config.connections_max.min(Semaphore::MAX_PERMITS),
    ));
    let server = Server {
        router,
        tls,
        http: http(config),
        handshake_timeout: config.header_timeout,
        metrics,
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (server, watcher) = (server.clone(), connections.watcher());
                tokio::spawn(async move {
                    server.connection(stream, watcher).await;
                    drop(slot);
                });
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

fn http(config: &IngestConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(config.headers_max)
        .max_buf_size(config.header_bytes_max.max(8192));
    http
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    handshake_timeout: Duration,
    metrics: IngestMetrics,
}

impl Server {
    async fn connection(self, stream: TcpStream, watcher: Watcher) {
        let Ok(peer) = stream.peer_addr() else {
            return;
        };
        // Answers are small: waiting for more of them would only delay them.
        let _ = stream.set_nodelay(true);
        let peer = Peer(peer.ip().to_canonical());
        self.metrics.connections.inc();
        match &self.tls {
            None => self.http(stream, peer, watcher).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.handshake_timeout, tls.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    self.http(stream, peer, watcher).await;
                }
            }
        }
        self.metrics.connections.dec();
    }

    async fn http<S>(&self, stream: S, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        // A client that goes away in the middle is no event of ours.
        let _ = watcher.watch(connection).await;
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
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(ServeError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
