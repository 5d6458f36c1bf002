//! What is asked of ClickHouse.

use std::time::Duration;

use anyhow::Context as _;
use ponix_clickhouse::{ClickHouseConfig, Client};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Between the values of a row.
const TAB: char = '\t';

/// A server that is asked.
#[derive(Debug)]
pub(crate) struct Store(Client);

impl Store {
    /// # Errors
    /// The URL is none.
    pub(crate) fn new(config: &ClickHouseConfig) -> anyhow::Result<Self> {
        Ok(Self(Client::new(config)?))
    }

    /// Asks for rows of texts: one column, its values with a tab between them.
    ///
    /// # Errors
    /// The server does not answer in time, or refuses.
    pub(crate) async fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let raw = self.0.raw();
        let query = raw.query_raw(sql).fetch_all::<String>();
        let rows = tokio::time::timeout(TIMEOUT, query).await;
        let rows = rows.context("no answer in time")??;
        let cells = rows
            .iter()
            .map(|row| row.split(TAB).map(str::to_owned).collect());
        Ok(cells.collect())
    }
}

/// Returns a value of a row; nothing where the row is shorter.
pub(crate) fn cell(row: &[String], index: usize) -> &str {
    row.get(index).map_or("", String::as_str)
}

/// Writes a name as it stands between single quotes.
pub(crate) fn quoted(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\'', "\\'")
}
