//! The status of messages that ended among the dead letters.

use ponix_nats::{
    Batch, BatchProcessor, DeadLetterReason, Delivery, ProcessError, ProcessingResult,
};
use ponix_postgres::{Accepted, Ended, ErrorKind, Postgres, Status};
use ponix_wire::header;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Reads the dead-letter stream and notes the end of each message; one that has `failed` stays so.
#[derive(Debug)]
pub(super) struct DeadLetterStatus {
    postgres: Postgres,
}

impl DeadLetterStatus {
    pub(super) fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

impl BatchProcessor for DeadLetterStatus {
    async fn process(
        &self,
        batch: &Batch,
        _give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let ended: Vec<Ended> = batch.messages().iter().filter_map(ended).collect();
        let recorded = self.postgres.record_final(&ended, Status::DeadLetter).await;
        recorded.map_err(|err| ProcessError::StoreUnusable {
            stored: Vec::new(),
            waiting_helps: err.kind() == ErrorKind::Transient,
            source: err.into(),
        })?;
        Ok(ProcessingResult::ack_all(batch.len()))
    }
}

/// What a dead letter says; `None` for the second part of one.
fn ended(delivery: &Delivery) -> Option<Ended> {
    let id = delivery.subject().rsplit('.').next()?;
    let id = Uuid::try_parse(id).ok()?;
    let original = |name: &str| header(delivery, &format!("{}{name}", header::ORIGINAL_PREFIX));
    // What the processor gave up is under the id it meant; what the consumer gave up by itself is
    // under the one that the stream knows.
    let by_processor = [DeadLetterReason::Value, DeadLetterReason::RejectedByStore]
        .map(|reason| Some(reason.as_str()))
        .contains(&header(delivery, header::REASON));
    let message_id = original(header::MESSAGE_ID)
        .filter(|_| !by_processor)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or(id);
    let received_at = original(header::RECEIVED_AT)
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
        .or_else(|| {
            let published_ns: i128 = header(delivery, header::PUBLISHED_NS)?.parse().ok()?;
            OffsetDateTime::from_unix_timestamp_nanos(published_ns).ok()
        })
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let deliveries = number(header(delivery, header::DELIVERIES)).unwrap_or(1);
    let replayed = number(original(header::RETRY_COUNT)).unwrap_or(0);
    Some(Ended {
        accepted: Accepted {
            message_id,
            organization: original(header::ORGANIZATION).map(str::to_owned),
            entity_type: original(header::ENTITY).map(str::to_owned),
            received_at,
            source: original(header::SOURCE).map(str::to_owned),
        },
        retry_count: replayed.saturating_add(deliveries.saturating_sub(1)),
        error: header(delivery, header::ERROR)
            .unwrap_or("it was given up")
            .to_owned(),
    })
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a str> {
    let value = delivery.headers()?.get(name)?;
    Some(value.as_str())
}
