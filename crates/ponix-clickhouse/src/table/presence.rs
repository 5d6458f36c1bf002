//! Which records are in the table, and how often.

use std::fmt::Write as _;

use ponix_sink::Record;

use super::rows::{Rows, quoted};
use crate::client::within;
use crate::error::RequestError;
use crate::{Client, Presence};

/// The name of the record's position among the columns of the identity.
const POSITION: &str = "ponix_record_position";

/// Counts the rows with the identity of each record; `rows` are those of the identity's columns.
///
/// The identities travel as the bytes that INSERTs would have, so that nothing depends on how a
/// value is written in SQL.
///
/// # Errors
/// [`RequestError`].
///
/// # Cancel safety
/// Safe: nothing is changed.
pub(super) async fn presence(
    client: &Client,
    table: &str,
    can_merge: bool,
    rows: &Rows,
    records: &[Record],
) -> Result<Vec<Presence>, RequestError> {
    let wanted = wanted(rows, records);
    let mut found = vec![Presence::default(); records.len()];
    for (position, copies) in count(client, rows, table, "", &wanted).await? {
        found[position as usize].copies = copies;
    }
    let merged = if can_merge { "FINAL" } else { "" };
    for (position, readable) in count(client, rows, table, merged, &wanted).await? {
        found[position as usize].readable = readable;
    }
    Ok(found)
}

/// Returns positions and identities of the records that have one, in hexadecimal.
fn wanted(rows: &Rows, records: &[Record]) -> String {
    let mut hex = String::new();
    for (position, record) in records.iter().enumerate() {
        let Some(identity) = rows.bytes_of(record) else {
            continue;
        };
        let position = (position as u32).to_le_bytes();
        for byte in position.iter().chain(&identity) {
            write!(hex, "{byte:02x}").expect("it is written to memory");
        }
    }
    hex
}

async fn count(
    client: &Client,
    rows: &Rows,
    table: &str,
    merged: &str,
    wanted: &str,
) -> Result<Vec<(u32, u64)>, RequestError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let columns = rows.columns();
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
