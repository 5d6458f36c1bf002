//! How much a client may ask for: requests per second, and requests at a time over all.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Credential;
use crate::config::IngestConfig;
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
    lines: Option<Arc<DefaultKeyedRateLimiter<String>>>,
    bytes: Option<Arc<DefaultKeyedRateLimiter<String>>>,
}

impl Limits {
    pub(crate) fn new(config: &IngestConfig, own_rates: impl IntoIterator<Item = u32>) -> Self {
        let mut rates: Vec<u32> = own_rates.into_iter().collect();
        rates.sort_unstable();
        rates.dedup();
        let own = |rate| Some((rate, limiter(rate, 1)?));
        let requests = config.requests_max.min(Semaphore::MAX_PERMITS);
        let (lines, bytes) = (config.batch_lines_max, config.body_bytes_max);
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            addresses: limiter(config.address_rate, 1).map(Arc::new),
            keys: limiter(config.key_rate, 1).map(Arc::new),
            own_rates: Arc::new(rates.into_iter().filter_map(own).collect()),
            lines: limiter(config.organization_lines_rate, lines).map(Arc::new),
            bytes: limiter(config.organization_bytes_rate, bytes).map(Arc::new),
        }
    }

    /// Counts what an organization sends with a request.
    pub(crate) fn of_organization(
        &self,
        organization: &String,
        lines: usize,
        bytes: usize,
    ) -> Result<(), ApiError> {
        let limits = [(&self.lines, lines, "lines"), (&self.bytes, bytes, "bytes")];
        for (limiter, count, unit) in limits {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let (Some(limiter), Some(count)) = (limiter, NonZeroU32::new(count)) else {
                continue;
            };
            // More than fits at once cannot be: a body is smaller.
            if let Ok(Err(until)) = limiter.check_key_n(organization, count) {
                let message = format!("the organization sends too many {unit} per second");
                return Err(too_many(message, &until));
            }
        }
        Ok(())
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

/// A limit per second; 0 is none. At least `burst` may come at once.
fn limiter<K>(rate: u32, burst: usize) -> Option<DefaultKeyedRateLimiter<K>>
where
    K: std::hash::Hash + Eq + Clone,
{
    let rate = NonZeroU32::new(rate)?;
    let burst = u32::try_from(burst).unwrap_or(u32::MAX);
    let burst = NonZeroU32::new(burst).map_or(rate, |burst| burst.max(rate));
    let quota = Quota::per_second(rate).allow_burst(burst);
    Some(RateLimiter::keyed(quota))
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
) -> Result<(), ApiError> {
    let checked = limiter.check_key(key);
    checked.map_err(|until| too_many("too many requests per second", &until))
}

fn too_many(
    message: impl Into<String>,
    until: &NotUntil<<DefaultClock as Clock>::Instant>,
) -> ApiError {
    let wait = until.wait_time_from(DefaultClock::default().now());
    let message = format!("{}: send again later", message.into());
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message)
        .retry_after(wait.as_secs_f64().ceil().max(1.0) as u64)
}
