//! Envelopes as they lie in their stream.

use ponix_clickhouse::EnvelopeRow;
use ponix_pipeline::{Decode, DecodeError, Decoded, Message, PackFormat};

/// Reads envelopes, straight to the JSON text that ClickHouse reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnvelopeDecoder;

impl Decode for EnvelopeDecoder {
    type Row = EnvelopeRow;

    fn pack_format(&self) -> PackFormat {
        PackFormat::Envelopes
    }

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<EnvelopeRow>, DecodeError> {
        let decoded = ponix_nats::decode_message(
            message.payload,
            message.header(ponix_nats::CONTENT_TYPE),
            message.published_at_ns,
            message.identity,
        );
        let (envelope, event_id) = decoded.map_err(|err| DecodeError {
            reason: err.reason,
            text: err.error,
        })?;
        Ok(Decoded::Row {
            identity: event_id,
            row: EnvelopeRow {
                envelope,
                event_id,
                published_at_ns: message.published_at_ns,
                stream_sequence: message.stream_sequence,
            },
        })
    }
}
