use std::{
    future::Future,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Shutdown, closer::Closer, process::Ending, process::Process};

/// What a start-up registers while it goes along: closers, and the processes that it makes ready.
///
/// A closer counts from the moment it is registered: when the start-up fails or is interrupted
/// later on, the closer still runs. The processes begin when the whole start-up has succeeded.
///
/// Clones register with the same runner.
#[derive(Debug, Clone, Default)]
pub struct Startup {
    registered: Arc<Mutex<Registered>>,
}

#[derive(Debug, Default)]
struct Registered {
    phase: Option<String>,
    app_processes: Vec<Process>,
    closers: Vec<Closer>,
}

impl Startup {
    /// Registers an app process, as
    /// [`Runner::with_app_process`](crate::Runner::with_app_process) does.
    pub fn app_process<F, Fut>(&self, name: impl Into<String>, process: F)
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        let process = Process::new(name, process);
        self.registered().app_processes.push(process);
    }

    /// Registers a closer, as [`Runner::with_closer`](crate::Runner::with_closer) does.
    pub fn closer<F, Fut>(&self, name: impl Into<String>, closer: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        let closer = Closer::new(name, closer);
        self.registered().closers.push(closer);
    }

    /// Names what the start-up does from here on, such as `migrations`: the log says it when the
    /// start-up fails, takes too long or is interrupted.
    pub fn phase(&self, name: impl Into<String>) {
        let name = name.into();
        tracing::debug!(phase = name, "start-up goes on");
        self.registered().phase = Some(name);
    }

    pub(crate) fn current_phase(&self) -> String {
        self.registered().phase.clone().unwrap_or_default()
    }

    /// Returns the app processes in the order of registration, each once.
    pub(crate) fn take_app_processes(&self) -> Vec<Process> {
        take(&mut self.registered().app_processes)
    }

    /// Returns the closers in the order of registration, each once.
    pub(crate) fn take_closers(&self) -> Vec<Closer> {
        take(&mut self.registered().closers)
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        // Nothing in here panics half-way through a change.
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
