//! Just enough HTTP to ask the admin endpoint and to send events.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Returns status and body.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    // HTTP/1.0: the answer ends with the connection.
    talk(
        addr,
        &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"),
    )
    .await
}

/// Sends a body with these further headers; returns status and body.
pub(crate) async fn post(
    addr: SocketAddr,
    path: &str,
    headers: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {addr}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    talk(addr, &request).await
}

async fn talk(addr: SocketAddr, request: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no header")?;
    let status = head.split_whitespace().nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}
