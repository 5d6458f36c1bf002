//! What became of each message.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::claims::claim;
use crate::error::shortened;
use crate::storable_time::storable_time;
use crate::{Accepted, MessageStatus, Postgres, Status, StoreError};

/// A message that ended without being stored, or that will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What is known of it since it came in.
    pub accepted: Accepted,
    /// How often it was delivered again.
    pub retry_count: u32,
    /// Why, in words for the client.
    pub error: String,
}

/// A status to be written; never one that moves a message backwards, the database sees to that.
#[derive(Debug)]
pub(crate) struct StatusRow<'a> {
    pub(crate) message_id: Uuid,
    /// That of the claim.
    pub(crate) received_at: OffsetDateTime,
    pub(crate) organization: Option<&'a str>,
    pub(crate) status: Status,
    pub(crate) entity_type: Option<&'a str>,
    pub(crate) source: Option<&'a str>,
    pub(crate) retry_count: u32,
    pub(crate) error: Option<String>,
}

impl Postgres {
    /// Returns which of these messages are processed, each with its organization. What is processed
    /// was stored in the transaction that says so.
    ///
    /// # Errors
    /// See [`StoreError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn processed(
        &self,
        message_ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Option<String>>, StoreError> {
        const SQL: &str = "SELECT message_id, organization FROM message_claims \
             JOIN message_status USING (message_id, received_at) \
             WHERE message_id = ANY($1) AND status = 'processed'";
        self.within(async {
            let client = self.client().await?;
            let statement = client.prepare_cached(SQL).await?;
            let rows = client.query(&statement, &[&message_ids]).await?;
            client.give_back();
            let row = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
            rows.iter().map(row).collect()
        })
        .await
    }

    /// Notes that messages were accepted, unless more is known of them already.
    ///
    /// # Errors
    /// See [`StoreError`]; all or none were noted.
    ///
    /// # Cancel safety
    /// What was under way is noted or not; noting it again does no harm.
    pub async fn record_accepted(&self, messages: &[Accepted]) -> Result<(), StoreError> {
        // One statement, which waits for nobody that works on claims which are there.
        const SQL: &str = "WITH given AS (SELECT * FROM UNNEST($1::uuid[], $2::timestamptz[], \
             $3::text[], $4::text[], $5::text[]) \
             AS given (message_id, received_at, organization, entity_type, source)), \
             claimed AS (INSERT INTO message_claims (message_id, received_at) \
             SELECT message_id, received_at FROM given ON CONFLICT DO NOTHING \
             RETURNING message_id) \
             INSERT INTO message_status (message_id, received_at, organization, status, \
             entity_type, source) \
             SELECT message_id, received_at, organization, 'accepted', entity_type, source \
             FROM given JOIN claimed USING (message_id) ON CONFLICT DO NOTHING";
        if messages.is_empty() {
            return Ok(());
        }
        let rows = distinct(messages, |message| message.message_id);
        let ids: Vec<_> = rows.iter().map(|row| row.message_id).collect();
        let received_at: Vec<_> = rows
            .iter()
            .map(|row| storable_time(row.received_at))
            .collect();
        let texts = |of: fn(&Accepted) -> Option<&str>| -> Vec<_> {
            rows.iter().map(|row| of(row).map(text)).collect()
        };
        let organizations = texts(|row| row.organization.as_deref());
        let entity_types = texts(|row| row.entity_type.as_deref());
        let sources = texts(|row| row.source.as_deref());
        self.retry_on_conflict(|| async {
            self.ensure_days(received_at.iter().copied()).await?;
            let client = self.client().await?;
            let statement = client.prepare_cached(SQL).await?;
            client
                .execute(
                    &statement,
                    &[&ids, &received_at, &organizations, &entity_types, &sources],
                )
                .await
                .map_err(|error| self.day_or_conflict(error.into()))?;
            client.give_back();
            Ok(())
        })
        .await
    }

    /// Notes that messages will be tried again: status `processing`, with the reason.
    ///
    /// # Errors
    /// See [`StoreError`]; all or none were noted.
    ///
    /// # Cancel safety
    /// As [`Postgres::record_accepted`].
    pub async fn record_retry(&self, messages: &[Ended]) -> Result<(), StoreError> {
        self.record_ended(messages, Status::Processing).await
    }

    /// Notes the end of messages that were not stored, `failed` or `dead_letter`.
    ///
    /// A message that is processed stays so. Of `failed` and `dead_letter` the first one stays.
    ///
    /// # Errors
    /// See [`StoreError`]; all or none were noted.
    ///
    /// # Cancel safety
    /// As [`Postgres::record_accepted`].
    pub async fn record_final(&self, messages: &[Ended], status: Status) -> Result<(), StoreError> {
        self.record_ended(messages, status).await
    }

    async fn record_ended(&self, messages: &[Ended], status: Status) -> Result<(), StoreError> {
        let rows = distinct(messages, |message| message.accepted.message_id);
        let updates: Vec<_> = rows
            .iter()
            .map(|message| {
                let error = Some(shortened(&message.error));
                status_row(&message.accepted, status, message.retry_count, error)
            })
            .collect();
        self.record(&updates).await
    }

    async fn record(&self, updates: &[StatusRow<'_>]) -> Result<(), StoreError> {
        if updates.is_empty() {
            return Ok(());
        }
        self.retry_on_conflict(|| async {
            self.ensure_days(updates.iter().map(|update| update.received_at))
                .await?;
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let wanted: Vec<_> = updates
                .iter()
                .map(|update| (update.message_id, update.received_at))
                .collect();
            let claims = claim(&transaction, &wanted).await?;
            let claimed: Vec<_> = updates
                .iter()
                .map(|update| {
                    let received_at = claims[&update.message_id].received_at;
                    StatusRow {
                        received_at,
                        error: update.error.clone(),
                        ..*update
                    }
                })
                .collect();
            write(&transaction, &claimed)
                .await
                .map_err(|error| self.day_or_conflict(error))?;
            transaction.commit().await?;
            client.give_back();
            Ok(())
        })
        .await
    }

    /// Returns what is known of a message, `None` if nothing is, or if it is another
    /// organization's. Without an organization, those of all are found.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn status(
        &self,
        organization: Option<&str>,
        message_id: Uuid,
    ) -> Result<Option<MessageStatus>, StoreError> {
        const SQL: &str = "SELECT s.message_id, s.organization, s.status, s.entity_type, \
             s.received_at, s.processed_at, s.error, s.retry_count, s.source \
             FROM message_claims c JOIN message_status s \
             ON s.message_id = c.message_id AND s.received_at = c.received_at \
             WHERE c.message_id = $1 AND ($2::text IS NULL OR s.organization = $2)";
        self.within(async {
            let client = self.client().await?;
            let statement = client.prepare_cached(SQL).await?;
            let row = client
                .query_opt(&statement, &[&message_id, &organization])
                .await?;
            let status = row.map(|row| message_status(&row)).transpose()?;
            client.give_back();
            Ok(status)
        })
        .await
    }
}

/// Which statuses are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusFilter {
    /// Whose.
    pub organization: String,
    /// With this status alone.
    pub status: Option<Status>,
    /// Only those that came in before this message.
    pub before: Option<Uuid>,
    /// So many at most.
    pub limit: usize,
}

impl Postgres {
    /// Returns what is known of an organization's messages among these.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn statuses(
        &self,
        organization: &str,
        message_ids: &[Uuid],
    ) -> Result<Vec<MessageStatus>, StoreError> {
        const SQL: &str = "SELECT s.message_id, s.organization, s.status, s.entity_type, \
             s.received_at, s.processed_at, s.error, s.retry_count, s.source \
             FROM message_claims c JOIN message_status s \
             ON s.message_id = c.message_id AND s.received_at = c.received_at \
             WHERE c.message_id = ANY($1) AND s.organization = $2";
        self.read_statuses(SQL, &[&message_ids, &organization])
            .await
    }

    /// Lists messages, the newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_statuses(
        &self,
        filter: &StatusFilter,
    ) -> Result<Vec<MessageStatus>, StoreError> {
        const SQL: &str = "SELECT s.message_id, s.organization, s.status, s.entity_type, \
             s.received_at, s.processed_at, s.error, s.retry_count, s.source \
             FROM message_status s \
             WHERE s.organization = $1 AND ($2::text IS NULL OR s.status = $2) \
             AND ($3::uuid IS NULL OR (s.received_at, s.message_id) < \
             (SELECT c.received_at, c.message_id FROM message_claims c WHERE c.message_id = $3)) \
             ORDER BY s.received_at DESC, s.message_id DESC LIMIT $4";
        let status = filter.status.map(Status::as_str);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        self.read_statuses(
            SQL,
            &[&filter.organization, &status, &filter.before, &limit],
        )
        .await
    }

    async fn read_statuses(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<MessageStatus>, StoreError> {
        self.within(async {
            let client = self.client().await?;
            let statement = client.prepare_cached(sql).await?;
            let rows = client.query(&statement, parameters).await?;
            let statuses = rows.iter().map(message_status).collect();
            client.give_back();
            statuses
        })
        .await
    }
}

fn message_status(row: &Row) -> Result<MessageStatus, StoreError> {
    let name: &str = row.try_get(2)?;
    Ok(MessageStatus {
        message_id: row.try_get(0)?,
        organization: row.try_get(1)?,
        status: Status::parse(name).unwrap_or(Status::Accepted),
        entity_type: row.try_get(3)?,
        received_at: row.try_get(4)?,
        processed_at: row.try_get(5)?,
        error: row.try_get(6)?,
        retry_count: row.try_get::<_, i32>(7)?.max(0) as u32,
        source: row.try_get(8)?,
    })
}

fn status_row(
    message: &Accepted,
    status: Status,
    retry_count: u32,
    error: Option<String>,
) -> StatusRow<'_> {
    StatusRow {
        message_id: message.message_id,
        received_at: storable_time(message.received_at),
        organization: message.organization.as_deref(),
        status,
        entity_type: message.entity_type.as_deref(),
        source: message.source.as_deref(),
        retry_count,
        error,
    }
}

/// Writes statuses; the claims of all of them must be held.
pub(crate) async fn write(
    transaction: &deadpool_postgres::Transaction<'_>,
    rows: &[StatusRow<'_>],
) -> Result<(), StoreError> {
    // What is known is kept where the new writer does not know it.
    const SQL: &str = "INSERT INTO message_status AS s (message_id, received_at, organization, \
         status, entity_type, source, retry_count, error, processed_at) \
         SELECT *, CASE WHEN status IN ('processed', 'failed', 'dead_letter') \
         THEN clock_timestamp() END \
         FROM UNNEST($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], \
         $6::text[], $7::int[], $8::text[]) \
         AS new (message_id, received_at, organization, status, entity_type, source, \
         retry_count, error) \
         ON CONFLICT (message_id, received_at) DO UPDATE SET status = EXCLUDED.status, \
         entity_type = coalesce(EXCLUDED.entity_type, s.entity_type), \
         source = coalesce(s.source, EXCLUDED.source), \
         retry_count = greatest(s.retry_count, EXCLUDED.retry_count), \
         error = EXCLUDED.error, processed_at = EXCLUDED.processed_at \
         WHERE s.organization IS NOT DISTINCT FROM EXCLUDED.organization \
         AND (message_status_rank(EXCLUDED.status) > message_status_rank(s.status) \
         OR EXCLUDED.status = s.status AND s.status <> 'accepted')";
    if rows.is_empty() {
        return Ok(());
    }
    let statement = transaction.prepare_cached(SQL).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.message_id).collect();
    let received_at: Vec<_> = rows.iter().map(|row| row.received_at).collect();
    let organizations: Vec<_> = rows.iter().map(|row| row.organization.map(text)).collect();
    let statuses: Vec<_> = rows.iter().map(|row| row.status.as_str()).collect();
    let entity_types: Vec<_> = rows.iter().map(|row| row.entity_type.map(text)).collect();
    let sources: Vec<_> = rows.iter().map(|row| row.source.map(text)).collect();
    let retry_counts: Vec<_> = rows
        .iter()
        .map(|row| i32::try_from(row.retry_count).unwrap_or(i32::MAX))
        .collect();
    let errors: Vec<_> = rows.iter().map(|row| row.error.as_deref()).collect();
    transaction
        .execute(
            &statement,
            &[
                &ids,
                &received_at,
                &organizations,
                &statuses,
                &entity_types,
                &sources,
                &retry_counts,
                &errors,
            ],
        )
        .await?;
    Ok(())
}

/// A text that PostgreSQL takes: NUL is the one character it does not.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        return Cow::Owned(text.replace('\0', "\u{fffd}"));
    }
    Cow::Borrowed(text)
}

/// Keeps the first of those with one id, in the order of the ids: everybody claims in that order.
fn distinct<T>(messages: &[T], id: impl Fn(&T) -> Uuid) -> Vec<&T> {
    let mut seen = HashSet::with_capacity(messages.len());
    let mut kept: Vec<&T> = messages
        .iter()
        .filter(|message| seen.insert(id(message)))
        .collect();
    kept.sort_unstable_by_key(|message| id(message));
    kept
}
