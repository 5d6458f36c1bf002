//! How many connections there may be: at all, of one address, and of clients without a key.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::ServerConfig;

/// The places for connections.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Those that clients may keep without showing a key.
    open: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// Connections of each address.
struct Addresses {
    most: usize,
    proxies: Vec<IpAddr>,
    count: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection, free again when it is dropped.
pub(super) struct Place {
    _any: OwnedSemaphorePermit,
    open: Mutex<Standing>,
    _address: AddressPlace,
}

/// What a connection's place is.
enum Standing {
    /// One of those without a key.
    Open { _place: OwnedSemaphorePermit },
    /// Those were all taken: a key must be shown with the first request.
    Kept,
    /// It has shown a key.
    Known,
}

struct AddressPlace(Arc<Addresses>, IpAddr);

impl Places {
    pub(super) fn new(config: &ServerConfig) -> Self {
        let all = config.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(all)),
            open: Arc::new(Semaphore::new(all.saturating_sub(config.connections_kept))),
            addresses: Arc::new(Addresses {
                most: config.address_connections_max,
                proxies: config.proxies.clone(),
                count: Mutex::default(),
            }),
        }
    }

    /// Waits for a place.
    pub(super) async fn any(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.all).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }

    /// Gives a place to a connection, unless its address has enough of them.
    pub(super) fn take(&self, any: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let address = Addresses::take(&self.addresses, address)?;
        let standing = match Arc::clone(&self.open).try_acquire_owned() {
            Ok(place) => Standing::Open { _place: place },
            Err(_) => Standing::Kept,
        };
        Some(Place {
            _any: any,
            open: Mutex::new(standing),
            _address: address,
        })
    }
}

impl Addresses {
    fn take(this: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let mut count = this.count.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = count.entry(address).or_default();
        let limited = this.most > 0 && !this.proxies.contains(&address);
        if limited && *of_address >= this.most {
            return None;
        }
        *of_address += 1;
        Some(AddressPlace(Arc::clone(this), address))
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = count.get_mut(&self.1) {
            *of_address -= 1;
            if *of_address == 0 {
                count.remove(&self.1);
            }
        }
    }
}

impl Place {
    /// Notes that the client has shown a key.
    pub(super) fn known(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Standing::Known;
    }

    /// Tells whether the place is kept for somebody with a key, and none was shown yet.
    pub(super) fn is_kept(&self) -> bool {
        let standing = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*standing, Standing::Kept)
    }
}
