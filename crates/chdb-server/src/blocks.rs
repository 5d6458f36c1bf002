//! ClickHouse's own compressed framing, what `compress=1` and `decompress=1` turn on.
//!
//! A frame: CityHash128 (1.0.2) of all that follows, method byte, size of method byte to end, size of the data when
//! decompressed (both little-endian `u32`), the compressed data.
//!
//! # Source
//! `src/Compression/CompressedReadBufferBase.cpp` of ClickHouse.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::exception::{Exception, codes};

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
/// Frames are around 1 MiB; ClickHouse would take 1 GiB, but a frame waits in memory until it is whole.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// LZ4 cannot do better; a frame that claims more wants nothing but memory.
const LZ4_RATIO_MAX: usize = 255;
/// Bytes that go into one frame when encoding, ClickHouse's `max_compress_block_size`.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Takes a body in pieces of any size, gives the data of whole frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: BytesMut,
}

impl Decoder {
    /// Adds bytes of the body.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The data of the next whole frame, `None` while it is not there yet.
    pub(crate) fn next_block(&mut self) -> Result<Option<Bytes>, Exception> {
        const START: usize = CHECKSUM_BYTES + HEADER_BYTES;
        if self.pending.len() < START {
            return Ok(None);
        }
        let mut fields = &self.pending[..START];
        let checksum = fields.get_u128_le();
        let method = fields.get_u8();
        let compressed = fields.get_u32_le() as usize;
        let decompressed = fields.get_u32_le() as usize;
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&compressed) || decompressed > FRAME_BYTES_MAX
        {
            return Err(cannot_decompress(
                "a frame with an impossible size; most likely corrupted data",
            ));
        }
        if self.pending.len() < CHECKSUM_BYTES + compressed {
            return Ok(None);
        }
        let mut frame = self.pending.split_to(CHECKSUM_BYTES + compressed).freeze();
        frame.advance(CHECKSUM_BYTES);
        if checksum_of(&frame) != checksum {
            let message =
                "Checksum doesn't match: corrupted data in a compressed frame of the request";
            return Err(Exception::new(
                codes::CHECKSUM_DOESNT_MATCH,
                "CHECKSUM_DOESNT_MATCH",
                message,
            ));
        }
        frame.advance(HEADER_BYTES);
        match method {
            METHOD_NONE => Ok(Some(frame)),
            METHOD_LZ4 => {
                if decompressed > frame.len() * LZ4_RATIO_MAX {
                    return Err(cannot_decompress(
                        "a frame that claims more data than it can hold",
                    ));
                }
                let data =
                    lz4_flex::block::decompress(&frame, decompressed).map_err(cannot_decompress)?;
                Ok(Some(Bytes::from(data)))
            }
            other => Err(Exception::new(
                codes::UNKNOWN_COMPRESSION_METHOD,
                "UNKNOWN_COMPRESSION_METHOD",
                format_args!("Unknown codec family code: {other}; this server knows LZ4 and none"),
            )),
        }
    }

    /// Says whether the body ended at the end of a frame.
    pub(crate) fn finish(&self) -> Result<(), Exception> {
        if self.pending.is_empty() {
            Ok(())
        } else {
            Err(cannot_decompress(
                "Attempt to read after eof: the last compressed frame is cut off",
            ))
        }
    }
}

fn cannot_decompress(message: impl std::fmt::Display) -> Exception {
    Exception::new(codes::CANNOT_DECOMPRESS, "CANNOT_DECOMPRESS", message)
}

/// ClickHouse writes the two halves of the hash the other way round.
fn checksum_of(bytes: &[u8]) -> u128 {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64)
}

/// The data as frames of at most 1 MiB, LZ4; none for no data.
pub(crate) fn encode(data: &[u8]) -> Bytes {
    let mut encoded = BytesMut::new();
    for block in data.chunks(BLOCK_BYTES) {
        let start = encoded.len();
        encoded.reserve(CHECKSUM_BYTES + HEADER_BYTES + block.len() / 2);
        encoded.put_bytes(0, CHECKSUM_BYTES + HEADER_BYTES);
        encoded.extend_from_slice(&lz4_flex::block::compress(block));
        let body = start + CHECKSUM_BYTES;
        let compressed = encoded.len() - body;
        let mut header = &mut encoded[body..body + HEADER_BYTES];
        header.put_u8(METHOD_LZ4);
        header.put_u32_le(compressed as u32);
        header.put_u32_le(block.len() as u32);
        let checksum = checksum_of(&encoded[body..]);
        (&mut encoded[start..body]).put_u128_le(checksum);
    }
    encoded.freeze()
}

#[cfg(test)]
mod tests {
    use super::{CHECKSUM_BYTES, Decoder, encode};

    fn decode(body: &[u8], step: usize) -> Result<Vec<u8>, u32> {
        let mut decoder = Decoder::default();
        let mut data = Vec::new();
        for piece in body.chunks(step) {
            decoder.push(piece);
            while let Some(block) = decoder.next_block().map_err(|exception| exception.code())? {
                data.extend_from_slice(&block);
            }
        }
        decoder.finish().map_err(|exception| exception.code())?;
        Ok(data)
    }

    #[test]
    fn what_is_encoded_decodes_to_itself_in_pieces_of_any_size() {
        let data: Vec<u8> = (0..3_000_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .take(2_500_000)
            .collect();
        let body = encode(&data);
        assert!(body.len() < data.len());
        for step in [1_000, 65_536, body.len()] {
            assert_eq!(decode(&body, step).as_deref(), Ok(data.as_slice()));
        }
        assert_eq!(decode(&encode(b"x"), 1).as_deref(), Ok(b"x".as_slice()));
    }

    #[test]
    fn damage_is_noticed() {
        let body = encode(b"some data that is long enough");
        let mut flipped = body.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(decode(&flipped, 7), Err(40));
        assert_eq!(decode(&body[..body.len() - 1], 7), Err(271));
        let mut huge = body.to_vec();
        huge[CHECKSUM_BYTES + 1..CHECKSUM_BYTES + 5].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&huge, 7), Err(271));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
            method in 0_u8..3,
        ) {
            // Random bytes never pass the checksum: give them a right one, so that the codec sees them.
            let mut frame = vec![0; CHECKSUM_BYTES];
            frame.push([0x02, 0x82, 0x90][usize::from(method)]);
            frame.extend((body.len() as u32 + 9).to_le_bytes());
            frame.extend(1000_u32.to_le_bytes());
            frame.extend(&body);
            let checksum = super::checksum_of(&frame[CHECKSUM_BYTES..]);
            frame[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
            drop(decode(&frame, 7));
            drop(decode(&body, 7));
        }
    }
}
