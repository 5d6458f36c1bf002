//! From an accepted message to its PubAck.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use lru::LruCache;
use ponix_nats::{OutgoingMessage, PubAck, Publisher};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::ApiError;
use crate::metrics::IngestMetrics;
use crate::store::StoreUnavailable;

/// Longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// Tells one content from another.
pub(crate) type ContentHash = [u8; 32];

pub(crate) fn content_hash(content: &[u8]) -> ContentHash {
    *blake3::hash(content).as_bytes()
}

/// Publishes, and remembers what clients said under the ids they chose.
#[derive(Debug, Clone)]
pub(crate) struct Publishing {
    publisher: Publisher,
    timeout: Duration,
    metrics: IngestMetrics,
    remembered: Arc<Mutex<LruCache<Uuid, ContentHash>>>,
}

impl Publishing {
    pub(crate) fn new(
        publisher: Publisher,
        timeout: Duration,
        remembered_ids_max: usize,
        metrics: IngestMetrics,
    ) -> Self {
        let most = NonZeroUsize::new(remembered_ids_max).unwrap_or(NonZeroUsize::MIN);
        Self {
            publisher,
            timeout,
            metrics,
            remembered: Arc::new(Mutex::new(LruCache::new(most))),
        }
    }

    /// Returns the same with nothing remembered.
    pub(crate) fn with_own_memory(&self, remembered_ids_max: usize) -> Self {
        let (publisher, metrics) = (self.publisher.clone(), self.metrics.clone());
        Self::new(publisher, self.timeout, remembered_ids_max, metrics)
    }

    /// Publishes one message and returns whether the stream had it already. `id` is what it is
    /// known by to the client, and `source` are the bytes that the client sent for it, where the
    /// client chose the id.
    pub(crate) async fn publish(
        &self,
        id: Uuid,
        message: OutgoingMessage,
        source: Option<&[u8]>,
    ) -> Result<bool, ApiError> {
        // Before the stream sees it: a stream keeps the first of an id and forgets what it said.
        let key = message.id.unwrap_or(id);
        let hash = source.map(content_hash);
        if let Some(hash) = hash {
            self.check_conflict(key, id, hash)?;
        }
        let start = Instant::now();
        let published = tokio::time::timeout(self.timeout, self.publisher.publish(message)).await;
        let PubAck { duplicate, .. } = published.map_err(|_| ApiError::outcome_unknown())??;
        self.metrics
            .publish_latency
            .observe(start.elapsed().as_secs_f64());
        if let Some(hash) = hash {
            // Two at the same time both pass the first check: the stream tells which came second.
            if duplicate {
                self.check_conflict(key, id, hash)?;
            }
            self.remember(key, hash);
        }
        Ok(duplicate)
    }

    /// Remembers what was accepted under a key: an id that the client chose, see [`own_id`].
    pub(crate) fn remember(&self, key: Uuid, hash: ContentHash) {
        self.remembered().put(key, hash);
    }

    /// Waits for a store as long as for a stream.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(err)) => {
                tracing::warn!(error = %err, "the store does not answer a request");
                Err(ApiError::outcome_unknown())
            }
            Err(_) => Err(ApiError::outcome_unknown()),
        }
    }

    /// Refuses a content if another one is remembered under the same key.
    pub(crate) fn check_conflict(
        &self,
        key: Uuid,
        id: Uuid,
        hash: ContentHash,
    ) -> Result<(), ApiError> {
        match self.remembered().get(&key) {
            Some(first) if *first != hash => Err(ApiError::new(
                StatusCode::CONFLICT,
                "idempotency_conflict",
                format!("{id} was accepted with another content: the first one counts"),
            )),
            _ => Ok(()),
        }
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, LruCache<Uuid, ContentHash>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// A key that is empty, too long, not printable ASCII, or there twice.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    let plain = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !plain || values.next().is_some()
    {
        let message = format!(
            "Idempotency-Key must be given once, with 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters"
        );
        return Err(ApiError::bad("invalid_idempotency_key", message).at("Idempotency-Key"));
    }
    Ok(Some(key))
}

/// What an id that a client chose is to the stream: two organizations may choose the same one, and
/// neither must be taken for a repeat of the other.
pub(crate) fn own_id(organization: &str, id: Uuid) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key("ponix 2026-11 an id of an organization");
    hasher.update(id.as_bytes());
    hasher.update(organization.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

/// The id that a key stands for: the same for ever, and another for every organization and line.
pub(crate) fn id_of_key(organization: &str, key: &str, line: u64) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for part in [organization.as_bytes(), key.as_bytes(), &line.to_be_bytes()] {
        // The lengths keep two different lists of parts from being the same bytes.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_id_per_organization_and_line() {
        let id = id_of_key("org", "key", 0);
        // A contract: a retry after an update must be the same event.
        assert_eq!(id.to_string(), "0a812b1a-0fc7-809b-8203-d784db6ef261");
        for other in [
            id_of_key("org", "key", 1),
            id_of_key("or", "gkey", 0),
            id_of_key("org2", "key", 0),
        ] {
            assert_ne!(other, id);
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused() {
        let headers = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = axum::http::HeaderValue::from_bytes(value).unwrap();
                headers.append("idempotency-key", value);
            }
            headers
        };
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(idempotency_key(&headers(&[b"a b"])), Ok(Some("a b")));
        let long = [b'x'; IDEMPOTENCY_KEY_BYTES_MAX + 1];
        assert!(idempotency_key(&headers(&[&long[1..]])).is_ok());
        for wrong in [
            &[&b""[..]][..],
            &[&long[..]],
            &[b"a", b"a"],
            &[b"a\tb"],
            &["ü".as_bytes()],
        ] {
            assert!(idempotency_key(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }
}
