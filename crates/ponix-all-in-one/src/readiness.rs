//! Whether the service can do its work, and why not.

use std::sync::{Arc, Mutex, PoisonError};

use ponix_nats::ConsumerState;
use ponix_nats::async_nats::{Client, connection::State};
use ponix_runner::Shutdown;
use tokio::sync::watch;

/// What `/readyz` looks at. Parts that do not exist yet make the service not ready.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    shutdown: Shutdown,
    parts: Arc<Mutex<Option<Parts>>>,
}

/// The parts that exist once the start-up is over.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) connections: Vec<(&'static str, Client)>,
    pub(crate) consumer: watch::Receiver<ConsumerState>,
    pub(crate) clickhouse: watch::Receiver<Result<(), String>>,
}

impl Readiness {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            parts: Arc::default(),
        }
    }

    /// Says that the start-up is over.
    pub(crate) fn started(&self, parts: Parts) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some(parts);
    }

    /// Returns why the service is not ready; empty when it is.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.shutdown.soft().is_cancelled() {
            reasons.push("the service is stopping".to_owned());
        }
        match &*self.parts.lock().unwrap_or_else(PoisonError::into_inner) {
            None => reasons.push("the service is starting".to_owned()),
            Some(parts) => parts.reasons(&mut reasons),
        }
        reasons
    }
}

impl Parts {
    fn reasons(&self, reasons: &mut Vec<String>) {
        for (name, client) in &self.connections {
            if client.connection_state() != State::Connected {
                reasons.push(format!("the nats connection for {name} is down"));
            }
        }
        match &*self.consumer.borrow() {
            ConsumerState::Running => {}
            ConsumerState::Starting => reasons.push("the consumer is starting".to_owned()),
            ConsumerState::Stopped => reasons.push("the consumer has stopped".to_owned()),
            ConsumerState::Held(reason) => {
                reasons.push(format!("the intake has stopped: {reason}"));
            }
            ConsumerState::Unavailable(reason) => reasons.push(reason.clone()),
            other => reasons.push(format!("the consumer is {other:?}")),
        }
        if let Err(reason) = &*self.clickhouse.borrow() {
            reasons.push(format!("clickhouse cannot be used: {reason}"));
        }
    }
}
