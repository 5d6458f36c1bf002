//! Asking an address for a document.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Answers are read up to this many bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Returns the body of a 200.
///
/// # Errors
/// Nobody answers within `timeout`, or with another status.
pub(crate) async fn get(addr: &str, path: &str, timeout: Duration) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(addr).await?;
        // HTTP/1.0: the answer ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(timeout, asked).await;
    let answer = answer.context("no answer in time")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}");
    Ok(body.to_owned())
}
