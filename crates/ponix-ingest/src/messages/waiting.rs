//! How many requests may wait for a status, and how many may read one.
//!
//! Who waits holds a place among the requests in work, and who reads a connection to the database:
//! neither must keep new messages out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Statuses that are read at the same time at most.
const READS_MAX: usize = 4;

/// The places of those that wait. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    all: Arc<Semaphore>,
    of_organization_max: usize,
    organizations: Arc<Mutex<HashMap<String, usize>>>,
    reads: Arc<Semaphore>,
}

/// A place of somebody who waits, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingPlace {
    _any: OwnedSemaphorePermit,
    organization: String,
    organizations: Arc<Mutex<HashMap<String, usize>>>,
}

impl Waiting {
    /// A quarter of the requests in work may wait, and a quarter of these of one organization.
    pub(crate) fn new(requests_max: usize) -> Self {
        let all = (requests_max / 4).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(all)),
            of_organization_max: (all / 4).max(1),
            organizations: Arc::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// There is none now.
    pub(crate) fn enter(&self, organization: &str) -> Result<WaitingPlace, ApiError> {
        let none = |_| {
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_waits",
                "too many requests wait for a status: ask again without wait, or later",
            )
            .retry_after(1)
        };
        let any = Arc::clone(&self.all).try_acquire_owned().map_err(none)?;
        let mut organizations = lock(&self.organizations);
        let waiting = organizations.entry(organization.to_owned()).or_default();
        if *waiting >= self.of_organization_max {
            return Err(none(tokio::sync::TryAcquireError::NoPermits));
        }
        *waiting += 1;
        Ok(WaitingPlace {
            _any: any,
            organization: organization.to_owned(),
            organizations: Arc::clone(&self.organizations),
        })
    }

    /// Waits until a status may be read.
    pub(crate) async fn reading(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.reads).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        let mut organizations = lock(&self.organizations);
        if let Some(waiting) = organizations.get_mut(&self.organization) {
            *waiting -= 1;
            if *waiting == 0 {
                organizations.remove(&self.organization);
            }
        }
    }
}

fn lock(
    organizations: &Mutex<HashMap<String, usize>>,
) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
    organizations.lock().unwrap_or_else(PoisonError::into_inner)
}
