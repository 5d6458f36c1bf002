//! One INSERT as one HTTP request, and the proof that ClickHouse has executed it.
//!
//! The `clickhouse` crate takes any 200 for a success and shows no headers, so that a balancer's
//! maintenance page would acknowledge a batch. Here it takes `X-ClickHouse-Summary`, with at least
//! as many written rows as were sent.

use std::pin::pin;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::client::legacy::ResponseFuture;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use url::Url;

use super::Pool;
use super::frames::Frames;
use crate::ClickHouseConfig;
use crate::error::RequestError;

/// The most that is read of an answer, which is a text of a few lines.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Sends the body of one INSERT to the server `at` a URL and waits for the proof that so many rows are written.
///
/// # Errors
/// [`RequestError`]; an answer without proof is [`RequestError::NotClickHouse`] or
/// [`RequestError::Incomplete`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn insert<'a>(
    pool: &Pool,
    config: &ClickHouseConfig,
    at: &str,
    sql: &str,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
    body: Frames,
    rows: usize,
) -> Result<(), RequestError> {
    let taken = body.taken();
    let request = request(config, at, sql, settings, body)?;
    let response = answer(pool.request(request), taken, config).await?;
    let after = config.response_timeout;
    match tokio::time::timeout(after, judge(response, rows)).await {
        Ok(judged) => judged,
        Err(_) => Err(RequestError::TimedOut { after }),
    }
}

fn request<'a>(
    config: &ClickHouseConfig,
    at: &str,
    sql: &str,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
    body: Frames,
) -> Result<Request<Frames>, RequestError> {
    let mut url = Url::parse(at).map_err(|error| RequestError::Request(Box::new(error)))?;
    url.query_pairs_mut()
        .append_pair("database", &config.database)
        .append_pair("query", sql)
        .append_pair("decompress", "1")
        // The headers, and with them the summary and the status, come after the last row.
        .append_pair("wait_end_of_query", "1")
        .extend_pairs(settings);
    Request::post(url.as_str())
        .header(
            header::USER_AGENT,
            concat!("ponix/", env!("CARGO_PKG_VERSION")),
        )
        .header("X-ClickHouse-User", &config.username)
        .header("X-ClickHouse-Key", config.password.expose_secret())
        .body(body)
        .map_err(|error| RequestError::Request(Box::new(error)))
}

/// Waits for the head of the answer as long as the socket takes the body, piece by piece.
async fn answer(
    response: ResponseFuture,
    mut taken: watch::Receiver<bool>,
    config: &ClickHouseConfig,
) -> Result<Response<Incoming>, RequestError> {
    let mut response = pin!(response);
    loop {
        let after = if *taken.borrow_and_update() {
            config.response_timeout
        } else {
            config.send_timeout
        };
        tokio::select! {
            answer = &mut response => {
                return answer.map_err(|error| RequestError::Network(Box::new(error)));
            }
            Ok(()) = taken.changed() => {}
            () = tokio::time::sleep(after) => return Err(RequestError::TimedOut { after }),
        }
    }
}

async fn judge(response: Response<Incoming>, rows: usize) -> Result<(), RequestError> {
    let (head, body) = response.into_parts();
    let text = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) if head.status == StatusCode::OK => return Err(RequestError::Network(error)),
        Err(_) => String::new(),
    };
    let code = text_of(&head.headers, "X-ClickHouse-Exception-Code");
    if head.status != StatusCode::OK || code.is_some() {
        return Err(refusal(head.status, code, text.trim()));
    }
    // A statement that fails after its answer has begun says so in the body.
    if let Some(at) = text.find("Code: ") {
        return Err(RequestError::from_text(&text[at..]));
    }
    match text_of(&head.headers, "X-ClickHouse-Summary").and_then(written_rows) {
        Some(written) if written >= rows as u64 => Ok(()),
        Some(written) => Err(RequestError::Incomplete { rows, written }),
        None => Err(RequestError::from_text(&format!(
            "200 without X-ClickHouse-Summary: {}",
            text.trim()
        ))),
    }
}

fn refusal(status: StatusCode, code: Option<&str>, text: &str) -> RequestError {
    match code {
        Some(code) if !text.starts_with("Code: ") => {
            RequestError::from_text(&format!("Code: {code}. {text}"))
        }
        None if !text.starts_with("Code: ") => {
            RequestError::from_text(format!("{status} {text}").trim())
        }
        _ => RequestError::from_text(text),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads the count out of `{"written_rows":"3",…}`; views count too, so it may be more than sent.
fn written_rows(summary: &str) -> Option<u64> {
    let summary: serde_json::Value = serde_json::from_str(summary).ok()?;
    let written = summary.get("written_rows")?;
    written.as_u64().or_else(|| written.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_summary_counts_in_texts() {
        let summary = r#"{"read_rows":"0","written_rows":"12","elapsed_ns":"5","memory_usage":7}"#;
        assert_eq!(written_rows(summary), Some(12));
        assert_eq!(written_rows(r#"{"written_rows":12}"#), Some(12));
        for no in ["", "x", "{}", r#"{"written_rows":"x"}"#] {
            assert_eq!(written_rows(no), None, "{no}");
        }
    }

    #[test]
    fn a_refusal_is_read_from_the_body_else_from_the_head() {
        let kind = |status, code, text| {
            let error = refusal(status, code, text);
            (error.code(), error.kind())
        };
        let not_found = StatusCode::NOT_FOUND;
        let missing = "Code: 60. DB::Exception: Table p.x does not exist.";
        assert_eq!(
            kind(not_found, Some("60"), missing),
            (Some(60), ErrorKind::Fatal)
        );
        assert_eq!(
            kind(not_found, Some("60"), ""),
            (Some(60), ErrorKind::Fatal)
        );
        assert_eq!(kind(not_found, None, missing), (Some(60), ErrorKind::Fatal));
        assert_eq!(kind(not_found, None, "<html>"), (None, ErrorKind::Fatal));
        let gateway = StatusCode::BAD_GATEWAY;
        assert_eq!(kind(gateway, None, "<html>"), (None, ErrorKind::Transient));
    }
}
