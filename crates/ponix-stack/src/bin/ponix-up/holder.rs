//! Who listens on a port. Nobody can tell where there is no `/proc`, or for another user's process.

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
///
/// # Source
///
/// `TCP_LISTEN` in the kernel's `include/net/tcp_states.h`.
const LISTEN: &str = "0A";

/// The program that listens on a port of any address, as `nats-server (pid 123)`.
pub(crate) fn of(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    let links: Vec<_> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pid = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_open(*pid, &links))?;
    Some(format!("{} (pid {pid})", name(pid)))
}

/// The name of a program's file; the one that the kernel keeps beside it is cut at 15 bytes.
fn name(pid: u32) -> String {
    let file = fs::read_link(format!("/proc/{pid}/exe"));
    file.ok()
        .and_then(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "a program".to_owned())
}

/// The inodes of the sockets that listen on a port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTEN;
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

fn has_open(pid: u32, links: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| links.iter().any(|link| target == Path::new(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:107E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0
   1: 0100007F:107E 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4
   2: 00000000:1FBB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0
";

    #[test]
    fn only_what_listens_on_that_port_is_found() {
        assert_eq!(listeners(TABLE, 4222), ["4711"]);
        assert_eq!(listeners(TABLE, 8123), ["4713"]);
        assert_eq!(listeners(TABLE, 50_000), Vec::<String>::new());
    }
}
