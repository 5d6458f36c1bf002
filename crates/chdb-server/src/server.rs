//! Accepts connections until told to stop, then lets the requests under way finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::Engine;
use crate::response::Identity;
use crate::service::Service;
use crate::spool::Room;

/// Time the cancelled statements get to notice, and their answers to be sent.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an error of `accept`, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every request was answered and the engine stopped.
    Cleanly,
    /// The time to finish was over and statements were cut off.
    CutOff,
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    service: Arc<Service>,
    config: Config,
}

impl Server {
    /// Boots the engine, then binds the address: who can connect can send statements.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let engine_config = config.engine.clone();
        let engine = tokio::task::spawn_blocking(move || Engine::boot(&engine_config)).await??;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let identity = Identity {
            greeting: engine.greeting().clone(),
            keep_alive: config.header_timeout,
        };
        let service = Arc::new(Service {
            engine: Arc::new(engine),
            users: config.users.clone(),
            places: Arc::new(Semaphore::new(config.statements_max)),
            queue_timeout: config.queue_timeout,
            send_timeout: config.send_timeout,
            room: Arc::new(Room::new(
                config.limits.folder.clone(),
                config.limits.memory_bytes_max,
                config.limits.body_memory_bytes_max,
            )),
            limits: config.limits.clone(),
            identity: Arc::new(identity),
        });
        Ok(Self {
            listener,
            service,
            config,
        })
    }

    /// The address it listens on, with the real port where the configuration says 0.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The version of the engine.
    pub fn engine_version(&self) -> &str {
        &self.service.engine.greeting().version
    }

    /// Serves until `stop`, then finishes what is under way and stops the engine.
    ///
    /// # Cancel safety
    /// Dropped, requests under way are cut off; what was answered is stored all the same.
    pub async fn run(self, stop: CancellationToken) -> Ended {
        let Self {
            listener,
            service,
            config,
        } = self;
        let connections = Arc::new(Semaphore::new(config.connections_max));
        let graceful = GracefulShutdown::new();
        loop {
            let place = Arc::clone(&connections).acquire_owned();
            let accepted = async {
                let place = place.await;
                (place, listener.accept().await)
            };
            let (place, stream) = tokio::select! {
                () = stop.cancelled() => break,
                (place, accepted) = accepted => match accepted {
                    Ok((stream, _)) => (place, stream),
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let connection = graceful
                .watcher()
                .watch(serve(stream, Arc::clone(&service), &config));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended early");
                }
                drop(place);
            });
        }
        drop(listener);
        tracing::info!(
            connections = graceful.count(),
            "finishing the requests under way"
        );
        let mut drain = std::pin::pin!(graceful.shutdown());
        let drained = tokio::time::timeout(config.shutdown_timeout, drain.as_mut())
            .await
            .is_ok();
        if !drained {
            cancel(&service.engine, drain).await;
        }
        finish(service, config.statements_max as u32, drained).await
    }
}

fn serve(
    stream: TcpStream,
    service: Arc<Service>,
    config: &Config,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + 'static {
    // Small answers must not wait for more of them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay not set");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(config.header_bytes_max)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| Arc::clone(&service).answer(request)),
        )
}

/// Cancels the statements that were late, and lets them be answered.
async fn cancel(engine: &Arc<Engine>, drain: impl Future<Output = ()>) {
    tracing::warn!("the time to finish is over, cancelling what still runs");
    let engine = Arc::clone(engine);
    let cancelled = tokio::task::spawn_blocking(move || engine.cancel_all()).await;
    if let Ok(Err(error)) = cancelled {
        tracing::warn!(%error, "statements were not cancelled");
    }
    if tokio::time::timeout(CANCEL_TIMEOUT, drain).await.is_err() {
        tracing::warn!("requests are cut off");
    }
}

/// Waits for the statements, a short time if they were late already, and stops the engine.
async fn finish(service: Arc<Service>, statements_max: u32, drained: bool) -> Ended {
    let all = service.places.acquire_many(statements_max);
    let ended = if drained {
        all.await.is_ok()
    } else {
        tokio::time::timeout(CANCEL_TIMEOUT, all)
            .await
            .is_ok_and(|all| all.is_ok())
    };
    if ended {
        let engine = Arc::clone(&service.engine);
        if let Err(error) = tokio::task::spawn_blocking(move || engine.shutdown()).await {
            tracing::warn!(%error, "the engine was not stopped");
        }
    }
    if ended && drained {
        Ended::Cleanly
    } else {
        Ended::CutOff
    }
}
