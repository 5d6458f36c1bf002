//! What all servers have in common.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

use crate::backend::Backend;
use crate::{http, ports};

/// How long a server may take to become ready when nothing else was set. Generous: a machine that
/// runs many tests at once is slow, and a server that ends is noticed at once anyway.
pub(crate) const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How often another free port is tried when somebody else was faster.
const PORT_TRIES: u32 = 5;
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// A running server: what [`Nats`](crate::Nats), [`ClickHouse`](crate::ClickHouse) and
/// [`Postgres`](crate::Postgres) have in common and lend their methods from.
///
/// All methods take `&self`, so that one task can break what others use. A server that is dropped
/// is killed, and its temporary folder goes with it.
#[derive(Debug)]
pub struct Server {
    backend: Backend,
    addr: SocketAddr,
    ready: Ready,
    start_timeout: Duration,
}

/// How to tell that a server is ready.
#[derive(Debug)]
pub(crate) enum Ready {
    /// A path that answers 200.
    Http { addr: SocketAddr, path: String },
    /// The same, and a client port that greets with `INFO`.
    Nats {
        monitoring: SocketAddr,
        path: String,
    },
    /// A PostgreSQL server that lets somebody log in, or asks for a password.
    Postgres,
}

impl Ready {
    async fn probe(&self, addr: SocketAddr) -> Result<()> {
        match self {
            Self::Http { addr, path } => http::get(*addr, path).await.map(drop),
            Self::Nats { monitoring, path } => {
                http::get(*monitoring, path).await?;
                crate::nats::greeting(addr).await
            }
            Self::Postgres => crate::postgres::accepts(addr).await,
        }
    }
}

impl Server {
    pub(crate) async fn start(
        backend: Backend,
        addr: SocketAddr,
        ready: Ready,
        start_timeout: Duration,
    ) -> Result<Self> {
        let server = Self {
            backend,
            addr,
            ready,
            start_timeout,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), on the same data and port, and
    /// waits until it is ready.
    ///
    /// # Errors
    ///
    /// It is running, ended before it was ready, or was not ready in time. The text ends with the
    /// last lines of its log.
    ///
    /// # Cancel safety
    ///
    /// It stays started, maybe not ready yet.
    pub async fn start_again(&self) -> Result<()> {
        self.backend.start().await?;
        self.wait_until_ready().await
    }

    /// Stops it if it is running, and starts it on the same data and port.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop) and [`start_again`](Self::start_again).
    pub async fn restart(&self) -> Result<()> {
        if self.backend.is_running() {
            self.backend.stop().await?;
        }
        self.start_again().await
    }

    /// Waits until it answers its probe; at once if it is ready.
    ///
    /// # Errors
    ///
    /// It ended or did not become ready in time; the text ends with the last lines of its log.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let probed = self.ready.probe(self.addr).await;
            if self.backend.has_ended().await {
                return Err(self.backend.failure("ended before it was ready"));
            }
            let Err(error) = probed else { return Ok(()) };
            if start.elapsed() > self.start_timeout {
                let timeout = self.start_timeout;
                return Err(self
                    .backend
                    .failure(format!("was not ready in {timeout:?}: {error:#}")));
            }
            sleep(PROBE_PAUSE).await;
        }
    }

    /// Asks it to end with SIGTERM and waits until it has; nothing to do if it has ended before.
    ///
    /// # Errors
    ///
    /// It did not end within 30 s and was killed.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.backend.stop().await
    }

    /// Ends it with SIGKILL and waits until it is gone; nothing to do if it has ended before.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.backend.kill().await
    }

    /// Stops it with SIGSTOP: connections stay open, nothing is answered.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub async fn pause(&self) -> Result<()> {
        self.backend.pause().await
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// It is not running.
    pub async fn resume(&self) -> Result<()> {
        self.backend.resume().await
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port clients connect to, on loopback. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Whether it was started and has not ended. A paused server is running.
    pub fn is_running(&self) -> bool {
        self.backend.is_running()
    }

    /// Its process id, while it runs; `None` for a container, as for all that is read from `/proc`.
    pub fn pid(&self) -> Option<u32> {
        self.backend.process()?.pid()
    }

    /// The most memory it has had in RAM since its start, in bytes; see
    /// [`Process::memory_peak_bytes`](crate::Process::memory_peak_bytes).
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.backend.process()?.memory_peak_bytes()
    }

    /// The memory it has in RAM now, in bytes; see [`Process::memory_bytes`](crate::Process::memory_bytes).
    pub fn memory_bytes(&self) -> Option<u64> {
        self.backend.process()?.memory_bytes()
    }

    /// The processor time it has used since its start; see [`Process::cpu_time`](crate::Process::cpu_time).
    pub fn cpu_time(&self) -> Option<Duration> {
        self.backend.process()?.cpu_time()
    }

    /// The folder of its data, configuration and log.
    pub fn folder(&self) -> &Path {
        self.backend.folder()
    }

    /// The file that takes its output, of all starts.
    pub fn log_path(&self) -> &Path {
        self.backend.log_path()
    }

    /// The last lines it has printed since its newest start.
    pub fn log_tail(&self) -> String {
        self.backend.log_tail()
    }
}

/// A port on loopback as an address.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts a server on a fixed port or on a free one.
///
/// Between picking a free port and listening on it somebody else may take it: then another one is
/// tried. A fixed port that is taken is an error.
pub(crate) async fn on_port<T, F>(fixed: Option<u16>, start: impl Fn(u16) -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>> + Send,
{
    if let Some(port) = fixed {
        if !ports::is_free(port) {
            bail!("port {port} is already in use on 127.0.0.1");
        }
        return start(port).await;
    }
    for _ in 1..PORT_TRIES {
        match start(ports::free()?).await {
            Err(error) if is_port_taken(&error) => {}
            result => return result,
        }
    }
    start(ports::free()?).await
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}")
        .to_lowercase()
        .contains("address already in use")
}
