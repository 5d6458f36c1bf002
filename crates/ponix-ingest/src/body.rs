//! Reads the body of a request: bounded in bytes, in time, and in what it unpacks to.

use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::ApiError;

/// Below this, any ratio of compression is fine.
const RATIO_FREE_BYTES: usize = 64 << 10;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: usize,
    pub(crate) ratio_max: usize,
    pub(crate) timeout: Duration,
}

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    NdJson,
    Protobuf,
}

impl ContentType {
    /// Reads the header `Content-Type`; parameters such as a charset do not count.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let unsupported = || {
            unsupported(
                "send Content-Type application/json, application/x-ndjson or application/x-protobuf",
            )
        };
        match essence(headers).as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::NdJson),
            "application/x-protobuf" | "application/protobuf" => Ok(Self::Protobuf),
            _ => Err(unsupported()),
        }
    }
}

/// The header `Content-Type` without its parameters, in lower case; empty when there is none.
pub(crate) fn essence(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = text.unwrap_or_default().split(';').next();
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

pub(crate) fn unsupported(message: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        message,
    )
}

/// Reads and unpacks a whole body.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, ApiError> {
    let read = Limited::new(body, limits.bytes_max).collect();
    let packed = match tokio::time::timeout(limits.timeout, read).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(err)) if err.is::<LengthLimitError>() => return Err(too_large(limits)),
        Ok(Err(_)) => {
            return Err(ApiError::bad("broken_body", "the body broke off"));
        }
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                format!("the body was not there within {:?}", limits.timeout),
            ));
        }
    };
    match encoding(headers)? {
        None => Ok(packed),
        Some(Encoding::Gzip) => unpack(GzipDecoder::new(&packed[..]), packed.len(), limits).await,
        Some(Encoding::Zstd) => unpack(ZstdDecoder::new(&packed[..]), packed.len(), limits).await,
    }
}

/// Returns the lines that are not empty, each with its index and without white space around it.
///
/// # Errors
/// No line, or too many.
pub(crate) fn lines(bytes: &Bytes, lines_max: usize) -> Result<Vec<(usize, Bytes)>, ApiError> {
    let lines: Vec<(usize, Bytes)> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| (index, bytes.slice_ref(line)))
        .collect();
    if lines.is_empty() {
        return Err(ApiError::bad("empty_body", "the body has no line"));
    }
    if lines.len() > lines_max {
        let message = format!(
            "the body has {} lines, at most {lines_max} are taken",
            lines.len()
        );
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_many_lines",
            message,
        ));
    }
    Ok(lines)
}

enum Encoding {
    Gzip,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, ApiError> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let value = values.next();
    match (
        value.map(|value| value.to_str().unwrap_or("?").trim()),
        values.next(),
    ) {
        (None | Some("" | "identity"), None) => Ok(None),
        (Some("gzip" | "x-gzip"), None) => Ok(Some(Encoding::Gzip)),
        (Some("zstd"), None) => Ok(Some(Encoding::Zstd)),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "send Content-Encoding gzip or zstd, once, or none",
        )),
    }
}

async fn unpack(
    mut decoder: impl AsyncRead + Unpin + Send,
    packed: usize,
    limits: BodyLimits,
) -> Result<Bytes, ApiError> {
    let ratio_bytes = packed
        .saturating_mul(limits.ratio_max)
        .max(RATIO_FREE_BYTES);
    let bytes_max = limits.bytes_max.min(ratio_bytes);
    let mut unpacked = Vec::new();
    // One byte more than may be, so that too much is told from just enough.
    (&mut decoder)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut unpacked)
        .await
        .map_err(|_| {
            ApiError::bad(
                "invalid_encoding",
                "the body is not what its Content-Encoding says, or breaks off",
            )
        })?;
    if unpacked.len() <= bytes_max {
        return Ok(unpacked.into());
    }
    if bytes_max == limits.bytes_max {
        return Err(too_large(limits));
    }
    Err(ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "compression_ratio",
        format!(
            "the body unpacks to more than {} times its size",
            limits.ratio_max
        ),
    ))
}

fn too_large(limits: BodyLimits) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!(
            "the body has more than {} bytes (after decompression)",
            limits.bytes_max
        ),
    )
}
