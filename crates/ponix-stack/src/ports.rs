//! Free ports on loopback.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, bail};

/// The lowest port that is given out.
const LOWEST: u16 = 10_240;
/// Where ephemeral ports begin when the kernel does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;
const TRIES: usize = 1_000;

/// Picks a port on loopback that nothing listens on, never the same one twice in a process.
///
/// It lies below the kernel's ephemeral range. A port of that range could be taken by any outgoing
/// connection while its server is down; worse, a client that knocks at it then may be given the
/// same port as its own and be connected to itself.
pub(crate) fn free() -> Result<u16> {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let range = LOWEST..=ephemeral_start().saturating_sub(1).max(LOWEST + 1_000);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    pick(range, &mut given)
}

/// Picks an address on loopback that nothing listens on, never the same one twice in a process.
///
/// # Errors
///
/// None is found.
pub fn free_addr() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free()?).into())
}

/// Whether something can listen there now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn pick(range: RangeInclusive<u16>, given: &mut HashSet<u16>) -> Result<u16> {
    for _ in 0..TRIES {
        let port = rand::random_range(range.clone());
        if !given.contains(&port) && is_free(port) {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port found in {range:?} in {TRIES} tries")
}

fn ephemeral_start() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_below_the_ephemeral_range() {
        let ports: HashSet<u16> = (0..50).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(
            ports
                .iter()
                .all(|port| *port < ephemeral_start() && is_free(*port))
        );
    }

    #[test]
    fn a_taken_port_is_not_given() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(!is_free(port));
        let error = pick(port..=port, &mut HashSet::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no free port"), "{error}");
    }
}
