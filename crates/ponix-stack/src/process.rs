//! A program that is started, watched, signalled and started again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::folder::Folder;
use crate::spawner::{self, RunAs};
use crate::{proc, reaper, watchdog};

/// How long [`Process::stop`] waits after SIGTERM when nothing else was set.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 40;

/// Describes a [`Process`] before it is started.
#[derive(Debug)]
pub struct ProcessBuilder {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    stdin: Option<PathBuf>,
    /// Whether it prints where this process does, and keeps no log.
    inherit_output: bool,
    pub(crate) run_as: Option<RunAs>,
    /// Whether pause and kill reach the children of the process too.
    pub(crate) whole_tree: bool,
    /// What asks it to end.
    pub(crate) stop_signal: Signal,
    stop_timeout: Duration,
}

impl ProcessBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of the environment.
    ///
    /// The rest is inherited, but for variables that begin with `PONIX_`: what a developer has set
    /// in a shell must not change what a test sees.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets variables of the environment; see [`env`](Self::env).
    #[must_use]
    pub fn envs(
        self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        vars.into_iter()
            .fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Runs in this folder and keeps the log there, instead of in a temporary one.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Reads this file as its standard input; nothing otherwise.
    #[must_use]
    pub fn stdin(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Some(file.into());
        self
    }

    /// Lets it print where this process does, instead of into its log.
    #[must_use]
    pub fn inherit_output(mut self) -> Self {
        self.inherit_output = true;
        self
    }

    /// Sets how long [`Process::stop`] waits before it kills; 30 s otherwise.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// Starts it. Returns once it has been executed; whether it is of use yet, a probe must tell.
    ///
    /// # Errors
    ///
    /// The program or its folder is not there or may not be used.
    pub fn start(self) -> Result<Process> {
        let folder = Folder::of(&self.name, self.folder.as_deref())?;
        let process = self.prepare(folder);
        process.start()?;
        Ok(process)
    }

    pub(crate) fn prepare(self, folder: Folder) -> Process {
        let log = folder.path().join(format!("{}.log", self.name));
        Process {
            spec: self,
            log,
            state: Mutex::default(),
            folder,
        }
    }
}

/// A child process with its own folder and log, killed when dropped.
///
/// All methods take `&self`, so that a test can break it from one task while others use it.
/// Standard output and error go to [`log_path`](Self::log_path). It does not survive this process,
/// however that ends (see the crate's documentation for where that holds). It is the leader of a
/// process group of its own: Ctrl-C in a terminal does not reach it.
#[derive(Debug)]
pub struct Process {
    spec: ProcessBuilder,
    log: PathBuf,
    state: Mutex<State>,
    /// Last: removed after the process is gone.
    folder: Folder,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    starts: u64,
    /// Where in the log the newest run begins.
    log_start: u64,
    /// Variables that were changed after the process was described.
    env: BTreeMap<OsString, OsString>,
}

#[derive(Debug, Clone)]
struct Running {
    pid: u32,
    child: Arc<Mutex<std::process::Child>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Describes a process: a name for its log and for messages, and the program to run.
    pub fn builder(name: impl Into<String>, program: impl Into<PathBuf>) -> ProcessBuilder {
        ProcessBuilder {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stdin: None,
            inherit_output: false,
            run_as: None,
            whole_tree: false,
            stop_signal: Signal::SIGTERM,
            stop_timeout: STOP_TIMEOUT,
        }
    }

    /// Starts it again after it has ended, with the same command line, folder and log.
    ///
    /// # Errors
    ///
    /// It is running, or the program may not be executed.
    pub fn start(&self) -> Result<()> {
        watchdog::watch_this_test();
        let mut state = self.state();
        if state.running.as_ref().is_some_and(Running::is_alive) {
            bail!("{} is already running", self.spec.name);
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        state.log_start = log.metadata()?.len();
        let child = spawner::spawn(self.command(log, &state.env)?).with_context(|| {
            format!("start {} ({})", self.spec.name, self.spec.program.display())
        })?;
        let pid = child.id();
        let (child, exit) = reaper::watch(child);
        tracing::debug!(name = self.spec.name, pid, "process started");
        watchdog::remember_log(&self.log);
        state.running = Some(Running { pid, child, exit });
        state.starts += 1;
        Ok(())
    }

    /// Sets a variable of the environment for the starts to come; see [`ProcessBuilder::env`].
    pub fn set_env(&self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.state().env.insert(name, value);
    }

    /// Sends any signal, as in `process.send_signal(Signal::SIGINT)`.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn send_signal(&self, signal: Signal) -> Result<()> {
        self.signal_running(signal)
    }

    /// Asks it to end with SIGTERM and waits until it has; nothing to do if it has ended before.
    ///
    /// A paused process is resumed first, as it could not answer otherwise.
    ///
    /// # Errors
    ///
    /// It did not end in time (30 s unless set otherwise) and was killed.
    ///
    /// # Cancel safety
    ///
    /// The signal stays sent; nobody kills it when it does not end.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.signal(self.spec.stop_signal);
        self.signal(Signal::SIGCONT);
        let timeout = self.spec.stop_timeout;
        if let Ok(status) = tokio::time::timeout(timeout, self.wait()).await {
            return status;
        }
        self.kill().await?;
        bail!(
            "{} did not end within {timeout:?} of {} and was killed",
            self.spec.name,
            self.spec.stop_signal
        )
    }

    /// Ends it with SIGKILL and waits until it is gone; nothing to do if it has ended before.
    ///
    /// # Errors
    ///
    /// It was never started.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// Stops it with SIGSTOP and waits until it stands still; it keeps its connections and does
    /// nothing.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn pause(&self) -> Result<()> {
        self.signal_running(Signal::SIGSTOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn resume(&self) -> Result<()> {
        self.signal_running(Signal::SIGCONT)
    }

    /// Stops it if it is running and starts it again.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self) -> Result<()> {
        if self.is_running() {
            self.stop().await?;
        }
        self.start()
    }

    /// Waits until it has ended by itself or by a signal. The status keeps the signal, if it was
    /// one ([`ExitStatusExt::signal`](std::os::unix::process::ExitStatusExt::signal)).
    ///
    /// # Errors
    ///
    /// It was never started.
    ///
    /// # Cancel safety
    ///
    /// Safe; every caller sees the same status.
    pub async fn wait(&self) -> Result<ExitStatus> {
        let Some(mut running) = self.running() else {
            bail!("{} was never started", self.spec.name)
        };
        let status = running.exit.wait_for(Option::is_some).await;
        status
            .ok()
            .and_then(|status| *status)
            .context("the thread that waits for a child has ended")
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.running().and_then(|running| *running.exit.borrow())
    }

    /// Whether it was started and has not ended. A paused process is running.
    pub fn is_running(&self) -> bool {
        self.running().is_some_and(|running| running.is_alive())
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.state().starts
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running()
            .filter(Running::is_alive)
            .map(|running| running.pid)
    }

    /// The most memory it has had in RAM since its start (VmHWM), in bytes; `None` when it does not
    /// run, and where there is no `/proc`.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        proc::status_bytes(self.pid()?, "VmHWM")
    }

    /// The memory it has in RAM now (VmRSS), in bytes; `None` as for the peak.
    pub fn memory_bytes(&self) -> Option<u64> {
        proc::status_bytes(self.pid()?, "VmRSS")
    }

    /// The processor time it has used since its start, user and system, all threads; `None` when it
    /// does not run, and where there is no `/proc`. Steps of 10 ms. That of PostgreSQL is the sum
    /// over the processes it has now.
    pub fn cpu_time(&self) -> Option<Duration> {
        let pid = self.pid()?;
        let own = proc::cpu_time(pid)?;
        if !self.spec.whole_tree {
            return Some(own);
        }
        let children = proc::children(pid).into_iter().filter_map(proc::cpu_time);
        Some(own + children.sum::<Duration>())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file that takes its output, of all starts.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it has printed, of all starts.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines it has printed since its newest start: at most 40, at most 8 KiB.
    pub fn log_tail(&self) -> String {
        tail(&self.log, self.state().log_start).unwrap_or_default()
    }

    /// An error about this process, with how it ended, if it has, and its last lines. Its folder
    /// stays for a closer look.
    pub(crate) fn failure(&self, what: impl std::fmt::Display) -> anyhow::Error {
        self.folder.keep();
        let ended = self
            .exit_status()
            .map_or(String::new(), |status| format!(" ({status})"));
        let (name, log, tail) = (&self.spec.name, self.log.display(), self.log_tail());
        anyhow::anyhow!("{name} {what}{ended}; the end of its log, {log}:\n{tail}")
    }

    fn command(&self, log: File, env: &BTreeMap<OsString, OsString>) -> Result<Command> {
        let spec = &self.spec;
        let mut command = match spawner::die_with_parent(spec.run_as) {
            Some((wrapper, words)) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(&spec.program);
                command
            }
            None if spec.run_as.is_some() => {
                bail!(
                    "{} must run as another user, which takes setpriv of util-linux",
                    spec.name
                )
            }
            None => Command::new(&spec.program),
        };
        let stdin = match &spec.stdin {
            Some(file) => File::open(file)
                .with_context(|| format!("open {}", file.display()))?
                .into(),
            None => Stdio::null(),
        };
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PONIX_") {
                command.env_remove(name);
            }
        }
        command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .envs(env)
            .current_dir(self.folder.path())
            .stdin(stdin)
            .process_group(0);
        if !spec.inherit_output {
            command.stdout(log.try_clone()?).stderr(log);
        }
        Ok(command)
    }

    fn signal_running(&self, signal: Signal) -> Result<()> {
        if !self.signal(signal) {
            bail!(
                "{} is not running, so it cannot get {signal}",
                self.spec.name
            );
        }
        Ok(())
    }

    /// Sends a signal if the process runs; says whether it did.
    fn signal(&self, signal: Signal) -> bool {
        self.running()
            .is_some_and(|running| running.signal(signal, self.spec.whole_tree))
    }

    fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        watchdog::forget_log(&self.log);
        if self.signal(Signal::SIGKILL)
            && let Some(running) = self.running()
        {
            // Short: the kernel ends a killed process whatever it does. The folder goes next, so
            // nobody may write to it any more.
            let _ = lock(&running.child).wait();
        }
    }
}

impl Running {
    fn is_alive(&self) -> bool {
        // Asked of the kernel, not of the watch: that hears of the end a moment later.
        self.exit.borrow().is_none() && matches!(lock(&self.child).try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal, whole_tree: bool) -> bool {
        let mut child = lock(&self.child);
        // Under the lock nobody else reaps it, so its number cannot be another process's.
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        let send = |pid: u32, signal| kill(Pid::from_raw(pid.cast_signed()), signal).is_ok();
        match signal {
            // A stopped parent starts no more children: all of them are seen.
            Signal::SIGKILL if whole_tree => {
                send(self.pid, Signal::SIGSTOP);
                proc::wait_until_stopped(self.pid);
                let children = proc::children(self.pid);
                let sent = send(self.pid, signal);
                for child in &children {
                    send(*child, signal);
                }
                // What they share, such as memory, is free when the last one is gone.
                children.into_iter().for_each(proc::wait_until_gone);
                sent
            }
            Signal::SIGSTOP => {
                let sent = send(self.pid, signal);
                proc::wait_until_stopped(self.pid);
                if whole_tree {
                    for child in proc::children(self.pid) {
                        send(child, signal);
                        proc::wait_until_stopped(child);
                    }
                }
                sent
            }
            Signal::SIGCONT if whole_tree => {
                let children = proc::children(self.pid);
                let sent = send(self.pid, signal);
                for child in children {
                    send(child, signal);
                }
                sent
            }
            _ => send(self.pid, signal),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines of a file, from a place on: at most 40, at most 8 KiB.
pub(crate) fn tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
