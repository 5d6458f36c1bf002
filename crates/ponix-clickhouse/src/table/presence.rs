//! Which records are in the table, and how often.

use std::fmt::Write as _;

use ponix_sink::Record;
use serde_json::Value;

use super::rows::Rows;
use super::{TableConfig, check};
use crate::client::within;
use crate::encode::BatchLimits;
use crate::error::RequestError;
use crate::layout::quoted;
use crate::{Client, Presence};

/// The name of the record's position among the columns of the identity.
const POSITION: &str = "ponix_record_position";

/// Tells the records of a table apart as the table does, and looks them up.
#[derive(Debug)]
pub struct Identities {
    client: Client,
    table: String,
    can_merge: bool,
    limits: BatchLimits,
    whole: Rows,
    /// The columns of the identity.
    rows: Rows,
}

impl Identities {
    pub(super) fn new(
        client: &Client,
        config: &TableConfig,
        can_merge: bool,
        whole: &Rows,
    ) -> Self {
        Self {
            client: client.clone(),
            table: config.quoted_table(),
            can_merge,
            limits: client.config().into(),
            rows: whole.only(&check::identity(config)),
            whole: whole.clone(),
        }
    }

    /// Returns the identity of a record: the bytes that an INSERT would have, so that nothing
    /// depends on how a value is written. `None` where it has none in this table.
    pub fn of(&self, record: &Record) -> Option<Vec<u8>> {
        self.rows.bytes_of(record)
    }

    /// Returns a column of the identity that the table fills where an event does not.
    pub fn defaulted(&self) -> Option<&str> {
        self.rows.omittable().next()
    }

    /// Returns the identity of a record as JSON, for people to look at.
    pub fn shown(&self, record: &Record) -> String {
        Value::Object(self.rows.shown(record)).to_string()
    }

    /// Tells whether the table takes the record, as far as columns and types go.
    pub fn fits(&self, record: &Record) -> bool {
        let encoded = self.whole.encode(std::slice::from_ref(record), self.limits);
        encoded.misfits.is_empty()
    }

    /// Looks identities up; the answers are in their order.
    ///
    /// Scans the identities of the table: meant for checks, some ten thousand at a time.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn presence(&self, identities: &[&[u8]]) -> Result<Vec<Presence>, RequestError> {
        let wanted = wanted(identities);
        let mut found = vec![Presence::default(); identities.len()];
        for (position, copies) in self.count("", &wanted).await? {
            found[position as usize].copies = copies;
        }
        let merged = if self.can_merge { "FINAL" } else { "" };
        for (position, readable) in self.count(merged, &wanted).await? {
            found[position as usize].readable = readable;
        }
        Ok(found)
    }

    async fn count(&self, merged: &str, wanted: &str) -> Result<Vec<(u32, u64)>, RequestError> {
        let Self { client, table, .. } = self;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.rows.columns();
        let shape: Vec<String> = columns
            .iter()
            .map(|(name, type_text)| format!(", {} {type_text}", quoted(name)))
            .collect();
        let shape = shape.concat().replace('\\', "\\\\").replace('\'', "\\'");
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let sql = format!(
            "SELECT {POSITION}, count() FROM {table} AS stored {merged} INNER JOIN \
             (SELECT * FROM format(RowBinary, '{POSITION} UInt32{shape}', unhex('{wanted}'))) AS wanted \
             USING ({}) GROUP BY {POSITION} \
             SETTINGS do_not_merge_across_partitions_select_final = 1",
            names.join(", ")
        );
        let query = client
            .raw()
            .with_setting("max_query_size", (sql.len() + 1024).to_string())
            .query_raw(&sql)
            .fetch_all::<(u32, u64)>();
        within(client.config().response_timeout, query).await
    }
}

/// Returns positions and identities in hexadecimal.
fn wanted(identities: &[&[u8]]) -> String {
    let mut hex = String::new();
    for (position, identity) in identities.iter().enumerate() {
        let position = (position as u32).to_le_bytes();
        for byte in position.iter().chain(*identity) {
            write!(hex, "{byte:02x}").expect("it is written to memory");
        }
    }
    hex
}
