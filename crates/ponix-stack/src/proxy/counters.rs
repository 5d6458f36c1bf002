//! What a proxy has seen.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has gone through a [`Proxy`](crate::Proxy) and what was broken, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCounters {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections that could not be taken to the server.
    pub unreachable: u64,
    /// Connections that were reset by the proxy, for whatever reason.
    pub resets: u64,
    /// Answers that were thrown away.
    pub responses_swallowed: u64,
    /// Bytes that were written to the server.
    pub bytes_to_server: u64,
    /// Bytes that were written to clients.
    pub bytes_to_client: u64,
    /// Bytes that were thrown away.
    pub bytes_swallowed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counting {
    accepted: AtomicU64,
    closed: AtomicU64,
    pub(super) unreachable: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) responses_swallowed: AtomicU64,
    pub(super) bytes_to_server: AtomicU64,
    pub(super) bytes_to_client: AtomicU64,
    pub(super) bytes_swallowed: AtomicU64,
}

impl Counting {
    pub(super) fn accepted(&self) {
        self.accepted.add(1);
    }

    pub(super) fn closed(&self) {
        self.closed.add(1);
    }

    pub(super) fn snapshot(&self) -> ProxyCounters {
        // Closed first: a connection that closes in between is then open, not less than none.
        let closed = self.closed.get();
        let accepted = self.accepted.get();
        ProxyCounters {
            accepted,
            open: accepted - closed,
            unreachable: self.unreachable.get(),
            resets: self.resets.get(),
            responses_swallowed: self.responses_swallowed.get(),
            bytes_to_server: self.bytes_to_server.get(),
            bytes_to_client: self.bytes_to_client.get(),
            bytes_swallowed: self.bytes_swallowed.get(),
        }
    }
}

pub(super) trait Counter {
    fn add(&self, count: u64);
    fn get(&self) -> u64;
}

impl Counter for AtomicU64 {
    fn add(&self, count: u64) {
        self.fetch_add(count, Ordering::SeqCst);
    }

    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }
}
