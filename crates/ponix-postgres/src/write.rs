//! A batch of messages in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use ponix_entities::{Catalog, MessageError, ParsedMessage};
use ponix_sink::{Attempt, RejectedBy};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Status;
use crate::claims::{Claim, claim};
use crate::error::shortened;
use crate::status::{self, StatusRow};
use crate::storable_time::storable_time;
use crate::{MessageOutcome, Postgres, StoreError};

mod control;
mod rows;
mod suspects;

pub(crate) use self::control::{ask_again, keep_as_they_are};

/// A message to be written.
#[derive(Debug, Clone)]
pub struct MessageRow {
    /// The id of the message.
    pub message_id: Uuid,
    /// Whose it is; `None` where nobody needs to say who they are.
    pub organization: Option<String>,
    /// The entity it is said to hold.
    pub entity_type: Option<String>,
    /// When it came in; the same on every delivery.
    pub received_at: OffsetDateTime,
    /// The client's address.
    pub source: Option<String>,
    /// How often it was delivered again.
    pub retry_count: u32,
    /// Its rows, or why it has none.
    pub parsed: Result<ParsedMessage, MessageError>,
}

impl Postgres {
    /// Writes a batch in one transaction: claims the ids, stores the rows, sets the statuses.
    ///
    /// Answers one [`MessageOutcome`] per message in the order of the batch. A message that is wrong fails
    /// alone, its neighbours are stored. Of several messages with one id the first counts, and the
    /// others are [`MessageOutcome::AlreadyDone`] when it was stored. An id that another organization has
    /// used is refused, and that one's status left alone.
    ///
    /// `catalog` must be the one the messages were parsed with, and its tables be there
    /// ([`Postgres::apply_entities`]).
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing was written, except after an error in the middle of the commit:
    /// then nothing or everything was, and a repeat tells which. Deadlocks and the like are begun
    /// again [`PostgresConfig::conflict_retries_max`](crate::PostgresConfig) times.
    ///
    /// # Cancel safety
    /// Nothing or everything was written, as after an error.
    pub async fn write(
        &self,
        catalog: &Catalog,
        batch: &[MessageRow],
    ) -> Result<Vec<MessageOutcome>, StoreError> {
        self.write_guarded(catalog, batch, None).await
    }

    /// As [`Postgres::write`], but commits only when the attempt's guard admits what PostgreSQL alone
    /// refuses: otherwise nothing is written, no status either.
    pub(crate) async fn write_guarded(
        &self,
        catalog: &Catalog,
        batch: &[MessageRow],
        attempt: Option<Attempt<'_>>,
    ) -> Result<Vec<MessageOutcome>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        match self
            .retry_on_conflict(|| self.write_once(catalog, batch, attempt))
            .await
        {
            Ok((written, rows)) => {
                self.metrics().committed(&written, rows, begun.elapsed());
                Ok(written)
            }
            Err(error) => {
                self.metrics().failed(&error, begun.elapsed());
                Err(error)
            }
        }
    }

    async fn write_once(
        &self,
        catalog: &Catalog,
        batch: &[MessageRow],
        attempt: Option<Attempt<'_>>,
    ) -> Result<(Vec<MessageOutcome>, u64), StoreError> {
        self.ensure_days(
            batch
                .iter()
                .map(|message| storable_time(message.received_at)),
        )
        .await?;
        // In the order of the ids: everybody claims in that order.
        let mut firsts: BTreeMap<Uuid, usize> = BTreeMap::new();
        for (index, message) in batch.iter().enumerate() {
            firsts.entry(message.message_id).or_insert(index);
        }
        let wanted: Vec<_> = firsts
            .iter()
            .map(|(id, index)| (*id, storable_time(batch[*index].received_at)))
            .collect();

        let mut client = self.client().await?;
        let mut transaction = client.transaction().await?;
        let claims = claim(&transaction, &wanted).await?;
        let mut outcomes = vec![None; batch.len()];
        let mut candidates = Vec::with_capacity(firsts.len());
        for (index, message) in batch.iter().enumerate() {
            if firsts.get(&message.message_id) != Some(&index) {
                continue;
            }
            match outcome_before(message, &claims[&message.message_id]) {
                Some(outcome) => outcomes[index] = Some(outcome),
                None => candidates.push(index),
            }
        }
        let guarded = attempt.is_some();
        let mut store = rows::Store::new(catalog, batch, &mut outcomes, self.metrics(), guarded);
        store.all(&mut transaction, candidates).await?;
        let rows = store.rows();
        let (refused, control) = store.refused();
        if let Some(Attempt { guard, around, .. }) = attempt {
            guard.admit(batch.len(), refused, around, control)?;
        }
        let statuses = statuses(batch, &outcomes, &claims);
        status::write(&transaction, &statuses)
            .await
            .map_err(|error| self.day_or_conflict(error))?;
        transaction.commit().await?;
        client.give_back();
        Ok((answers(batch, &firsts, &outcomes), rows))
    }
}

/// Judges a message by what is known of it, `None` if its rows are to be stored.
fn outcome_before(message: &MessageRow, claim: &Claim) -> Option<MessageOutcome> {
    if let Some(known) = &claim.known {
        if known.organization.as_deref() != message.organization.as_deref() {
            return Some(belongs_to_another());
        }
        if known.status == Status::Processed {
            return Some(MessageOutcome::AlreadyDone);
        }
    }
    let error = message.parsed.as_ref().err()?;
    Some(MessageOutcome::Refused {
        by: RejectedBy::Decoder,
        field: error.field.clone(),
        reason: error.reasons(),
    })
}

/// Tells the status of every message that was judged, in the order of the ids.
fn statuses<'a>(
    batch: &'a [MessageRow],
    outcomes: &[Option<MessageOutcome>],
    claims: &HashMap<Uuid, Claim>,
) -> Vec<StatusRow<'a>> {
    let judged = batch.iter().zip(outcomes);
    judged
        .filter_map(|(message, outcome)| {
            let (status, error) = match outcome.as_ref()? {
                MessageOutcome::Stored | MessageOutcome::AlreadyDone => (Status::Processed, None),
                MessageOutcome::Refused { field, reason, .. } => {
                    (Status::Failed, Some(sentence(field.as_deref(), reason)))
                }
                MessageOutcome::Retry { reason } => (Status::Processing, Some(shortened(reason))),
            };
            let claim = &claims[&message.message_id];
            if claim
                .known
                .as_ref()
                .is_some_and(|known| known.status == Status::Processed)
            {
                return None;
            }
            let parsed = message.parsed.as_ref().ok().map(|parsed| &parsed.entity);
            let entity_type = parsed.or(message.entity_type.as_ref());
            Some(StatusRow {
                message_id: message.message_id,
                received_at: claim.received_at,
                organization: message.organization.as_deref(),
                status,
                entity_type: entity_type.map(String::as_str),
                source: message.source.as_deref(),
                retry_count: message.retry_count,
                error,
            })
        })
        .collect()
}

/// Writes field and reason as one text.
fn sentence(field: Option<&str>, reason: &str) -> String {
    match field {
        Some(field) => shortened(&format!("{field}: {reason}")),
        None => shortened(reason),
    }
}

/// Gives each message the outcome of the first one with its id.
fn belongs_to_another() -> MessageOutcome {
    MessageOutcome::Refused {
        by: RejectedBy::Identity,
        field: Some("message_id".into()),
        reason: "the id belongs to another message".into(),
    }
}

fn answers(
    batch: &[MessageRow],
    firsts: &BTreeMap<Uuid, usize>,
    outcomes: &[Option<MessageOutcome>],
) -> Vec<MessageOutcome> {
    let of_first = |message: &MessageRow| {
        let first = firsts[&message.message_id];
        if batch[first].organization != message.organization {
            return belongs_to_another();
        }
        outcomes[first].clone().expect("every first one was judged")
    };
    let judged = batch.iter().zip(outcomes);
    judged
        .map(|(message, outcome)| match outcome {
            Some(outcome) => outcome.clone(),
            None => match of_first(message) {
                MessageOutcome::Stored => MessageOutcome::AlreadyDone,
                other => other,
            },
        })
        .collect()
}
