//! HTTP's own compression: `Content-Encoding` of requests, `Accept-Encoding` of responses.

use std::io;
use std::pin::Pin;

use async_compression::Level;
use async_compression::tokio::bufread::{
    GzipDecoder, GzipEncoder, Lz4Decoder, Lz4Encoder, ZstdDecoder, ZstdEncoder,
};
use bytes::Bytes;
use futures::Stream;
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::exception::{Exception, codes};

/// Pieces of a body.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Bytes taken from a coder at a time.
const PIECE_BYTES: usize = 128 * 1024;

/// A compression both sides know by its HTTP name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
    /// `lz4`, the frame format
    Lz4,
}

impl Encoding {
    /// In the order the server prefers them: the least work first.
    const ALL: [Self; 3] = [Self::Lz4, Self::Zstd, Self::Gzip];

    /// The name in HTTP headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// That of a request's body; `None` for a plain one.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Exception> {
        let Some(value) = headers.get(CONTENT_ENCODING) else {
            return Ok(None);
        };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        if name.is_empty() || name == "identity" {
            return Ok(None);
        }
        Self::ALL.into_iter().find(|encoding| encoding.name() == name).map(Some).ok_or_else(|| {
            Exception::new(
                codes::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                format_args!("Unknown compression method {name} of the request's body; known are gzip, zstd and lz4"),
            )
        })
    }

    /// The one to answer with, of those the client says it takes.
    pub(crate) fn for_response(headers: &HeaderMap) -> Option<Self> {
        let accepted: Vec<String> = headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|item| {
                let (name, quality) = item.split_once(';').unwrap_or((item, ""));
                let refused = quality
                    .trim()
                    .trim_start_matches("q=")
                    .parse::<f32>()
                    .is_ok_and(|q| q <= 0.0);
                (!refused).then(|| name.trim().to_ascii_lowercase())
            })
            .collect();
        Self::ALL
            .into_iter()
            .find(|encoding| accepted.iter().any(|name| name == encoding.name()))
    }

    /// The plain bytes of a compressed body; ends with an error where the body is cut off or damaged.
    pub(crate) fn decode(self, body: Pieces) -> Pieces {
        let reader = StreamReader::new(body);
        match self {
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                pieces(decoder)
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new(reader);
                decoder.multiple_members(true);
                pieces(decoder)
            }
            Self::Lz4 => {
                let mut decoder = Lz4Decoder::new(reader);
                decoder.multiple_members(true);
                pieces(decoder)
            }
        }
    }

    /// The compressed form of a body.
    pub(crate) fn encode(self, body: Pieces) -> Pieces {
        let reader = StreamReader::new(body);
        match self {
            Self::Gzip => pieces(GzipEncoder::with_quality(reader, Level::Fastest)),
            Self::Zstd => pieces(ZstdEncoder::with_quality(reader, Level::Fastest)),
            Self::Lz4 => pieces(Lz4Encoder::with_quality(reader, Level::Fastest)),
        }
    }
}

fn pieces(reader: impl AsyncRead + Send + 'static) -> Pieces {
    Box::pin(ReaderStream::with_capacity(reader, PIECE_BYTES))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use hyper::HeaderMap;
    use hyper::header::{ACCEPT_ENCODING, HeaderValue};

    use super::{Encoding, Pieces};

    fn body(bytes: &[u8]) -> Pieces {
        let pieces: Vec<_> = bytes
            .chunks(1000)
            .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
            .collect();
        Box::pin(futures::stream::iter(pieces))
    }

    async fn collect(pieces: Pieces) -> std::io::Result<Vec<u8>> {
        pieces
            .try_fold(Vec::new(), async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn what_is_encoded_decodes_to_itself_and_a_cut_is_noticed() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for encoding in Encoding::ALL {
            let encoded = collect(encoding.encode(body(&data))).await.unwrap();
            assert_eq!(
                collect(encoding.decode(body(&encoded))).await.unwrap(),
                data
            );
            let mut twice = encoded.clone();
            twice.extend_from_slice(&encoded);
            assert_eq!(
                collect(encoding.decode(body(&twice))).await.unwrap().len(),
                2 * data.len(),
                "{encoding:?}"
            );
            for cut in [1, 2, encoded.len() / 2] {
                let cut = &encoded[..encoded.len() - cut];
                assert!(
                    collect(encoding.decode(body(cut))).await.is_err(),
                    "{encoding:?}"
                );
            }
        }
    }

    #[test]
    fn the_cheapest_accepted_encoding_is_taken() {
        let accepted = |value: &'static str| {
            Encoding::for_response(&HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(accepted("gzip, deflate, br, zstd"), Some(Encoding::Zstd));
        assert_eq!(accepted("lz4"), Some(Encoding::Lz4));
        assert_eq!(accepted("GZIP;q=0.5, lz4;q=0"), Some(Encoding::Gzip));
        assert_eq!(accepted("br"), None);
        assert_eq!(Encoding::for_response(&HeaderMap::new()), None);
    }
}
