//! The days of `message_status`: made ahead, pruned with their claims.

use std::time::Duration;

use time::{Date, OffsetDateTime};
use tokio_postgres::error::SqlState;

use crate::migrate::{Lock, lock};
use crate::{Postgres, StoreError};

const NAME_PREFIX: &str = "message_status_p";

/// Claims that are deleted in one statement.
const CLAIMS_PER_DELETE: i64 = 20_000;

/// How long dropping a partition waits for its lock. Every writer waits behind it, and a backup
/// holds its own lock until it is through.
const LOCK_TIMEOUT: &str = "2s";

/// What was pruned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Partitions that were dropped, a day each.
    pub days: u64,
    /// A partition is in use, by a backup for example: it and those after it are left for the next
    /// time.
    pub postponed: bool,
    /// Messages whose claims were deleted.
    pub messages: u64,
}

impl Postgres {
    /// Forgets the messages of whole days that ended longer ago than `keep`, and makes the
    /// partitions of the days to come. Several instances may do it at once.
    ///
    /// A message that is delivered again after its claim is gone is written again: keep the status
    /// for longer than the stream keeps messages. Row ids that are derived from the message id keep
    /// even then a second row away.
    ///
    /// # Errors
    /// See [`StoreError`]; days pruned until then stay pruned.
    ///
    /// # Cancel safety
    /// A day is pruned, or will be the next time.
    pub async fn prune(&self, keep: Duration) -> Result<Pruned, StoreError> {
        let session = self.session().await?;
        lock(&session, Lock::Prune).await?;
        let now: OffsetDateTime = session.query_one("SELECT now()", &[]).await?.try_get(0)?;
        let mut pruned = Pruned::default();
        let Some(last) = now.checked_sub(keep.try_into().unwrap_or(time::Duration::MAX)) else {
            return Ok(pruned);
        };
        for day in existing_days(&session).await? {
            if day >= last.date() {
                continue;
            }
            pruned.messages += forget_claims(&session, day).await?;
            if !drop_day(&session, day).await? {
                tracing::warn!(
                    partition = name(day),
                    "is in use, a backup for example: it is dropped later"
                );
                pruned.postponed = true;
                break;
            }
            self.known_days().remove(&day);
            pruned.days += 1;
        }
        drop(session);
        self.ensure_days(std::iter::once(now)).await?;
        Ok(pruned)
    }

    /// Makes the partitions of these times, and of the days after, unless they are known.
    pub(crate) async fn ensure_days(
        &self,
        times: impl Iterator<Item = OffsetDateTime>,
    ) -> Result<(), StoreError> {
        let missing = {
            let known = self.known_days();
            let mut missing: Vec<Date> = times
                .map(OffsetDateTime::date)
                .filter(|day| !known.contains(day))
                .collect();
            missing.sort_unstable();
            missing.dedup();
            missing
        };
        if missing.is_empty() {
            return Ok(());
        }
        let session = self.session().await?;
        let ahead = time::Duration::days(self.config().partition_days_ahead.into());
        let wanted = |first: Date| days(first, first.saturating_add(ahead));
        let existing = existing_days(&session).await?;
        if !missing
            .iter()
            .flat_map(|day| wanted(*day))
            .all(|day| existing.contains(&day))
        {
            lock(&session, Lock::Tables).await?;
            // Another instance may have made some while we waited.
            let mut existing = existing_days(&session).await?;
            for day in missing.iter().flat_map(|day| wanted(*day)) {
                if !existing.contains(&day) {
                    make(&session, day).await?;
                    existing.push(day);
                }
            }
        }
        // Those ahead are not noted: on their day, the next ones are made.
        self.known_days().extend(missing);
        Ok(())
    }

    /// Has the partitions looked for again when a row found none, which others may have pruned.
    pub(crate) fn day_or_conflict(&self, error: StoreError) -> StoreError {
        if error.code() != Some("23514") {
            return error;
        }
        self.known_days().clear();
        StoreError::Conflict
    }
}

fn name(day: Date) -> String {
    let (year, month, day) = day.to_calendar_date();
    format!("{NAME_PREFIX}{year:04}{:02}{day:02}", u8::from(month))
}

fn day_of(name: &str) -> Option<Date> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    if digits.len() != 8 || !digits.is_ascii() {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits[range].parse::<u16>().ok();
    let month = time::Month::try_from(u8::try_from(number(4..6)?).ok()?).ok()?;
    let day = u8::try_from(number(6..8)?).ok()?;
    Date::from_calendar_date(i32::from(number(0..4)?), month, day).ok()
}

fn days(first: Date, last: Date) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(first), |day| day.next_day()).take_while(move |day| *day <= last)
}

async fn existing_days(session: &tokio_postgres::Client) -> Result<Vec<Date>, StoreError> {
    const SQL: &str = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'message_status'::regclass ORDER BY c.relname";
    let rows = session.query(SQL, &[]).await?;
    Ok(rows.iter().filter_map(|row| day_of(row.get(0))).collect())
}

/// Makes a partition aside and attaches it, which lets writers of the other days go on.
async fn make(session: &tokio_postgres::Client, day: Date) -> Result<(), StoreError> {
    let name = name(day);
    let end = day.next_day().unwrap_or(day);
    let sql = format!(
        "BEGIN; \
         CREATE TABLE {name} (LIKE message_status INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
         ALTER TABLE message_status ATTACH PARTITION {name} \
         FOR VALUES FROM ('{day} 00:00:00+00') TO ('{end} 00:00:00+00'); \
         COMMIT"
    );
    session.batch_execute(&sql).await?;
    Ok(())
}

/// Drops a partition; false if somebody holds it for longer than the lock's timeout.
async fn drop_day(session: &tokio_postgres::Client, day: Date) -> Result<bool, StoreError> {
    // Batches under way are waited for, and new ones wait for this; both are short.
    let sql = format!(
        "SET lock_timeout = '{LOCK_TIMEOUT}'; DROP TABLE {}; RESET lock_timeout",
        name(day)
    );
    match session.batch_execute(&sql).await.map_err(StoreError::from) {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(SqlState::LOCK_NOT_AVAILABLE.code()) => {
            session.batch_execute("RESET lock_timeout").await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn forget_claims(session: &tokio_postgres::Client, day: Date) -> Result<u64, StoreError> {
    const SQL: &str = "DELETE FROM message_claims WHERE message_id = ANY(ARRAY(\
         SELECT message_id FROM message_claims WHERE received_at >= $1 AND received_at < $2 \
         LIMIT $3))";
    let begin = day.midnight().assume_utc();
    let end = begin + time::Duration::DAY;
    let mut forgotten = 0;
    loop {
        let deleted = session
            .execute(SQL, &[&begin, &end, &CLAIMS_PER_DELETE])
            .await?;
        forgotten += deleted;
        if deleted < CLAIMS_PER_DELETE as u64 {
            return Ok(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_partition_is_named_after_its_day() {
        let day = date!(2026 - 03 - 09);
        assert_eq!(name(day), "message_status_p20260309");
        assert_eq!(day_of(&name(day)), Some(day));
        for other in ["message_status_p2026039", "message_status_p20261301", "x"] {
            assert_eq!(day_of(other), None, "{other}");
        }
    }

    #[test]
    fn days_are_made_ahead_over_the_end_of_a_month() {
        let days: Vec<_> = days(date!(2026 - 02 - 28), date!(2026 - 03 - 01)).collect();
        assert_eq!(days, [date!(2026 - 02 - 28), date!(2026 - 03 - 01)]);
    }
}
