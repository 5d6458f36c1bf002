//! A TCP proxy that breaks connections in chosen ways.

mod connection;
mod counters;
mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::ports;
use connection::Connection;
use counters::Counting;
pub use counters::ProxyCounters;

/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a [`Proxy`] does to the connections through it, those that are open and those that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Moves bytes as they come.
    Pass,
    /// Moves bytes this much later than they come, in both directions; the rate stays as it is.
    Latency(Duration),
    /// Moves at most this many bytes per second, at least one, in each direction of each connection.
    Rate(u64),
    /// Accepts, and moves nothing in either direction until the mode changes.
    Stall,
    /// Moves requests; answers wait until the mode changes.
    HoldResponses,
    /// Moves requests; throws the answer away and then resets the connection.
    ///
    /// The reset comes when the server has answered and then said nothing for 100 ms, so the server
    /// is done and its client cannot know. Connections without an answer stay open.
    SwallowResponse,
    /// As [`SwallowResponse`](Self::SwallowResponse), but only for requests that hold this text: until
    /// one comes, a connection moves both ways. `SwallowResponseTo("COMMIT")` loses what PostgreSQL
    /// answers to the end of a transaction.
    SwallowResponseTo(&'static str),
    /// Closes one direction for ever and keeps the other; see [`Side`].
    HalfClose(Side),
    /// Resets open connections, and new ones as soon as they are accepted.
    Reset,
    /// Refuses new connections; open ones go on ([`Proxy::cut`] ends them).
    Refuse,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client reads the end of the stream; what it still sends reaches the server.
    Client,
    /// The server reads the end of the stream; what it still sends reaches the client.
    Server,
}

/// What all connections watch.
#[derive(Debug, Clone, Copy)]
struct Control {
    mode: Mode,
    /// How often the mode was set.
    sets: u64,
    /// How often all connections were cut; a connection ends when it is no longer its number.
    cuts: u64,
}

/// A TCP proxy in front of any server, whose faults are switched at run time.
///
/// It knows nothing of the protocol. Its port is free, fixed for its life, and stays reserved while
/// connections are refused. It ends, with all its connections, when it is dropped or its runtime
/// ends.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use ponix_stack::{ClickHouse, Mode, Proxy};
///
/// let clickhouse = ClickHouse::start().await?;
/// let proxy = Proxy::start(clickhouse.addr()).await?;
/// let url = proxy.url("http"); // for the client under test
///
/// proxy.set(Mode::SwallowResponse).await;
/// // … the client inserts; the rows are there, the answer never comes …
/// proxy.set(Mode::Pass).await;
/// assert_eq!(proxy.counters().responses_swallowed, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    control: watch::Sender<Control>,
    /// How many settings of the mode new connections meet.
    applied: watch::Receiver<u64>,
    counting: Arc<Counting>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of loopback and connects what comes to `upstream`, which need not be
    /// there: a connection is then accepted and reset.
    ///
    /// # Errors
    ///
    /// No port could be bound.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let addr: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free()?).into();
        let listener = bind(addr)
            .await
            .with_context(|| format!("listen on {addr}"))?;
        let control = Control {
            mode: Mode::Pass,
            sets: 0,
            cuts: 0,
        };
        let (control, watched) = watch::channel(control);
        let (apply, applied) = watch::channel(0);
        let counting = Arc::<Counting>::default();
        let acceptor = Acceptor {
            addr,
            upstream,
            apply,
            counting: Arc::clone(&counting),
        };
        let accepting = tokio::spawn(acceptor.run(listener, watched)).abort_handle();
        Ok(Self {
            addr,
            control,
            applied,
            counting,
            accepting,
        })
    }

    /// Switches what is done to the connections. When it returns, new connections meet the new
    /// mode; open ones follow at once, but not before.
    ///
    /// # Cancel safety
    ///
    /// The mode is switched, whether or not it is waited for.
    pub async fn set(&self, mode: Mode) {
        let mut set = 0;
        self.control.send_modify(|control| {
            control.mode = mode;
            control.sets += 1;
            set = control.sets;
        });
        // Only fails when the runtime is going down; then there is nothing left to break.
        let _ = self
            .applied
            .clone()
            .wait_for(|applied| *applied >= set)
            .await;
    }

    /// The mode it is in.
    pub fn mode(&self) -> Mode {
        self.control.borrow().mode
    }

    /// Resets all open connections, whatever the mode.
    pub fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port clients connect to, on loopback.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The URL for clients: `proxy.url("nats")` is `nats://127.0.0.1:PORT`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.addr)
    }

    /// What has gone through and what was broken, since the start.
    pub fn counters(&self) -> ProxyCounters {
        self.counting.snapshot()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The task that accepts, or refuses to.
struct Acceptor {
    addr: SocketAddr,
    upstream: SocketAddr,
    apply: watch::Sender<u64>,
    counting: Arc<Counting>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener, mut control: watch::Receiver<Control>) {
        let mut listener = Some(listener);
        // Aborted together with this task.
        let mut connections = JoinSet::new();
        loop {
            let Control { mode, sets, .. } = *control.borrow_and_update();
            match mode {
                Mode::Refuse => listener = None,
                _ if listener.is_none() => listener = Some(self.listen_again().await),
                _ => {}
            }
            self.apply.send_replace(sets);
            tokio::select! {
                client = accept(listener.as_ref()) => {
                    self.counting.accepted();
                    connections.spawn(self.connection(client, &control).run());
                }
                Some(_) = connections.join_next() => {}
                changed = control.changed() => if changed.is_err() { return },
            }
        }
    }

    fn connection(&self, client: TcpStream, control: &watch::Receiver<Control>) -> Connection {
        let counting = Arc::clone(&self.counting);
        Connection::new(client, self.upstream, control.clone(), counting)
    }

    /// The port may linger with another socket for a moment; nobody but us wants it.
    async fn listen_again(&self) -> TcpListener {
        loop {
            match bind(self.addr).await {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::debug!(%error, addr = %self.addr, "proxy cannot listen yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// The next connection; never, where there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(error) => {
                // Out of file descriptors, most likely; trying at once would only burn time.
                tracing::debug!(%error, "proxy cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
