//! The life of a service, phase by phase.

use std::{error::Error, fmt::Write, time::Duration};

use tokio::{
    select,
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    HARD_STOP_TIME, Outcome, Runner, Shutdown, Signals, Startup,
    process::{End, Group, Process},
};

#[cfg(test)]
mod tests;

/// How long aborted processes may take to be gone. It is a matter of scheduling only: whatever
/// does not await anything by then is stuck.
const ABORT_TIME: Duration = Duration::from_millis(200);

/// What has gone wrong so far.
#[derive(Debug, Default)]
pub(crate) struct RunResult {
    /// The start-up, a process or a closer failed.
    pub(crate) failed: bool,
    /// Work was cut off before it was finished.
    pub(crate) cut_off: bool,
}

impl RunResult {
    /// Logs how a process ended and remembers it if it should not have.
    fn judge(&mut self, process: &str, end: &End) {
        match end {
            End::Finished => return debug!(process, "process finished"),
            End::Aborted => return debug!(process, "process aborted"),
            End::Early => error!(process, "process ended although nobody asked it to"),
            End::Failed(error) => error!(process, error = chain(&**error), "process failed"),
            End::Panicked(panic) => error!(process, panic, "process panicked"),
        }
        self.failed = true;
    }

    fn outcome(&self) -> Outcome {
        match self {
            // A failure comes first: it is why the service stops, or what has to be mended.
            Self { failed: true, .. } => Outcome::Failed,
            Self { cut_off: true, .. } => Outcome::DrainTimedOut,
            _ => Outcome::Clean,
        }
    }
}

/// One service on its way from start to end.
#[derive(Debug)]
pub(crate) struct Run {
    signals: Signals,
    shutdown: Shutdown,
    startup: Startup,
    startup_process: Option<Process>,
    startup_timeout: Duration,
    grace_time: Duration,
    closer_timeout: Duration,
    starting: Group,
    app: Group,
    background: Group,
    result: RunResult,
}

impl Run {
    /// Starts the background processes.
    pub(crate) fn new(runner: Runner, signals: Signals) -> Self {
        let shutdown = runner.shutdown;
        let mut background = Group::new(Shutdown::below(shutdown.hard()));
        for process in runner.background_processes {
            background.spawn(process);
        }
        Self {
            signals,
            startup: runner.startup,
            startup_process: runner.startup_process,
            startup_timeout: runner.startup_timeout,
            grace_time: runner.grace_time,
            closer_timeout: runner.closer_timeout,
            starting: Group::new(shutdown.clone()),
            app: Group::new(shutdown.clone()),
            background,
            result: RunResult::default(),
            shutdown,
        }
    }

    pub(crate) async fn live(mut self) -> Outcome {
        if self.start_up().await {
            for process in self.startup.take_app_processes() {
                self.app.spawn(process);
            }
            self.serve().await;
        }
        if !self.drain().await {
            self.result.cut_off = true;
            self.stop_hard().await;
        }
        self.close().await;

        let outcome = self.result.outcome();
        info!(?outcome, exit_code = outcome.code(), "stopped");
        outcome
    }

    /// Returns whether the start-up succeeded and nobody asked to stop meanwhile.
    async fn start_up(&mut self) -> bool {
        let Some(process) = self.startup_process.take() else {
            return true;
        };
        self.starting.spawn(process);
        select! {
            biased;
            signal = self.signals.recv() => {
                let phase = self.startup.current_phase();
                info!(%signal, phase, "start-up interrupted, stopping");
            }
            () = self.shutdown.soft().cancelled() => info!("start-up interrupted, stopping"),
            (name, end) = self.background.next_end() => self.result.judge(&name, &end),
            (name, end) = self.starting.next_end() => {
                if matches!(end, End::Early | End::Finished) {
                    return true;
                }
                self.result.judge(&name, &end);
            }
            () = sleep(self.startup_timeout) => {
                self.result.failed = true;
                let phase = self.startup.current_phase();
                let timeout_ms = self.startup_timeout.as_millis() as u64;
                error!(phase, timeout_ms, "start-up took too long, stopping");
            }
        }
        self.starting.abort();
        false
    }

    /// Waits for the first reason to stop.
    async fn serve(&mut self) {
        select! {
            biased;
            signal = self.signals.recv() => info!(%signal, "stopping, a second signal hurries"),
            () = self.shutdown.soft().cancelled() => info!("asked to stop from within, stopping"),
            (name, end) = self.app.next_end() => self.result.judge(&name, &end),
            (name, end) = self.background.next_end() => self.result.judge(&name, &end),
        }
    }

    /// Lets the app processes finish, then the background processes. Returns whether all did.
    async fn drain(&mut self) -> bool {
        let hard = self.shutdown.hard().clone();
        select! {
            biased;
            () = finish(&mut self.result, [&mut self.starting, &mut self.app, &mut self.background])
                => return true,
            signal = self.signals.recv() => warn!(%signal, "second signal, stopping at once"),
            () = hard.cancelled() => warn!("told from within to stop at once"),
            () = sleep(self.grace_time) => {
                let grace_time_ms = self.grace_time.as_millis() as u64;
                warn!(grace_time_ms, "grace time over, stopping at once");
            }
        }
        false
    }

    /// Tells what is still running to return, and aborts what does not.
    async fn stop_hard(&mut self) {
        self.shutdown.hard().cancel();
        if self.all_ended_within(HARD_STOP_TIME).await {
            return;
        }
        for group in [&self.starting, &self.app, &self.background] {
            for process in group.running() {
                error!(process, "process does not stop, aborting it");
            }
            group.abort();
        }
        if self.all_ended_within(ABORT_TIME).await {
            return;
        }
        for process in [&self.starting, &self.app, &self.background]
            .into_iter()
            .flat_map(Group::running)
        {
            error!(process, "process blocks its thread, leaving it behind");
        }
    }

    async fn all_ended_within(&mut self, time: Duration) -> bool {
        let groups = [&mut self.starting, &mut self.app, &mut self.background];
        timeout(time, finish(&mut self.result, groups))
            .await
            .is_ok()
    }

    /// Runs the closers, the last registered first.
    async fn close(&mut self) {
        for closer in self.startup.take_closers().into_iter().rev() {
            closer.close(self.closer_timeout, &mut self.result).await;
        }
    }
}

/// Asks one group after the other to stop, each when the one before has ended.
async fn finish(result: &mut RunResult, groups: [&mut Group; 3]) {
    for group in groups {
        group.ask_to_stop();
        while !group.is_empty() {
            let (process, end) = group.next_end().await;
            result.judge(&process, &end);
        }
    }
}

/// Writes an error and its sources in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
