//! Receives the body of a request: undoes its encodings and keeps it until it is complete.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;

use crate::blocks;
use crate::encoding::{Encoding, Pieces};
use crate::exception::{Exception, codes};
use crate::spool::Spool;

/// Limits on bodies.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes, decompressed, over which a body is refused.
    pub bytes_max: u64,
    /// Bytes of a body kept in memory; the rest goes to a file.
    pub body_memory_bytes_max: usize,
    /// Bytes of all bodies kept in memory.
    pub memory_bytes_max: usize,
    /// Time without a byte after which a body counts as broken off.
    pub idle_timeout: Duration,
    /// Where the files go.
    pub folder: PathBuf,
}

/// Reads `body` to its end, into `spool`. Nothing of it counts unless this returns `Ok`: a body that is cut off anywhere, in the
/// connection, in its HTTP encoding or in its compressed frames, is an error.
///
/// # Cancel safety
/// What was read is lost.
pub(crate) async fn receive(
    body: Incoming,
    encoding: Option<Encoding>,
    frames: bool,
    limits: &Limits,
    mut spool: Spool,
) -> Result<Spool, Exception> {
    let plain: Pieces = Box::pin(BodyDataStream::new(body).map_err(io::Error::other));
    let mut pieces = match encoding {
        Some(encoding) => encoding.decode(plain),
        None => plain,
    };
    let mut decoder = frames.then(blocks::Decoder::default);
    loop {
        let piece = match tokio::time::timeout(limits.idle_timeout, pieces.next()).await {
            Err(_) => return Err(timed_out(limits.idle_timeout)),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(piece))) => piece,
        };
        let Some(decoder) = &mut decoder else {
            keep(&mut spool, piece, limits)?;
            continue;
        };
        decoder.push(&piece);
        while let Some(block) = decoder.next_block()? {
            keep(&mut spool, block, limits)?;
        }
    }
    if let Some(decoder) = decoder {
        decoder.finish()?;
    }
    Ok(spool)
}

fn keep(spool: &mut Spool, piece: bytes::Bytes, limits: &Limits) -> Result<(), Exception> {
    if spool.len() + piece.len() as u64 > limits.bytes_max {
        return Err(Exception::new(
            codes::QUERY_IS_TOO_LARGE,
            "QUERY_IS_TOO_LARGE",
            format_args!(
                "The request's body is larger than {} bytes, the limit of this server",
                limits.bytes_max
            ),
        ));
    }
    spool.push(piece).map_err(|error| {
        Exception::new(
            codes::NETWORK_ERROR,
            "NETWORK_ERROR",
            format_args!("The request's body cannot be kept on disk: {error}"),
        )
    })
}

fn timed_out(idle_timeout: Duration) -> Exception {
    Exception::new(
        codes::SOCKET_TIMEOUT,
        "SOCKET_TIMEOUT",
        format_args!(
            "Timeout exceeded while reading the request's body: no byte for {} s",
            idle_timeout.as_secs()
        ),
    )
}

fn broken(error: &io::Error) -> Exception {
    Exception::new(
        codes::NETWORK_ERROR,
        "NETWORK_ERROR",
        format_args!("The request's body broke off or is damaged: {error}; nothing was stored"),
    )
}
