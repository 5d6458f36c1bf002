//! Whether the service can do its work, and why not.

use std::sync::{Arc, Mutex, PoisonError};

use ponix_console::payload;
use ponix_nats::async_nats::{Client, connection::State};
use ponix_nats::{ConsumerState, NatsMetrics};
use ponix_runner::Shutdown;
use tokio::sync::watch;

use crate::scale::{Backlog, StoreHealth};

/// What `/readyz` looks at. Parts that do not exist yet make the service not ready.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    shutdown: Shutdown,
    parts: Arc<Mutex<Option<Parts>>>,
}

/// The parts that exist once the start-up is over.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) connections: Vec<(&'static str, Client)>,
    pub(crate) consumers: Vec<(String, watch::Receiver<ConsumerState>)>,
    pub(crate) nats: Option<NatsMetrics>,
    pub(crate) stores: Vec<(&'static str, StoreHealth)>,
    /// What the pipelines have still to do.
    pub(crate) backlogs: Vec<Backlog>,
    /// What an operator should know though the work goes on.
    pub(crate) warnings: Vec<watch::Receiver<Vec<String>>>,
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
        self.reasons_of(Parts::reasons)
    }

    /// Returns why no events can be taken in; empty when they can. The stores do not count, for the
    /// stream keeps events for them, unless messages go `at_once` into PostgreSQL.
    pub(crate) fn intake_reasons(&self, at_once: bool) -> Vec<String> {
        self.reasons_of(|parts, reasons| parts.intake_reasons(at_once, reasons))
    }

    fn reasons_of(&self, of_parts: impl FnOnce(&Parts, &mut Vec<String>)) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.shutdown.soft().is_cancelled() {
            reasons.push("the service is stopping".to_owned());
        }
        match &*self.parts.lock().unwrap_or_else(PoisonError::into_inner) {
            None => reasons.push("the service is starting".to_owned()),
            Some(parts) => of_parts(parts, &mut reasons),
        }
        reasons
    }

    /// Returns what each pipeline has still to do; none before the start-up is over.
    pub(crate) fn backlogs(&self) -> Option<Vec<Backlog>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().map(|parts| parts.backlogs.clone())
    }

    /// Returns what an operator should know; the service is ready all the same.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let all = parts.iter().flat_map(|parts| &parts.warnings);
        all.flat_map(|warnings| warnings.borrow().clone()).collect()
    }
}

impl Parts {
    fn reasons(&self, reasons: &mut Vec<String>) {
        for (name, client) in &self.connections {
            if client.connection_state() != State::Connected {
                reasons.push(format!("the nats connection for {name} is down"));
            }
        }
        for (name, state) in &self.consumers {
            reasons.extend(consumer_reason(name, &state.borrow()));
        }
        let refusing = self
            .nats
            .iter()
            .flat_map(NatsMetrics::refusing_dead_letters);
        reasons.extend(refusing.map(|stream| {
            format!("the dead letters take nothing: stream {stream} is full or gone; look at them, replay or purge them, or give it more bytes")
        }));
        for (name, state) in &self.stores {
            if let Err(reason) = &*state.borrow() {
                reasons.push(format!("{name} cannot be used: {reason}"));
            }
        }
    }
}

impl Parts {
    fn intake_reasons(&self, at_once: bool, reasons: &mut Vec<String>) {
        for (name, client) in &self.connections {
            if *name == "publishing" && client.connection_state() != State::Connected {
                reasons.push(format!("the nats connection for {name} is down"));
            }
        }
        for (name, state) in &self.stores {
            // Why is for the admin endpoint.
            if at_once && *name == "postgresql" && state.borrow().is_err() {
                reasons.push(format!("{name} cannot be used"));
            }
        }
    }
}

fn consumer_reason(name: &str, state: &ConsumerState) -> Option<String> {
    match state {
        ConsumerState::Running => None,
        ConsumerState::Starting => Some(format!("the consumer of {name} is starting")),
        ConsumerState::Stopped => Some(format!("the consumer of {name} has stopped")),
        ConsumerState::Held { reason, since_ns } => Some(format!(
            "the intake of {name} has stopped, since {}: {reason}",
            payload::time(*since_ns)
        )),
        ConsumerState::Unavailable(reason) => Some(reason.clone()),
        other => Some(format!("the consumer of {name} is {other:?}")),
    }
}
