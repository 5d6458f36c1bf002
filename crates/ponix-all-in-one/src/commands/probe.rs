//! Asks the service on this machine whether it is ready, for containers without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ponix_runner::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cli;

const TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Prints what `/readyz` answers; the outcome is clean when the service is ready.
pub(crate) async fn run(admin_addr: SocketAddr) -> Outcome {
    match readiness(admin_addr).await {
        Ok((ready, body)) => {
            cli::line(&body);
            if ready {
                Outcome::Clean
            } else {
                Outcome::Failed
            }
        }
        Err(err) => cli::fail(&err),
    }
}

/// Asks the service whether it is ready, and returns what it says of itself, a JSON object.
pub(crate) async fn readiness(admin_addr: SocketAddr) -> Result<(bool, String), String> {
    let addr = reachable(admin_addr);
    let answer = match tokio::time::timeout(TIMEOUT, ask(addr)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(err)) => return Err(format!("no service answers at {addr}: {err}")),
        Err(_) => return Err(format!("the service at {addr} does not answer")),
    };
    let body = answer
        .split_once("\r\n\r\n")
        .map_or(answer.as_str(), |(_, body)| body);
    Ok((answer.starts_with("HTTP/1.1 200"), body.trim().to_owned()))
}

async fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A service that listens on every address is asked on loopback.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        let loopback = match addr.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        addr.set_ip(loopback);
    }
    addr
}
