//! Which events are stored, and how often.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::client::within;
use crate::{Client, RequestError};

/// What makes an event one: its id belongs to its organization and device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventKey {
    /// The organization that owns the end device.
    pub organization_id: String,
    /// The end device that sent the event.
    pub end_device_id: String,
    /// When it happened, nanoseconds since 1970.
    pub occurred_at_ns: i64,
    /// Its id.
    pub event_id: Uuid,
}

/// How often an event is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    /// Rows in the table; copies of one event are merged by and by.
    pub copies: u64,
    /// Rows in the view that readers use: 1, or something is wrong.
    pub readable: u64,
}

impl Client {
    /// Looks events up; those that are not stored are missing in the answer. It may hold others
    /// with the same ids.
    ///
    /// Scans the table's identities: meant for checks, some ten thousand at a time.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn presence(
        &self,
        event_ids: &[Uuid],
    ) -> Result<HashMap<EventKey, Presence>, RequestError> {
        let mut found: HashMap<EventKey, Presence> = HashMap::new();
        if event_ids.is_empty() {
            return Ok(found);
        }
        for (event, copies) in self.count_rows("processed_envelopes", event_ids).await? {
            found.entry(event).or_default().copies = copies;
        }
        for (event, readable) in self.count_rows("envelopes", event_ids).await? {
            found.entry(event).or_default().readable = readable;
        }
        Ok(found)
    }

    /// Counts the events of a stretch of the stream that are stored, each once: by the sequence of
    /// their message, which may carry many, and by its publish time in nanoseconds since 1970, as
    /// sequences may be used again after a loss.
    ///
    /// Scans some columns of the table: meant for the moments in which something is wrong.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn stored_between(
        &self,
        sequences: RangeInclusive<u64>,
        published_at_ns: RangeInclusive<i64>,
    ) -> Result<u64, RequestError> {
        let sql = format!(
            "SELECT uniqExact(stream_sequence, organization_id, end_device_id, occurred_at, event_id) \
             FROM processed_envelopes WHERE stream_sequence BETWEEN {} AND {} \
             AND published_at BETWEEN fromUnixTimestamp64Nano({}) AND fromUnixTimestamp64Nano({})",
            sequences.start(),
            sequences.end(),
            published_at_ns.start(),
            published_at_ns.end(),
        );
        let found = self.fetch_all::<u64>(&sql).await?;
        Ok(found.first().copied().unwrap_or_default())
    }

    async fn count_rows(
        &self,
        table: &str,
        event_ids: &[Uuid],
    ) -> Result<Vec<(EventKey, u64)>, RequestError> {
        // One text, because a list of so many literals would be more than the parser takes.
        let ids: Vec<String> = event_ids.iter().map(Uuid::to_string).collect();
        let sql = format!(
            "SELECT toString(organization_id), end_device_id, toUnixTimestamp64Nano(occurred_at), \
             toString(event_id), count() FROM {table} \
             WHERE event_id IN (SELECT toUUID(arrayJoin(splitByChar(',', '{}')))) \
             GROUP BY organization_id, end_device_id, occurred_at, event_id",
            ids.join(",")
        );
        let query = self
            .raw()
            .with_setting("max_query_size", (sql.len() + 1024).to_string())
            .query_raw(&sql)
            .fetch_all::<(String, String, i64, String, u64)>();
        let rows = within(self.config().response_timeout, query).await?;
        let parse = |(organization_id, end_device_id, occurred_at_ns, event_id, count)| {
            let event_id: String = event_id;
            let event = EventKey {
                organization_id,
                end_device_id,
                occurred_at_ns,
                event_id: Uuid::try_parse(&event_id).ok()?,
            };
            Some((event, count))
        };
        Ok(rows.into_iter().filter_map(parse).collect())
    }
}
