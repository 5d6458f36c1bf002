//! Who may write a message.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::Status;
use crate::StoreError;

/// A claim that the transaction holds until it ends.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The time of the first who claimed the id.
    pub(crate) received_at: OffsetDateTime,
    /// What is known of the message, `None` if it is new.
    pub(crate) known: Option<Known>,
}

/// What was written of a message before.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) status: Status,
    pub(crate) organization: Option<String>,
}

/// Claims ids for a transaction: makes the claims that are not there and locks those that are.
///
/// `wanted` must be in the order of the ids and name each once. Two transactions that want the same
/// ids take turns, whichever statement they meet in: both insert and lock in one order, and inserting
/// ends before locking begins.
///
/// # Errors
/// [`StoreError::Conflict`] if a claim was pruned in between.
pub(crate) async fn claim(
    transaction: &deadpool_postgres::Transaction<'_>,
    wanted: &[(Uuid, OffsetDateTime)],
) -> Result<HashMap<Uuid, Claim>, StoreError> {
    const INSERT: &str = "INSERT INTO message_claims (message_id, received_at) \
         SELECT * FROM UNNEST($1::uuid[], $2::timestamptz[]) \
         ON CONFLICT DO NOTHING RETURNING message_id";
    let statement = transaction.prepare_cached(INSERT).await?;
    let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
    let received_at: Vec<_> = wanted.iter().map(|(_, at)| *at).collect();
    let fresh = transaction
        .query(&statement, &[&ids, &received_at])
        .await?
        .len();
    let mut claims: HashMap<_, _> = wanted
        .iter()
        .map(|(id, received_at)| {
            let received_at = *received_at;
            let known = None;
            (*id, Claim { received_at, known })
        })
        .collect();
    if fresh < wanted.len() {
        lock(transaction, &ids, &mut claims).await?;
    }
    Ok(claims)
}

/// Locks claims, those that are our own included, and reads what is known of the messages.
async fn lock(
    transaction: &deadpool_postgres::Transaction<'_>,
    ids: &[Uuid],
    claims: &mut HashMap<Uuid, Claim>,
) -> Result<(), StoreError> {
    const LOCK: &str = "SELECT message_id, received_at FROM message_claims \
         WHERE message_id = ANY($1) ORDER BY message_id FOR NO KEY UPDATE";
    const KNOWN: &str = "SELECT message_id, status, organization FROM message_status \
         WHERE message_id = ANY($1) AND received_at BETWEEN $2 AND $3";
    let statement = transaction.prepare_cached(LOCK).await?;
    let locked = transaction.query(&statement, &[&ids]).await?;
    if locked.len() < ids.len() {
        return Err(StoreError::Conflict);
    }
    for row in &locked {
        let id: Uuid = row.try_get(0)?;
        if let Some(claim) = claims.get_mut(&id) {
            claim.received_at = row.try_get(1)?;
        }
    }
    let times = || claims.values().map(|claim| claim.received_at);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(());
    };
    // A statement of its own: it sees what those have committed whom we have waited for.
    let statement = transaction.prepare_cached(KNOWN).await?;
    for row in transaction
        .query(&statement, &[&ids, &first, &last])
        .await?
    {
        let id: Uuid = row.try_get(0)?;
        let status = Status::parse(row.try_get(1)?);
        if let (Some(claim), Some(status)) = (claims.get_mut(&id), status) {
            let organization = row.try_get(2)?;
            claim.known = Some(Known {
                status,
                organization,
            });
        }
    }
    Ok(())
}
