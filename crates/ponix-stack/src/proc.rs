//! What `/proc` tells about a process. Everything is `None` or empty where there is none.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take to carry a signal out. It is done in microseconds unless the
/// process waits for a disk.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The unit of the times in `/proc/PID/stat`.
///
/// # Source
///
/// `USER_HZ` of the Linux kernel, 100 on every architecture Rust runs on; `getconf CLK_TCK`.
const TICKS_PER_SECOND: u64 = 100;

/// A size in `/proc/PID/status`, in bytes.
pub(crate) fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    parse_status(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        field,
    )
}

/// User and system time of all threads of a process.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The direct children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// Waits until no thread of a process runs any more after SIGSTOP: the kernel stops them one by one,
/// and what still runs for a moment may still answer.
pub(crate) fn wait_until_stopped(pid: u32) {
    wait_for(|| {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return true;
        };
        threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok())
            .all(|stat| !matches!(parse_state(&stat), Some('R' | 'S' | 'D')))
    });
}

/// Waits until a process that was killed holds nothing any more. Its number may stay for a while, if
/// its parent does not ask for it.
pub(crate) fn wait_until_gone(pid: u32) {
    wait_for(|| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| matches!(parse_state(&stat), Some('Z' | 'X')))
    });
}

fn wait_for(reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() && start.elapsed() < SIGNAL_TIMEOUT {
        thread::sleep(Duration::from_millis(1));
    }
}

fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn parse_stat(stat: &str) -> Option<Duration> {
    let mut fields = fields(stat)?;
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1_000 / TICKS_PER_SECOND,
    ))
}

fn parse_state(stat: &str) -> Option<char> {
    fields(stat)?.next()?.chars().next()
}

/// The fields from the third on. The name in the second one may hold spaces and brackets: what
/// counts follows the last one.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_size() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t     512 kB\n";
        assert_eq!(parse_status(status, "VmHWM"), Some(20 * 1024 * 1024));
        assert_eq!(parse_status(status, "VmRSS"), Some(512 * 1024));
        assert_eq!(parse_status(status, "Vm"), None);
    }

    #[test]
    fn reads_times_behind_an_odd_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 100 200";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_state(stat), Some('S'));
    }
}
