//! Sessions: connections that outlive a statement, so that `SET`, `USE` and temporary tables last.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::exception::{Exception, codes};
use crate::ffi::Connection;
use crate::request::SessionParameters;

/// The open sessions of a server, by their names.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    sessions_max: usize,
}

#[derive(Debug)]
struct Session {
    /// `None` while a statement runs in it.
    connection: Option<Connection>,
    timeout: Duration,
    idle_since: Instant,
}

impl Sessions {
    /// At most `sessions_max` at a time.
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self {
            open: Mutex::default(),
            sessions_max,
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection of a session, for one statement; a new session gets one from `connect`.
    pub(crate) fn take(
        &self,
        wanted: &SessionParameters,
        now: Instant,
        connect: impl FnOnce() -> Result<Connection, Exception>,
    ) -> Result<Connection, Exception> {
        self.close_idle(now);
        let mut open = self.open();
        if let Some(session) = open.get_mut(&wanted.id) {
            session.timeout = wanted.timeout;
            return session.connection.take().ok_or_else(|| locked(&wanted.id));
        }
        if wanted.check {
            return Err(not_found(&wanted.id));
        }
        if open.len() >= self.sessions_max {
            return Err(too_many(self.sessions_max));
        }
        let connection = connect()?;
        open.insert(
            wanted.id.clone(),
            Session {
                connection: None,
                timeout: wanted.timeout,
                idle_since: now,
            },
        );
        Ok(connection)
    }

    /// Gives a connection back after its statement.
    pub(crate) fn give_back(&self, id: &str, connection: Connection, now: Instant) {
        if let Some(session) = self.open().get_mut(id) {
            session.connection = Some(connection);
            session.idle_since = now;
        }
    }

    /// Ends a session whose connection is taken.
    pub(crate) fn forget(&self, id: &str) {
        self.open().remove(id);
    }

    /// Closes what nobody used for as long as its client said.
    fn close_idle(&self, now: Instant) {
        let closed: Vec<_> = {
            let mut open = self.open();
            let expired = |session: &Session| {
                session.connection.is_some()
                    && now.duration_since(session.idle_since) > session.timeout
            };
            open.extract_if(|_, session| expired(session)).collect()
        };
        // Closing takes a while: not under the lock.
        drop(closed);
    }

    /// Closes all that are idle.
    pub(crate) fn close_all(&self) {
        let closed = std::mem::take(&mut *self.open());
        drop(closed);
    }
}

fn locked(id: &str) -> Exception {
    let message = format!("Session {id} is locked by a concurrent client");
    Exception::new(codes::SESSION_IS_LOCKED, "SESSION_IS_LOCKED", message)
}

fn not_found(id: &str) -> Exception {
    Exception::new(
        codes::SESSION_NOT_FOUND,
        "SESSION_NOT_FOUND",
        format!("Session {id} not found"),
    )
}

fn too_many(sessions_max: usize) -> Exception {
    let message = format!("Too many sessions: {sessions_max} are open, the limit of this server");
    Exception::new(
        codes::TOO_MANY_SIMULTANEOUS_QUERIES,
        "TOO_MANY_SIMULTANEOUS_QUERIES",
        message,
    )
}
