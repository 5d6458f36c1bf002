//! How much a client may ask for: requests per second, and requests at a time over all.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::StatusCode;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Credential;
use crate::error::ApiError;

/// Keyed limiters keep a state per key; addresses that are quiet are forgotten at this many.
const ADDRESSES_MAX: usize = 100_000;

/// The limits that several requests share. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    requests: Arc<Semaphore>,
    addresses: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    keys: Option<Arc<DefaultKeyedRateLimiter<u32>>>,
    /// Keys with a rate of their own, by that rate.
    own_rates: Arc<Vec<(u32, DefaultKeyedRateLimiter<u32>)>>,
}

impl Limits {
    pub(crate) fn new(
        requests_max: usize,
        address_rate: u32,
        key_rate: u32,
        own_rates: impl IntoIterator<Item = u32>,
    ) -> Self {
        let mut rates: Vec<u32> = own_rates.into_iter().collect();
        rates.sort_unstable();
        rates.dedup();
        let own = |rate| Some((rate, limiter(rate)?));
        Self {
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            addresses: limiter(address_rate).map(Arc::new),
            keys: limiter(key_rate).map(Arc::new),
            own_rates: Arc::new(rates.into_iter().filter_map(own).collect()),
        }
    }

    /// Takes a place among the requests in work, or sheds the request.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many requests are in work: send again later",
            )
            .retry_after(1)
        })
    }

    /// Counts a request of an address.
    pub(crate) fn of_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(limiter) = &self.addresses else {
            return Ok(());
        };
        if limiter.len() > ADDRESSES_MAX {
            limiter.retain_recent();
        }
        check(limiter, &address)
    }

    /// Counts a request of a key.
    pub(crate) fn of_credential(&self, credential: &Credential) -> Result<(), ApiError> {
        let Some(key) = &credential.key else {
            return Ok(());
        };
        let own = credential.rate.and_then(|rate| {
            let found = self.own_rates.iter().find(|(of, _)| *of == rate);
            found.map(|(_, limiter)| limiter)
        });
        match own.or(self.keys.as_deref()) {
            Some(limiter) => check(limiter, key),
            None => Ok(()),
        }
    }
}

fn limiter<K: std::hash::Hash + Eq + Clone>(rate: u32) -> Option<DefaultKeyedRateLimiter<K>> {
    NonZeroU32::new(rate).map(|rate| RateLimiter::keyed(Quota::per_second(rate)))
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
) -> Result<(), ApiError> {
    limiter.check_key(key).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many requests per second: send again later",
        )
        .retry_after(wait.as_secs_f64().ceil().max(1.0) as u64)
    })
}
