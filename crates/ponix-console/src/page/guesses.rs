//! Wrong tokens: so many of an address, and no more.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tokens that an address may show in one [`PERIOD`].
pub(super) const GUESSES_MAX: u32 = 10;
/// Time after its first wrong token in which an address is counted.
pub(super) const PERIOD: Duration = Duration::from_mins(1);
/// Addresses that are remembered; more are counted together.
const ADDRESSES_MAX: usize = 1_000;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, Wrong>>);

#[derive(Debug, Clone, Copy)]
struct Wrong {
    since: Instant,
    count: u32,
}

impl Guesses {
    /// Returns for how long nothing that an address shows is looked at; `None` when it may try.
    pub(super) fn refused_for(&self, address: IpAddr) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, wrong| wrong.since.elapsed() < PERIOD);
        let wrong = all.get(&key(&all, address))?;
        let left = PERIOD.saturating_sub(wrong.since.elapsed());
        (wrong.count >= GUESSES_MAX).then_some(left)
    }

    /// Counts a wrong token.
    pub(super) fn wrong(&self, address: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&all, address);
        let wrong = all.entry(key).or_insert_with(|| Wrong {
            since: Instant::now(),
            count: 0,
        });
        wrong.count += 1;
    }
}

/// A network has as many addresses of IPv6 as it likes.
fn key(all: &HashMap<IpAddr, Wrong>, address: IpAddr) -> IpAddr {
    let address = match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        IpAddr::V4(address) => IpAddr::V4(address),
    };
    if all.len() < ADDRESSES_MAX || all.contains_key(&address) {
        address
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_for_the_rest_of_its_minute() {
        let (guesses, one) = (Guesses::default(), address("192.0.2.1"));
        for _ in 0..GUESSES_MAX {
            assert_eq!(guesses.refused_for(one), None);
            guesses.wrong(one);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(guesses.refused_for(one), Some(Duration::from_secs(50)));
        assert_eq!(guesses.refused_for(address("192.0.2.2")), None);
        tokio::time::advance(PERIOD).await;
        assert_eq!(guesses.refused_for(one), None);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_are_one_and_too_many_are_one() {
        let guesses = Guesses::default();
        for number in 0..GUESSES_MAX {
            guesses.wrong(address(&format!("2001:db8::{number}")));
        }
        assert!(guesses.refused_for(address("2001:db8::ffff")).is_some());
        assert!(guesses.refused_for(address("2001:db8:0:1::1")).is_none());
        for number in 0..2_000_u32 {
            guesses.wrong(IpAddr::from(number.to_be_bytes()));
        }
        assert!(guesses.refused_for(address("198.51.100.1")).is_some());
        assert!(guesses.0.lock().unwrap().len() <= ADDRESSES_MAX + 1);
    }
}
