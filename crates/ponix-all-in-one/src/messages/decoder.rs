//! Raw messages as they lie in their stream.

use std::sync::Arc;

use ponix_entities::{Catalog, Format};
use ponix_pipeline::{Decode, DecodeError, Decoded, Message};
use ponix_postgres::MessageRow;
use ponix_wire::header;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Reads messages by their entities. A message that fits none is a row too: it gets a status.
#[derive(Debug, Clone)]
pub(crate) struct MessageDecoder {
    catalog: Arc<Catalog>,
}

impl MessageDecoder {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }
}

impl Decode for MessageDecoder {
    type Row = MessageRow;

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<MessageRow>, DecodeError> {
        let row = incoming(&self.catalog, message);
        Ok(Decoded::Row {
            identity: row.message_id,
            row,
        })
    }
}

/// What a message holds, the same on every delivery but for the count of retries.
fn incoming(catalog: &Catalog, message: &Message<'_>) -> MessageRow {
    let hint = message.header(header::ENTITY);
    let payload = message.payload;
    let format = Format::of(message.header(header::CONTENT_TYPE), payload);
    let parsed = catalog.parse(format, payload, hint);
    let entity = match &parsed {
        Ok(parsed) => Some(parsed.entity.as_str()),
        Err(err) => err.entity.as_deref(),
    };
    let entity = entity.or_else(|| catalog.identify(format, payload, hint));
    MessageRow {
        message_id: message_id(message),
        organization: message.header(header::ORGANIZATION).map(str::to_owned),
        entity_type: entity.map(str::to_owned),
        received_at: received_at(message),
        source: message.header(header::SOURCE).map(str::to_owned),
        retry_count: retries(message),
        parsed,
    }
}

/// The id that the client knows; the stream may have another one for it.
fn message_id(message: &Message<'_>) -> Uuid {
    message
        .header(header::MESSAGE_ID)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or(message.identity)
}

/// When a message came in: as its sender says, else when the server stored it.
fn received_at(message: &Message<'_>) -> OffsetDateTime {
    message
        .header(header::RECEIVED_AT)
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .or_else(|| OffsetDateTime::from_unix_timestamp_nanos(message.published_at_ns.into()).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// How often a message was replayed, and delivered again since.
fn retries(message: &Message<'_>) -> u32 {
    let replayed: u32 = message
        .header(header::RETRY_COUNT)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    replayed.saturating_add(message.deliveries.saturating_sub(1))
}
