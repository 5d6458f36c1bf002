use std::{future::Future, time::Duration};

use tracing::error;

use crate::{
    Outcome, Shutdown, Signals, Startup,
    process::{Ending, Process},
    run::Run,
};

/// How long the processes may take to finish their work after the first request to stop.
pub const DEFAULT_GRACE_TIME: Duration = Duration::from_secs(10);

/// How long each closer may take.
pub const DEFAULT_CLOSER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the start-up may take.
pub const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the processes may take to return after the hard token, before they are aborted.
pub const HARD_STOP_TIME: Duration = Duration::from_secs(2);

/// The life of a service: start-up, processes, graceful shutdown, closers, exit code.
///
/// The crate's documentation tells the order of events.
#[derive(Debug)]
#[must_use = "a runner does nothing until it is run"]
pub struct Runner {
    pub(crate) signals: Option<Signals>,
    pub(crate) shutdown: Shutdown,
    pub(crate) startup: Startup,
    pub(crate) startup_process: Option<Process>,
    pub(crate) background_processes: Vec<Process>,
    pub(crate) startup_timeout: Duration,
    pub(crate) grace_time: Duration,
    pub(crate) closer_timeout: Duration,
}

impl Runner {
    /// Creates a runner with nothing to run and the default times.
    pub fn new() -> Self {
        Self {
            signals: None,
            shutdown: Shutdown::new(),
            startup: Startup::default(),
            startup_process: None,
            background_processes: Vec::new(),
            startup_timeout: DEFAULT_STARTUP_TIMEOUT,
            grace_time: DEFAULT_GRACE_TIME,
            closer_timeout: DEFAULT_CLOSER_TIMEOUT,
        }
    }

    /// Uses signals that were installed earlier; without them [`run`](Self::run) installs its own.
    pub fn with_signals(mut self, signals: Signals) -> Self {
        self.signals = Some(signals);
        self
    }

    /// Runs `startup` before the app processes begin: migrations, connections, all that may fail
    /// or take its time.
    ///
    /// A stop signal, the [start-up timeout](Self::with_startup_timeout) or a failed background
    /// process drops the start-up at its next await, so every step of it has to be safe to cut
    /// off and to repeat. An error or a panic ends the service with [`Outcome::Failed`]. In each
    /// case the closers that are registered by then run.
    ///
    /// A second start-up takes the place of the first.
    pub fn with_startup<F, Fut>(mut self, startup: F) -> Self
    where
        F: FnOnce(Startup) -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        let handle = self.startup.clone();
        self.startup_process = Some(Process::new("start-up", |_| startup(handle)));
        self
    }

    /// Sets how long the start-up may take; 30 seconds unless set.
    pub fn with_startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// Registers a process that does the service's work. It begins when the start-up has
    /// succeeded, together with all the others, in no order that could be relied on.
    ///
    /// It runs until its soft token is cancelled. One that returns earlier, even without an error,
    /// stops the service with [`Outcome::Failed`]: the work it stands for would be left undone.
    /// Panics are caught in the process, not in tasks that it spawns itself.
    pub fn with_app_process<F, Fut>(self, name: impl Into<String>, process: F) -> Self
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        self.startup.app_process(name, process);
        self
    }

    /// Registers a process that accompanies the whole life of the service, such as an admin
    /// endpoint: it begins before the start-up and is asked to stop after the last app process
    /// has ended. Otherwise it is like an app process.
    pub fn with_background_process<F, Fut>(mut self, name: impl Into<String>, process: F) -> Self
    where
        F: FnOnce(Shutdown) -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        self.background_processes.push(Process::new(name, process));
        self
    }

    /// Registers work to be done after all processes have ended: flush, close, say goodbye.
    ///
    /// Closers run one after the other in reverse order of registration, whatever happened before
    /// and whatever happens to one of them.
    pub fn with_closer<F, Fut>(self, name: impl Into<String>, closer: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: Ending> + Send + 'static,
    {
        self.startup.closer(name, closer);
        self
    }

    /// Sets how long each closer may take before it is aborted; 5 seconds unless set.
    pub fn with_closer_timeout(mut self, timeout: Duration) -> Self {
        self.closer_timeout = timeout;
        self
    }

    /// Sets how long all processes together may take from the first request to stop until they are
    /// told to return at once; 10 seconds unless set.
    pub fn with_grace_time(mut self, time: Duration) -> Self {
        self.grace_time = time;
        self
    }

    /// Returns the tokens that the app processes get, for a look at them from outside, such as a
    /// readiness check that turns red while the service drains. Cancelling the soft one stops the
    /// service.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs the service until it has stopped and says how it ended; never exits the process.
    ///
    /// With the times set here it takes, from the first request to stop, at most the grace time,
    /// [`HARD_STOP_TIME`] and one closer timeout per closer.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped, it aborts the processes where they stand and runs no closers.
    pub async fn run(mut self) -> Outcome {
        let signals = match self.signals.take().map_or_else(Signals::install, Ok) {
            Ok(signals) => signals,
            Err(error) => {
                error!(%error, "cannot install signal handlers");
                return Outcome::Failed;
            }
        };
        Run::new(self, signals).live().await
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}
