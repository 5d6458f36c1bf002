//! Raw messages as they lie in their stream.

use std::sync::Arc;

use ponix_entities::{Catalog, Format};
use ponix_ingest::id_of_key;
use ponix_pipeline::{Decode, DecodeError, Decoded, Message, PackFormat};
use ponix_postgres::MessageRow;
use ponix_wire::header;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Reads messages by their entities. A message that fits none is a row too: it gets a status.
#[derive(Debug, Clone)]
pub(crate) struct MessageDecoder {
    catalog: Arc<Catalog>,
    /// Whose messages are that come without the header.
    organization: Option<String>,
}

impl MessageDecoder {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            organization: None,
        }
    }

    /// Takes messages without an organization for this one's.
    pub(crate) fn for_organization(mut self, organization: &str) -> Self {
        self.organization = Some(organization.to_owned());
        self
    }

    /// Reads a message, which is a row even where it fits no entity.
    pub(crate) fn row(&self, message: &Message<'_>) -> MessageRow {
        let mut row = match Wrapped::of(message) {
            Some(wrapped) => wrapped.incoming(self, message),
            None => incoming(&self.catalog, message),
        };
        row.organization = row.organization.or_else(|| self.organization.clone());
        row
    }
}

impl Decode for MessageDecoder {
    type Row = MessageRow;

    fn pack_format(&self) -> PackFormat {
        PackFormat::Lines
    }

    fn decode(&self, message: &Message<'_>) -> Result<Decoded<MessageRow>, DecodeError> {
        let row = self.row(message);
        Ok(Decoded::Row {
            identity: row.message_id,
            row,
        })
    }
}

/// A message that its sender wrapped into an object with what elsewhere is in headers.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    message_id: String,
    body: String,
    received_at: Option<String>,
    #[serde(default)]
    retry_count: u32,
    source: Option<String>,
    entity_type: Option<String>,
}

impl Wrapped {
    fn of(message: &Message<'_>) -> Option<Self> {
        // Most messages are none, and cost no more than this look.
        if !message.payload.starts_with(b"{") {
            return None;
        }
        serde_json::from_slice(message.payload).ok()
    }

    fn incoming(self, decoder: &MessageDecoder, message: &Message<'_>) -> MessageRow {
        let headers = |name: &str| message.header(name).map(str::to_owned);
        let organization = headers(header::ORGANIZATION).or_else(|| decoder.organization.clone());
        // An id that is none stands for one, as an `Idempotency-Key` does.
        let stands_for = || {
            id_of_key(
                organization.as_deref().unwrap_or_default(),
                &self.message_id,
                0,
            )
        };
        let message_id = Uuid::try_parse(&self.message_id).unwrap_or_else(|_| stands_for());
        let payload = self.body.as_bytes();
        let format = Format::of(None, payload);
        let hint = self.entity_type.or_else(|| headers(header::ENTITY));
        let row = incoming_body(&decoder.catalog, message, format, payload, hint.as_deref());
        let time = |text: String| OffsetDateTime::parse(&text, &Rfc3339).ok();
        MessageRow {
            message_id,
            organization,
            received_at: self.received_at.and_then(time).unwrap_or(row.received_at),
            source: self.source.or(row.source),
            retry_count: self.retry_count.saturating_add(row.retry_count),
            ..row
        }
    }
}

/// What a message holds, the same on every delivery but for the count of retries.
fn incoming(catalog: &Catalog, message: &Message<'_>) -> MessageRow {
    let hint = message.header(header::ENTITY);
    let payload = message.payload;
    let format = Format::of(message.header(header::CONTENT_TYPE), payload);
    incoming_body(catalog, message, format, payload, hint)
}

fn incoming_body(
    catalog: &Catalog,
    message: &Message<'_>,
    format: Format,
    payload: &[u8],
    hint: Option<&str>,
) -> MessageRow {
    let parsed = catalog.parse(format, payload, hint);
    let entity = match &parsed {
        Ok(parsed) => Some(parsed.entity.as_str()),
        Err(err) => err.entity.as_deref(),
    };
    let entity = entity.or_else(|| catalog.identify(format, payload, hint).ok());
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
