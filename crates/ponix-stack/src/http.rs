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
    let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let (status, body) = timeout(TIMEOUT, exchange(addr, &request))
        .await
        .with_context(|| format!("no answer from {addr}{path} within {TIMEOUT:?}"))?
        .with_context(|| format!("ask {addr}{path}"))?;
    if status != 200 {
        bail!("{addr}{path} answered {status}: {}", body.trim());
    }
    Ok(body)
}

/// Sends a request as it is and returns status and body of the answer, however long it takes.
///
/// The request says HTTP/1.0: the answer ends with the connection, so there are no lengths or
/// chunks to read.
///
/// # Errors
///
/// No connection, or no answer with a status.
pub async fn exchange(addr: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the header")?;
    let status = head.split_whitespace().nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}
