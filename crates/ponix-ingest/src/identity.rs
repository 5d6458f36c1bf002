//! The ids of events: what a client chose, what its key stands for, and what the stream is told.

use axum::http::HeaderMap;
use uuid::Uuid;

use crate::error::ApiError;

/// Longest `Idempotency-Key`, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

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

/// What another content under an id is to the stream.
pub(crate) fn id_of_content(key: Uuid, content: &[u8]) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key("ponix 2026-11 a corrected message");
    hasher.update(key.as_bytes());
    hasher.update(content);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::new_v8(bytes)
}

/// The id that a key stands for: the same for ever, and another for every organization and line.
pub fn id_of_key(organization: &str, key: &str, line: u64) -> Uuid {
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
