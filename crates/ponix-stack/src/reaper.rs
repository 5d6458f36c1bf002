//! Hears when a child ends, without a runtime: tests have one each, children may outlive them.

use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::watch;

/// Gives the child to a thread that waits for its end and then tells the status.
pub(crate) fn watch(child: Child) -> (Arc<Mutex<Child>>, watch::Receiver<Option<ExitStatus>>) {
    let pid = child.id();
    let child = Arc::new(Mutex::new(child));
    let (told, exit) = watch::channel(None);
    let waited = Arc::clone(&child);
    thread::Builder::new()
        .name("ponix-stack-reaper".into())
        .spawn(move || {
            block_until_ended(pid, &waited);
            // Reaped under the lock, so that no signal goes to a number that is free again.
            let status = waited.lock().unwrap_or_else(PoisonError::into_inner).wait();
            told.send_replace(status.ok());
        })
        .expect("a process that cannot start a thread cannot look after servers");
    (child, exit)
}

#[cfg(target_os = "linux")]
fn block_until_ended(pid: u32, _: &Mutex<Child>) {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    // WNOWAIT leaves the child to be reaped by whoever holds the lock.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(Pid::from_raw(pid.cast_signed())), flags) == Err(Errno::EINTR) {}
}

#[cfg(not(target_os = "linux"))]
fn block_until_ended(_: u32, child: &Mutex<Child>) {
    use std::time::Duration;

    let ended = || {
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    };
    while !ended() {
        thread::sleep(Duration::from_millis(20));
    }
}
