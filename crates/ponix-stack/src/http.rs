//! Just enough HTTP to ask a server on loopback whether it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for a path and returns the body of a 200.
///
/// # Errors
///
/// No connection, no answer within 2 s, or another status, which is in the text with the body.
pub async fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let answer = timeout(TIMEOUT, exchange(addr, path))
        .await
        .with_context(|| format!("no answer from {addr}{path} within {TIMEOUT:?}"))?
        .with_context(|| format!("ask {addr}{path}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the header")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{addr}{path} answered {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// HTTP/1.0: the answer ends with the connection, so there are no lengths or chunks to read.
async fn exchange(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
