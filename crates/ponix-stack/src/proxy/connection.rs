//! One connection through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::counters::{Counter, Counting};
use super::pump::{End, Pump};
use super::{Control, Mode, Side};

pub(super) struct Connection {
    client: TcpStream,
    upstream: SocketAddr,
    control: watch::Receiver<Control>,
    counting: Arc<Counting>,
    /// The number of cuts when it was accepted.
    cuts: u64,
}

impl Connection {
    pub(super) fn new(
        client: TcpStream,
        upstream: SocketAddr,
        control: watch::Receiver<Control>,
        counting: Arc<Counting>,
    ) -> Self {
        let cuts = control.borrow().cuts;
        Self {
            client,
            upstream,
            control,
            counting,
            cuts,
        }
    }

    pub(super) async fn run(self) {
        let _closed = Closed(Arc::clone(&self.counting));
        let Self {
            mut client,
            upstream,
            mut control,
            counting,
            cuts,
        } = self;
        let must_end = |control: &Control| control.cuts != cuts || control.mode == Mode::Reset;
        if must_end(&control.borrow()) {
            return reset(&counting, [&client]);
        }
        let Ok(mut server) = TcpStream::connect(upstream).await else {
            counting.unreachable.add(1);
            return reset(&counting, [&client]);
        };
        // What the proxy moves must not wait for more to move.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));

        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let asked = AtomicBool::new(false);
        let pump = |side| Pump::new(side, control.clone(), &counting, &asked);
        let (to_server, to_client) = (
            pump(Side::Server).run(from_client, to_server),
            pump(Side::Client).run(from_server, to_client),
        );
        let ended = tokio::select! {
            ended = async { tokio::try_join!(to_server, to_client) } => ended,
            _ = control.wait_for(must_end) => Err(End::Reset),
        };
        if ended == Err(End::Reset) {
            reset(&counting, [&client, &server]);
        }
    }
}

/// Makes the close of these sockets a reset: the peer gets an error, not the end of the stream.
fn reset<const N: usize>(counting: &Counting, sockets: [&TcpStream; N]) {
    counting.resets.add(1);
    for socket in sockets {
        // Fails only on a socket that is dead already.
        let _ = socket.set_zero_linger();
    }
}

/// Counts the end of a connection, also when its task is aborted.
struct Closed(Arc<Counting>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed();
    }
}
