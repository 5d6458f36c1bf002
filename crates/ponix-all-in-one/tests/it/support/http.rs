//! Just enough HTTP to ask the admin endpoint and to send events.

use std::net::SocketAddr;

use ponix_stack::http_exchange;

/// Returns status and body.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    // HTTP/1.0: the answer ends with the connection.
    http_exchange(
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
    http_exchange(addr, &request).await
}
