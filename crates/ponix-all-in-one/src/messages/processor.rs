//! The processor: delivered messages → rows → one transaction → a verdict for each message.

use std::sync::Arc;
use std::time::Duration;

use ponix_entities::{Catalog, Format};
use ponix_nats::{
    Batch, BatchProcessor, BatchSettings, DeadLetter, DeadLetterReason, Delivery, ProcessError,
    ProcessingResult, Verdict,
};
use ponix_postgres::{Incoming, Postgres, Written};
use ponix_wire::header as names;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::metrics::MessageMetrics;

/// The field of a message whose id is another one's.
const MESSAGE_ID: &str = "message_id";

/// Stores batches of messages in PostgreSQL.
#[derive(Debug)]
pub(super) struct MessageProcessor {
    postgres: Postgres,
    catalog: Arc<Catalog>,
    nak_delay: Duration,
    deliveries_max: u32,
    metrics: MessageMetrics,
}

impl MessageProcessor {
    pub(super) fn new(
        postgres: Postgres,
        catalog: Arc<Catalog>,
        settings: &BatchSettings,
        metrics: MessageMetrics,
    ) -> Self {
        Self {
            postgres,
            catalog,
            nak_delay: settings.nak_delay,
            deliveries_max: settings.deliveries_max,
            metrics,
        }
    }

    fn verdict(&self, delivery: &Delivery, written: Written) -> Verdict {
        let dead_letter = |reason, error| {
            Verdict::DeadLetter(DeadLetter {
                reason,
                error,
                event_id: Some(message_id(delivery)),
            })
        };
        match written {
            Written::Stored | Written::AlreadyDone => Verdict::Ack,
            // Under the stream's own id: the other message may be a dead letter too.
            Written::Refused {
                field: Some(field),
                reason,
            } if field == MESSAGE_ID => Verdict::DeadLetter(DeadLetter {
                reason: DeadLetterReason::Value,
                error: format!("{field}: {reason}"),
                event_id: None,
            }),
            Written::Refused { field, reason } => {
                let error = match field {
                    Some(field) => format!("{field}: {reason}"),
                    None => reason,
                };
                dead_letter(DeadLetterReason::Value, error)
            }
            Written::Retry { reason } if delivery.deliveries() >= self.deliveries_max => {
                dead_letter(DeadLetterReason::MaxDeliveries, reason)
            }
            Written::Retry { .. } => Verdict::Nak {
                delay: Some(self.nak_delay),
            },
        }
    }
}

impl BatchProcessor for MessageProcessor {
    async fn process(
        &self,
        batch: &Batch,
        _give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let incoming: Vec<Incoming> = batch
            .messages()
            .iter()
            .map(|delivery| incoming(&self.catalog, delivery))
            .collect();
        // One transaction that is there as a whole or not at all: nothing is stored on an error.
        let written = self.postgres.write(&self.catalog, &incoming).await;
        let written = written.map_err(|err| ProcessError::StoreUnusable {
            stored: Vec::new(),
            source: err.into(),
        })?;
        self.metrics.committed(&incoming, &written);
        let verdicts = batch
            .messages()
            .iter()
            .zip(written)
            .map(|(delivery, written)| self.verdict(delivery, written));
        Ok(ProcessingResult::from_verdicts(verdicts.collect()))
    }
}

/// What a delivery holds, the same on every delivery but for the count of retries.
fn incoming(catalog: &Catalog, delivery: &Delivery) -> Incoming {
    let hint = header(delivery, names::ENTITY);
    let format = match header(delivery, names::CONTENT_TYPE) {
        Some("application/json") => Format::Json,
        Some("text/plain") => Format::Line,
        // Published by others than the HTTP API: an object shows by its first byte.
        _ if delivery.payload().trim_ascii_start().starts_with(b"{") => Format::Json,
        _ => Format::Line,
    };
    let payload = delivery.payload();
    let parsed = catalog.parse(format, payload, hint);
    let entity = match &parsed {
        Ok(parsed) => Some(parsed.entity.as_str()),
        Err(err) => err.entity.as_deref(),
    };
    let entity = entity.or_else(|| catalog.identify(format, payload, hint));
    Incoming {
        message_id: message_id(delivery),
        organization: header(delivery, names::ORGANIZATION).map(str::to_owned),
        entity_type: entity.map(str::to_owned),
        received_at: received_at(delivery),
        source: header(delivery, names::SOURCE).map(str::to_owned),
        retry_count: retries(delivery),
        parsed,
    }
}

/// The id that the client knows; the stream may have another one for it.
fn message_id(delivery: &Delivery) -> Uuid {
    header(delivery, names::MESSAGE_ID)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or_else(|| delivery.identity())
}

/// When a message came in: as its sender says, else when the server stored it.
fn received_at(delivery: &Delivery) -> OffsetDateTime {
    header(delivery, names::RECEIVED_AT)
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .or_else(|| {
            OffsetDateTime::from_unix_timestamp_nanos(delivery.published_at_ns().into()).ok()
        })
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// How often a message was replayed, and delivered again since.
fn retries(delivery: &Delivery) -> u32 {
    let replayed: u32 = header(delivery, names::RETRY_COUNT)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    replayed.saturating_add(delivery.deliveries().saturating_sub(1))
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    let value = delivery.headers()?.get(name)?;
    Some(value.as_str())
}
