//! What was accepted under the ids that clients chose: tells a repeat from a conflict.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use lru::LruCache;
use uuid::Uuid;

use crate::error::{ApiError, CONFLICT};

/// Tells one content from another.
pub(crate) type ContentHash = [u8; 32];

pub(crate) fn content_hash(content: &[u8]) -> ContentHash {
    *blake3::hash(content).as_bytes()
}

/// Something else came under an id.
pub(crate) fn conflict(id: Uuid) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        CONFLICT,
        format!("{id} was accepted with another content: the first one counts"),
    )
}

/// The latest ids with the hash of what came under them. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<Mutex<LruCache<Uuid, ContentHash>>>);

impl Memory {
    pub(crate) fn new(ids_max: usize) -> Self {
        let most = NonZeroUsize::new(ids_max).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Mutex::new(LruCache::new(most))))
    }

    /// Refuses a content if another one is remembered under the same key. `id` is the client's word
    /// for it.
    pub(crate) fn check(&self, key: Uuid, id: Uuid, content: ContentHash) -> Result<(), ApiError> {
        match self.cache().get(&key) {
            Some(first) if *first != content => Err(conflict(id)),
            _ => Ok(()),
        }
    }

    pub(crate) fn remember(&self, key: Uuid, content: ContentHash) {
        self.cache().put(key, content);
    }

    pub(crate) fn forget(&self, key: Uuid) {
        self.cache().pop(&key);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<Uuid, ContentHash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
