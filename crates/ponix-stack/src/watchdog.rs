//! Ends a test run in which a test does not end, and says what it saw.
//!
//! A test that hangs would otherwise hang whoever waits for it, and tell nothing. A test is known
//! by its thread, which the test harness names after it; it is watched from its first call to this
//! crate until its thread ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::process;

/// Seconds a test may take. Without it none is watched.
const LIMIT: &str = "PONIX_TEST_LIMIT_SECS";
const PERIOD: Duration = Duration::from_millis(500);

/// What is watched, and what there is to show.
#[derive(Debug)]
struct Watched {
    /// By the names of their threads.
    tests: BTreeMap<String, Instant>,
    logs: BTreeSet<PathBuf>,
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched {
    tests: BTreeMap::new(),
    logs: BTreeSet::new(),
});

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes its test once the test's thread ends.
#[derive(Debug)]
struct Test(String);

impl Drop for Test {
    fn drop(&mut self) {
        watched().tests.remove(&self.0);
    }
}

/// Watches the test that runs on this thread, if it is one and `PONIX_TEST_LIMIT_SECS` is set: when
/// it takes longer, its name and the tails of the logs of all running processes are printed, and
/// this process ends with SIGABRT.
///
/// Called by what tests use of this crate; a test that uses what another one has started calls it
/// itself.
pub fn watch_this_test() {
    thread_local! {
        static TEST: RefCell<Option<Test>> = const { RefCell::new(None) };
    }
    let Some(limit) = limit() else { return };
    let thread = thread::current();
    // Tests are `module::name`; the threads of runtimes and of this crate are not.
    let Some(name) = thread.name().filter(|name| name.contains("::")) else {
        return;
    };
    TEST.with_borrow_mut(|test| {
        if test.is_none() {
            watched().tests.insert(name.to_owned(), Instant::now());
            *test = Some(Test(name.to_owned()));
        }
    });
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        thread::Builder::new()
            .name("ponix-stack-watchdog".into())
            .spawn(move || watch(limit))
            .expect("a process that cannot start a thread cannot start servers either");
    });
}

/// Shows the end of this log when a test hangs, until it is forgotten.
pub(crate) fn remember_log(log: &Path) {
    watched().logs.insert(log.to_owned());
}

pub(crate) fn forget_log(log: &Path) {
    watched().logs.remove(log);
}

fn limit() -> Option<Duration> {
    let seconds = std::env::var(LIMIT).ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|limit| !limit.is_zero())
}

fn watch(limit: Duration) {
    loop {
        thread::sleep(PERIOD);
        let watched = watched();
        let late = watched.tests.values().any(|since| since.elapsed() > limit);
        if late {
            // Past the harness, which keeps what tests print until they end.
            let _ = std::io::stderr().write_all(watched.report(limit).as_bytes());
            std::process::abort();
        }
    }
}

impl Watched {
    fn report(&self, limit: Duration) -> String {
        let mut report = format!("\na test did not end within {limit:?} ({LIMIT})\n");
        for (test, since) in &self.tests {
            let seconds = since.elapsed().as_secs();
            let mark = if since.elapsed() > limit {
                "HANGS"
            } else {
                "beside it"
            };
            let _ = writeln!(report, "  {mark}: {test}, for {seconds} s");
        }
        for log in &self.logs {
            let tail = process::tail(log, 0).unwrap_or_default();
            let _ = writeln!(report, "\nthe end of {}:\n{tail}", log.display());
        }
        report
    }
}
