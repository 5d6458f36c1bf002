//! What `/proc` tells about a process. Everything is `None` or empty where there is none.

use std::fs;
use std::time::Duration;

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

fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The name in the second field may hold spaces and brackets: what counts follows the last one.
fn parse_stat(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1_000 / TICKS_PER_SECOND,
    ))
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
    }
}
