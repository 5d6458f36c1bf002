//! Who sends: API keys, each with its organization.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::error::ApiError;

/// Shortest key accepted in the file, in bytes.
const KEY_BYTES_MIN: usize = 16;
/// Longest organization, in bytes.
const ORGANIZATION_BYTES_MAX: usize = 256;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeysError {
    /// The file cannot be read.
    #[error("the API keys in {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A line of the file is wrong; what it holds is not shown.
    #[error("{}, line {line}: {complaint}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        complaint: String,
    },
    /// The file has no key.
    #[error("{} has no API key", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The known keys; only their hashes are kept.
#[derive(Clone)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeys")
            .field("keys", &self.keys.len())
            .finish()
    }
}

#[derive(Clone)]
struct ApiKey {
    hash: [u8; 32],
    organization: String,
    rate: Option<u32>,
}

/// A line of the file, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    organization: String,
    rate: Option<u32>,
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) organization: String,
    /// The position of its key; `None` without keys.
    pub(crate) key: Option<u32>,
    /// Requests per second of this key alone.
    pub(crate) rate: Option<u32>,
}

impl ApiKeys {
    /// Reads a file of one JSON object per line: `{"key":"…","organization":"…","rate":100}`, the
    /// rate (requests per second) being optional. Empty lines and lines that begin with `#` do not
    /// count.
    ///
    /// # Errors
    /// The first thing wrong, with its line.
    pub fn from_file(path: &Path) -> Result<Self, ApiKeysError> {
        let text = std::fs::read_to_string(path).map_err(|source| ApiKeysError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut keys: Vec<ApiKey> = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (index, text) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let complain = |complaint: String| ApiKeysError::Line {
                path: path.to_owned(),
                line: index + 1,
                complaint,
            };
            let key = ApiKey::from_line(text).map_err(&complain)?;
            if keys.iter().any(|known| known.hash == key.hash) {
                return Err(complain("the key is there already".to_owned()));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(ApiKeysError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self { keys })
    }

    /// The rates that single keys have for themselves.
    pub(crate) fn rates(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().filter_map(|key| key.rate)
    }

    /// Finds who a bearer token belongs to, in a time that does not depend on the token.
    fn find(&self, token: &str) -> Option<Credential> {
        let hash = blake3::hash(token.as_bytes());
        let mut found = u32::MAX;
        for (index, key) in (0_u32..).zip(&self.keys) {
            found.conditional_assign(&index, key.hash.ct_eq(hash.as_bytes()));
        }
        let key = self.keys.get(found as usize)?;
        Some(Credential {
            organization: key.organization.clone(),
            key: Some(found),
            rate: key.rate,
        })
    }
}

impl ApiKey {
    fn from_line(text: &str) -> Result<Self, String> {
        // serde's message may quote a value: only its position is told.
        let line: Line = serde_json::from_str(text).map_err(|err| {
            format!(
                "expected {{\"key\":\"…\",\"organization\":\"…\",\"rate\":100}}, wrong at column {}",
                err.column()
            )
        })?;
        if line.key.len() < KEY_BYTES_MIN || !line.key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the key must have at least {KEY_BYTES_MIN} printable ASCII characters and no white space"
            ));
        }
        let organization = &line.organization;
        if organization.is_empty()
            || organization.len() > ORGANIZATION_BYTES_MAX
            || organization.chars().any(char::is_control)
        {
            return Err(format!(
                "the organization must have 1 to {ORGANIZATION_BYTES_MAX} bytes and no control characters"
            ));
        }
        if line.rate == Some(0) {
            return Err("the rate must be at least 1, or be left out".to_owned());
        }
        Ok(Self {
            hash: *blake3::hash(line.key.as_bytes()).as_bytes(),
            organization: line.organization,
            rate: line.rate,
        })
    }
}

/// Finds out who sent a request.
pub(crate) fn authenticate(
    keys: Option<&ApiKeys>,
    default_organization: &str,
    headers: &HeaderMap,
) -> Result<Credential, ApiError> {
    let Some(keys) = keys else {
        return Ok(Credential {
            organization: default_organization.to_owned(),
            key: None,
            rate: None,
        });
    };
    let unauthorized = |message| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| unauthorized("send an API key: Authorization: Bearer <key>"))?;
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| unauthorized("the header Authorization is not of the form Bearer <key>"))?;
    keys.find(token)
        .ok_or_else(|| unauthorized("the API key is not known"))
}

/// Returns whose request it is: the address that the nearest trusted proxy names, else the peer's.
pub(crate) fn client_address(peer: IpAddr, trusted: &[IpAddr], headers: &HeaderMap) -> IpAddr {
    let mut address = peer;
    let forwarded: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in forwarded.iter().rev() {
        if !trusted.contains(&address) {
            break;
        }
        match hop.trim().parse() {
            Ok(parsed) => address = parsed,
            Err(_) => break,
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn keys(text: &str) -> Result<ApiKeys, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        ApiKeys::from_file(file.path()).map_err(|err| {
            let path = file.path().display().to_string();
            err.to_string().replace(&path, "keys")
        })
    }

    fn bearer(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_key_names_its_organization() {
        let keys = keys(&format!(
            "# keys\n\n{{\"key\":\"{KEY}\",\"organization\":\"a\"}}\n{{\"key\":\"{KEY}2\",\"organization\":\"b\",\"rate\":5}}\n"
        ))
        .unwrap();
        let found = authenticate(Some(&keys), "-", &bearer(&format!("bearer {KEY}2"))).unwrap();
        assert_eq!((found.organization.as_str(), found.rate), ("b", Some(5)));
        for wrong in ["Bearer x", "Bearer ", "Basic eA==", KEY] {
            let error = authenticate(Some(&keys), "-", &bearer(wrong)).unwrap_err();
            assert_eq!(error.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(!format!("{keys:?}").contains(KEY));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_its_keys() {
        let says = |text: &str| keys(text).unwrap_err();
        assert_eq!(says("# none\n"), "keys has no API key");
        assert!(says("\nkey=0123456789abcdef").starts_with("keys, line 2: expected {"));
        let short = says("{\"key\":\"geheim\",\"organization\":\"a\"}");
        assert!(
            short.contains("at least 16") && !short.contains("geheim"),
            "{short}"
        );
        let twice = format!("{{\"key\":\"{KEY}\",\"organization\":\"a\"}}\n").repeat(2);
        assert_eq!(says(&twice), "keys, line 2: the key is there already");
    }

    #[test]
    fn only_trusted_proxies_name_another_address() {
        let [proxy, other, client]: [IpAddr; 3] =
            ["10.0.0.1", "10.0.0.2", "203.0.113.7"].map(|text| text.parse().unwrap());
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", value.parse().unwrap());
            headers
        };
        let spoofed = headers("198.51.100.1, 203.0.113.7");
        assert_eq!(client_address(proxy, &[], &spoofed), proxy);
        assert_eq!(client_address(proxy, &[proxy], &spoofed), client);
        let chain = headers("203.0.113.7, 10.0.0.2");
        assert_eq!(client_address(proxy, &[proxy, other], &chain), client);
        assert_eq!(client_address(proxy, &[proxy], &headers("nonsense")), proxy);
    }
}
