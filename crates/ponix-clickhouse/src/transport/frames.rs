//! The body of an INSERT in ClickHouse's own compressed frames, what `decompress=1` asks for.
//!
//! # Source
//! `src/Compression/CompressedReadBufferBase.cpp` of ClickHouse: CityHash128 (1.0.2) of what
//! follows, method, size from the method to the end, size of the data, the data.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use hyper::body::{Body, Frame};
use tokio::sync::watch;

/// How much is compressed and handed to the socket at once.
const CHUNK_BYTES: usize = 512 << 10;

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_LZ4: u8 = 0x82;

/// Compresses bytes piece by piece, as the socket takes them.
pub(crate) struct Frames {
    /// What goes out first, in a frame of its own.
    head: Bytes,
    rest: Bytes,
    all_taken: watch::Sender<bool>,
}

impl Frames {
    /// Makes a body of two parts, of which the first is short and may be empty.
    pub(crate) fn new(head: Bytes, rest: Bytes) -> Self {
        Self {
            all_taken: watch::Sender::new(rest.is_empty()),
            head,
            rest,
        }
    }

    /// Returns what changes with each piece that is taken: true after the last one.
    pub(super) fn taken(&self) -> watch::Receiver<bool> {
        self.all_taken.subscribe()
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            return Poll::Ready(Some(Ok(Frame::data(compressed(&head)))));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.rest.len().min(CHUNK_BYTES);
        let chunk = self.rest.split_to(count);
        self.all_taken.send_replace(self.rest.is_empty());
        Poll::Ready(Some(Ok(Frame::data(compressed(&chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.rest.is_empty()
    }
}

fn compressed(data: &[u8]) -> Bytes {
    let most = lz4_flex::block::get_maximum_output_size(data.len());
    let body = CHECKSUM_BYTES + HEADER_BYTES;
    let mut frame = vec![0; body + most];
    let len = lz4_flex::block::compress_into(data, &mut frame[body..])
        .expect("it fits into the maximum output size");
    frame.truncate(body + len);
    let mut header = &mut frame[CHECKSUM_BYTES..body];
    header.put_u8(METHOD_LZ4);
    header.put_u32_le((HEADER_BYTES + len) as u32);
    header.put_u32_le(data.len() as u32);
    // ClickHouse writes the two halves of the hash the other way round.
    let checksum = cityhash_rs::cityhash_102_128(&frame[CHECKSUM_BYTES..]).rotate_right(64);
    frame[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    frame.into()
}
