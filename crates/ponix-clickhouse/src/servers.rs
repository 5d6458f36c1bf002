//! The servers of the configuration, and which of them is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{ErrorKind, RequestError};

/// Servers with the same tables. Clones share which one is asked.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    urls: Arc<[String]>,
    current: Arc<AtomicUsize>,
}

/// The server that a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(usize);

impl Servers {
    /// Begins with any of them, so that the instances of a service share them out.
    pub(crate) fn new(urls: &[&str]) -> Self {
        let urls: Arc<[String]> = urls.iter().map(|url| (*url).to_owned()).collect();
        let first = rand::random_range(0..urls.len().max(1));
        Self {
            urls,
            current: Arc::new(AtomicUsize::new(first)),
        }
    }

    /// Returns the server to ask, and its URL.
    pub(crate) fn current(&self) -> (Asked, &str) {
        let at = self.current.load(Ordering::Acquire);
        (Asked(at), &self.urls[at])
    }

    /// Turns to the next server when the one that was asked cannot do what another may; tells whether
    /// it did. Of several requests that fail on one server the first decides.
    pub(crate) fn failed(&self, asked: Asked, error: &RequestError) -> bool {
        let elsewhere = error.kind() == ErrorKind::Transient && !error.is_too_large();
        if self.urls.len() < 2 || !elsewhere {
            return false;
        }
        let next = (asked.0 + 1) % self.urls.len();
        let turned = self
            .current
            .compare_exchange(asked.0, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if turned {
            let (from, to) = (&self.urls[asked.0], &self.urls[next]);
            tracing::warn!(from, to, %error, "another server of clickhouse is asked");
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LATE: RequestError = RequestError::TimedOut {
        after: Duration::from_secs(1),
    };

    #[test]
    fn the_first_of_several_failures_turns_to_the_next_server() {
        let servers = Servers::new(&["a", "b", "c"]);
        let (asked, first) = servers.current();
        assert!(servers.failed(asked, &LATE));
        assert!(!servers.failed(asked, &LATE), "it was turned from already");
        let (next, second) = servers.current();
        assert_ne!(first, second);
        assert!(servers.failed(next, &LATE));
        let (last, _) = servers.current();
        assert!(servers.failed(last, &LATE));
        assert_eq!(servers.current().1, first, "and around");
    }

    #[test]
    fn what_no_other_would_do_differently_stays_where_it_is() {
        let servers = Servers::new(&["a", "b"]);
        let (asked, _) = servers.current();
        for text in ["Code: 60. x", "Code: 117. x", "Code: 241. x"] {
            assert!(
                !servers.failed(asked, &RequestError::from_text(text)),
                "{text}"
            );
        }
        for text in ["Code: 242. x", "Code: 999. x", "502 Bad Gateway"] {
            let (asked, _) = servers.current();
            assert!(
                servers.failed(asked, &RequestError::from_text(text)),
                "{text}"
            );
        }
        let one = Servers::new(&["a"]);
        assert!(!one.failed(one.current().0, &LATE));
    }
}
