//! The one thread that starts every child.
//!
//! The kernel sends the parent-death signal when the *thread* that forked ends, not the process.
//! Tests run on threads that come and go, so children are forked by a thread that never ends.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{LazyLock, mpsc};
use std::thread;

use crate::find;

struct Request {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<Request>();
    thread::Builder::new()
        .name("ponix-stack-spawner".into())
        .spawn(move || {
            for mut request in requests {
                let child = request.command.spawn();
                // The asker waits for the answer; it is gone only if its thread was.
                let _ = request.answer.send(child);
            }
        })
        .expect("a process that cannot start one thread cannot start servers either");
    sender
});

/// Forks `command` on the thread that outlives all others and waits until it has been executed.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let (answer, child) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the spawner thread has ended");
    SPAWNER
        .send(Request { command, answer })
        .map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// The user a child runs as, where that is another one than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Words to put in front of a command line, so that the child dies with this process.
///
/// The shell in between closes a gap: if this process is killed after the fork and before the
/// signal is set, the signal would never come, so the child looks whether its parent is still
/// there before it goes on. Empty where `setpriv` is missing and no other user is asked for: then
/// a killed test run leaves its servers behind.
pub(crate) fn die_with_parent(run_as: Option<RunAs>) -> Option<(PathBuf, Vec<OsString>)> {
    static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| find::on_path("setpriv"));
    wrapper(SETPRIV.as_deref(), run_as, std::process::id())
}

fn wrapper(
    setpriv: Option<&Path>,
    run_as: Option<RunAs>,
    parent: u32,
) -> Option<(PathBuf, Vec<OsString>)> {
    let mut words: Vec<OsString> = vec!["--pdeathsig".into(), "KILL".into()];
    if let Some(RunAs { uid, gid }) = run_as {
        words.extend([
            format!("--reuid={uid}").into(),
            format!("--regid={gid}").into(),
            "--init-groups".into(),
        ]);
    }
    words.extend([
        "--".into(),
        "sh".into(),
        "-c".into(),
        r#"test "$PPID" = "$0" && exec "$@""#.into(),
        parent.to_string().into(),
    ]);
    Some((setpriv?.to_owned(), words))
}
