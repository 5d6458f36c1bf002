//! Servers of the bench's own, and questions to them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ponix_clickhouse::{ClickHouseConfig, Client};
use ponix_stack::{ClickHouse, Nats};
use ponix_testkit::Worker;
use tokio::time::{Instant, sleep};

use crate::progress::Progress;
use crate::worker;

/// The table of envelopes.
pub(crate) const ENVELOPES: &str = "processed_envelopes";
/// Between two looks at the number of rows: the resolution of what is measured.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Without a new row for this long, a measurement is given up.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// NATS and ClickHouse, started for one measurement; what they stored goes with them.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) nats: Nats,
    pub(crate) clickhouse: ClickHouse,
    client: Client,
}

/// What is in the table and what readers see of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Rows in the table, copies of an event included.
    pub(crate) stored_rows: u64,
    /// `count()` of the view.
    pub(crate) events: u64,
    /// `uniqExact(event_id)` of the view.
    pub(crate) distinct_events: u64,
}

impl Servers {
    /// Starts both.
    pub(crate) async fn start() -> Result<Self> {
        let (nats, clickhouse) = tokio::try_join!(Nats::start(), ClickHouse::start())?;
        let client = Client::new(&clickhouse_config(&clickhouse))?;
        Ok(Self {
            nats,
            clickhouse,
            client,
        })
    }

    /// The connection to ClickHouse.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Rows in the table, copies of an event included. Costs the server next to nothing.
    pub(crate) async fn stored_rows(&self) -> Result<u64> {
        self.count(ENVELOPES).await
    }

    /// Rows of what a query can select from: a table, a view, one with `FINAL`.
    pub(crate) async fn count(&self, table: &str) -> Result<u64> {
        let query = format!("SELECT count() FROM {table}");
        let counted = self.client.raw().query(&query).fetch_one().await;
        counted.with_context(|| format!("count the rows of {table}"))
    }

    /// Events readers see.
    pub(crate) async fn readable_events(&self) -> Result<u64> {
        let query = self.client.raw().query("SELECT count() FROM envelopes");
        query.fetch_one().await.context("count the events")
    }

    /// Counts in the table and in the view.
    pub(crate) async fn counts(&self) -> Result<Counts> {
        let query = self
            .client
            .raw()
            .query("SELECT count(), uniqExact(event_id) FROM envelopes");
        let (events, distinct_events) = query.fetch_one().await.context("count the events")?;
        Ok(Counts {
            stored_rows: self.stored_rows().await?,
            events,
            distinct_events,
        })
    }

    /// Waits until a table has so many rows, and returns when that was seen.
    ///
    /// `seen` is called with every number of rows on the way.
    pub(crate) async fn wait_for_rows(
        &self,
        table: &str,
        rows: u64,
        worker: &Worker,
        mut seen: impl FnMut(u64),
    ) -> Result<Instant> {
        let mut progress = Progress::new("readable", rows);
        let mut last = (0, Instant::now());
        loop {
            let stored = self.count(table).await?;
            let now = Instant::now();
            seen(stored);
            progress.set(stored);
            if stored >= rows {
                progress.finish();
                return Ok(now);
            }
            if stored > last.0 {
                last = (stored, now);
            }
            worker::check(worker)?;
            if now - last.1 > STALL_TIMEOUT {
                let log = worker.process().log_tail();
                bail!(
                    "{stored} of {rows} rows in {table}, and no new one for {STALL_TIMEOUT:?}\n{log}"
                );
            }
            sleep(POLL_PAUSE).await;
        }
    }
}

fn clickhouse_config(server: &ClickHouse) -> ClickHouseConfig {
    ClickHouseConfig {
        url: server.url(),
        username: server.user().to_owned(),
        password: server.password().into(),
        ..ClickHouseConfig::default()
    }
}
