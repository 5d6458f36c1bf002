//! Writes the events of a declared pipeline into its table.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ponix_sink::{
    Attempt, BoxError, ErrorClass, Record, RejectedBy, Rejection, RowOutcome, Sink, StoredRows,
    WriteError,
};
use tokio::time::Instant;

use super::described::{DefaultKind, Described};
use super::presence::Identities;
use super::rows::{Encoded, Omitted, Rows};
use super::{
    Delivery, PUBLISHED_AT, STREAM_SEQUENCE, Schema, TableConfig, TableError, check, ddl, evolve,
    plan,
};
use crate::encode::BatchLimits;
use crate::error::{ErrorKind, RequestError};
use crate::insert::Inserter;
use crate::layout::{Copies, Layout, quoted};
use crate::write::write;
use crate::{ClickHouseMetrics, Client};

/// How often the table is looked at again: somebody may have put another one in its place.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How often because of fields that no column takes.
const LOOK_FOR_COLUMNS: Duration = Duration::from_secs(10);

const FORMAT: &str = "RowBinaryWithNamesAndTypes";

/// A table of any shape as a sink. Clones share what they know of the table.
#[derive(Debug, Clone)]
pub struct TableSink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    config: TableConfig,
    limits: BatchLimits,
    metrics: ClickHouseMetrics,
    known: Mutex<Known>,
    /// Set by errors that a changed table can explain.
    stale: AtomicBool,
    /// One looks at the table or changes it at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Known {
    plan: Arc<Plan>,
    looked_at: Instant,
}

/// Records as rows of the table as it was when they were encoded.
#[derive(Debug)]
pub struct TableRows {
    plan: Arc<Plan>,
    records: usize,
    encoded: Encoded,
}

/// The rows of the table as it was when it was last looked at.
#[derive(Debug)]
struct Plan {
    table: Described,
    rows: Rows,
    inserters: Mutex<HashMap<Omitted, Inserter>>,
}

impl TableSink {
    /// Looks at the table, creates it if that is declared, and checks that it does.
    ///
    /// # Errors
    /// [`TableError`], of which [`TableError::kind`] tells whether waiting helps.
    ///
    /// # Cancel safety
    /// Safe to repeat.
    pub async fn prepare(
        client: &Client,
        config: TableConfig,
        metrics: ClickHouseMetrics,
    ) -> Result<Self, TableError> {
        if config.schema != Schema::Require && config.columns.is_some() {
            config.ddl()?;
        }
        let inner = Inner {
            client: client.clone(),
            limits: client.config().into(),
            metrics,
            known: Mutex::new(Known {
                plan: Arc::new(Plan::of(&config, create(client, &config).await?)?),
                looked_at: Instant::now(),
            }),
            stale: AtomicBool::new(false),
            looking: tokio::sync::Mutex::default(),
            config,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Returns what tells records apart in the table as it is now.
    pub fn identities(&self) -> Identities {
        let Inner { client, config, .. } = &*self.0;
        let plan = self.0.plan();
        Identities::new(client, config, plan.table.merges_copies(), &plan.rows)
    }

    /// Returns the columns that rows are written into, names and types as the server has them.
    pub fn columns(&self) -> Vec<(String, String)> {
        self.0.plan().rows.columns()
    }
}

impl Sink for TableSink {
    type Row = Record;
    type Encoded = TableRows;

    async fn encode(&self, records: Vec<Record>) -> Result<TableRows, WriteError> {
        let encoded = self.0.encode(&records).await;
        let (plan, encoded) = encoded.map_err(|error| unusable(records.len(), error))?;
        Ok(TableRows {
            plan,
            records: records.len(),
            encoded,
        })
    }

    async fn write(
        &self,
        rows: &TableRows,
        attempt: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let TableRows {
            plan,
            records,
            encoded,
        } = rows;
        if self.0.stale.load(Ordering::Acquire) {
            let looked = self.0.look(plan).await;
            looked.map_err(|error| unusable(*records, error))?;
            if !Arc::ptr_eq(&self.0.plan(), plan) {
                return Err(WriteError::Unusable {
                    stored: StoredRows::none(*records),
                    class: ErrorClass::Transient,
                    source: "the table has changed since the rows were encoded".into(),
                });
            }
        }
        let mut outcomes: Vec<Option<RowOutcome>> = vec![None; *records];
        let misfits = encoded.misfits.len();
        for (index, misfit) in &encoded.misfits {
            outcomes[*index] = Some(RowOutcome::Rejected(Rejection {
                by: RejectedBy::Decoder,
                text: misfit.to_string(),
            }));
        }
        for (n, group) in encoded.groups.iter().enumerate() {
            if n > 0 && attempt.give_up.is_cancelled() {
                let none = WriteError::GaveUp {
                    stored: StoredRows::none(0),
                };
                return Err(widened(none, &[], &outcomes));
            }
            let inserter = plan.inserter(&self.0, group.omitted);
            match write(&inserter, &group.batches, attempt).await {
                Ok(written) => {
                    for (index, outcome) in group.indexes.iter().zip(written) {
                        outcomes[*index] = Some(outcome);
                    }
                }
                Err(error) => {
                    if explained_by_a_change(&error) {
                        self.0.stale.store(true, Ordering::Release);
                    }
                    return Err(widened(error, &group.indexes, &outcomes));
                }
            }
        }
        if misfits > 0 {
            self.0.metrics.rows_rejected(misfits);
            let table = &self.0.config.table;
            tracing::warn!(
                table,
                rows = *records,
                misfits,
                "events do not fit the table"
            );
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    async fn ping(&self) -> Result<(), BoxError> {
        Ok(self.0.client.ping().await?)
    }

    async fn stored_between(
        &self,
        sequences: RangeInclusive<u64>,
        published_at_ns: RangeInclusive<i64>,
    ) -> Result<Option<u64>, BoxError> {
        let plan = self.0.plan();
        if !plan.rows.keeps_sequences() {
            return Ok(None);
        }
        let identity = check::identity(&self.0.config).into_iter().map(quoted);
        let identity: Vec<String> = identity.collect();
        let sql = format!(
            "SELECT uniqExact({STREAM_SEQUENCE}, {PUBLISHED_AT}, {}) FROM {} \
             WHERE {STREAM_SEQUENCE} BETWEEN {} AND {} AND {PUBLISHED_AT} \
             BETWEEN fromUnixTimestamp64Nano({}) AND fromUnixTimestamp64Nano({})",
            identity.join(", "),
            self.0.config.quoted_table(),
            sequences.start(),
            sequences.end(),
            published_at_ns.start(),
            published_at_ns.end(),
        );
        let found = self.0.client.fetch_all::<u64>(&sql).await?;
        Ok(Some(found.first().copied().unwrap_or_default()))
    }
}

impl Inner {
    /// Encodes records by the table as it is; looks at it again where that may help.
    async fn encode(&self, records: &[Record]) -> Result<(Arc<Plan>, Encoded), TableError> {
        let looked_at = self.known().looked_at;
        if self.stale.load(Ordering::Acquire) || looked_at.elapsed() >= LOOK_EVERY {
            self.look(&self.plan()).await?;
        }
        let plan = self.plan();
        let encoded = plan.rows.encode(records, self.limits);
        if !encoded.unknown {
            return Ok((plan, encoded));
        }
        let evolved = self.config.schema == Schema::Evolve && self.evolve(&plan, records).await?;
        if !evolved && looked_at.elapsed() >= LOOK_FOR_COLUMNS {
            self.look(&plan).await?;
        }
        let newer = self.plan();
        if Arc::ptr_eq(&newer, &plan) {
            return Ok((plan, encoded));
        }
        let encoded = newer.rows.encode(records, self.limits);
        Ok((newer, encoded))
    }

    /// Looks at the table again, unless somebody has since the plan was made.
    async fn look(&self, plan: &Arc<Plan>) -> Result<(), TableError> {
        let _looking = self.looking.lock().await;
        if !Arc::ptr_eq(&self.plan(), plan) {
            return Ok(());
        }
        self.look_now().await
    }

    async fn look_now(&self) -> Result<(), TableError> {
        // Until it is known to do.
        self.stale.store(true, Ordering::Release);
        let table = ask(&self.client, &self.config).await?;
        let table = table.ok_or_else(|| missing(&self.config))?;
        let mut known = self.known();
        known.looked_at = Instant::now();
        if known.plan.table != table {
            tracing::info!(table = self.config.table, "the table has changed");
            known.plan = Arc::new(Plan::of(&self.config, table)?);
        }
        self.stale.store(false, Ordering::Release);
        Ok(())
    }

    /// Adds columns for fields that have none; tells whether there were some.
    async fn evolve(&self, plan: &Arc<Plan>, records: &[Record]) -> Result<bool, TableError> {
        let columns = evolve::new_columns(&plan.rows, records);
        if columns.is_empty() {
            return Ok(false);
        }
        let _looking = self.looking.lock().await;
        if !Arc::ptr_eq(&self.plan(), plan) {
            return Ok(true);
        }
        let sql = evolve::add_columns(&self.config.quoted_table(), &columns);
        let layout = layout(&self.client, &self.config).await?;
        execute(&self.client, &self.config, &layout, &sql).await?;
        tracing::info!(table = self.config.table, ?columns, "columns added");
        self.look_now().await?;
        let plan = self.plan();
        create_view(&self.client, &self.config, &layout, &plan.table, true).await;
        Ok(true)
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.known().plan)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn of(config: &TableConfig, table: Described) -> Result<Self, TableError> {
        let rows = plan::plan(config, &table)?;
        if config.delivery == Delivery::ExactlyOnce {
            let problems = check::problems(config, &table);
            if !problems.is_empty() {
                return Err(TableError::KeepsCopies {
                    table: config.table.clone(),
                    problems,
                    ddl: ddl::ddl(
                        config,
                        &config.columns.clone().unwrap_or_else(|| plain(&table)),
                    ),
                });
            }
        }
        Ok(Self {
            table,
            rows,
            inserters: Mutex::default(),
        })
    }

    fn inserter(&self, inner: &Inner, omitted: Omitted) -> Inserter {
        let mut inserters = self
            .inserters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let inserter = inserters.entry(omitted).or_insert_with(|| {
            let target = self.rows.target(omitted);
            let table = inner.config.quoted_table();
            let metrics = inner.metrics.clone();
            Inserter::new(&inner.client, &table, &target.columns, FORMAT, metrics)
                .with_head(target.head)
        });
        inserter.clone()
    }
}

/// Returns the table, after creating it if it is missing and that is declared.
async fn create(client: &Client, config: &TableConfig) -> Result<Described, TableError> {
    let layout = layout(client, config).await?;
    let found = match ask(client, config).await? {
        None if config.schema == Schema::Require => return Err(missing(config)),
        None => {
            execute(client, config, &layout, &config.ddl()?.table).await?;
            tracing::info!(table = config.table, "table created");
            ask(client, config).await?.ok_or_else(|| missing(config))?
        }
        Some(found) => found,
    };
    let urls = client.config().urls().len();
    let checked = layout.check_table(&config.table, &found.engine, urls);
    checked.map_err(|source| TableError::Layout { source })?;
    if config.schema != Schema::Require {
        create_view(client, config, &layout, &found, false).await;
    }
    Ok(found)
}

async fn layout(client: &Client, config: &TableConfig) -> Result<Layout, TableError> {
    let database = database(client, config);
    let layout = Layout::ask_for(client, database).await;
    layout.map_err(|source| TableError::Layout { source })
}

/// Executes a statement for one server on all that the layout names.
async fn execute(
    client: &Client,
    config: &TableConfig,
    layout: &Layout,
    sql: &str,
) -> Result<(), TableError> {
    let spread = layout.spread(database(client, config), Copies::PerShard, sql);
    let spread = spread.map_err(|source| TableError::Layout {
        source: source.into(),
    })?;
    for statement in spread {
        let executed = client.execute_spread(&statement).await;
        executed.map_err(|source| request_error(config, source))?;
    }
    Ok(())
}

fn database<'a>(client: &'a Client, config: &'a TableConfig) -> &'a str {
    let database = config.database.as_ref();
    database.unwrap_or(&client.config().database)
}

/// Creates the view for readers, or replaces it. Rows are written without it, so that a failure is
/// only told.
async fn create_view(
    client: &Client,
    config: &TableConfig,
    layout: &Layout,
    table: &Described,
    replace: bool,
) {
    if !table.merges_copies() {
        return;
    }
    let columns = plain(table);
    let mut view = ddl::view(config, columns.iter().map(|(name, _)| name.as_str()));
    if replace {
        view = view.replacen("CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW", 1);
    }
    if let Err(error) = execute(client, config, layout, &view).await {
        let table = &config.table;
        tracing::warn!(table, %error, "the view for readers cannot be created");
    }
}

/// The columns that INSERTs fill.
fn plain(table: &Described) -> Vec<(String, String)> {
    let filled = table
        .columns
        .iter()
        .filter(|column| column.default_kind != DefaultKind::Computed);
    filled
        .map(|column| (column.name.clone(), column.type_text.clone()))
        .collect()
}

async fn ask(client: &Client, config: &TableConfig) -> Result<Option<Described>, TableError> {
    let asked = Described::ask(client, config.database.as_deref(), &config.table).await;
    asked.map_err(|source| request_error(config, source))
}

fn request_error(config: &TableConfig, source: RequestError) -> TableError {
    TableError::Request {
        table: config.table.clone(),
        source,
    }
}

fn missing(config: &TableConfig) -> TableError {
    TableError::Missing {
        table: config.table.clone(),
        ddl: config.ddl().ok(),
    }
}

fn unusable(rows: usize, error: TableError) -> WriteError {
    WriteError::Unusable {
        stored: StoredRows::none(rows),
        class: match error.kind() {
            ErrorKind::Transient => ErrorClass::Transient,
            ErrorKind::Rejected | ErrorKind::Fatal => ErrorClass::Fatal,
        },
        source: error.into(),
    }
}

/// Tells whether the table may no longer be what the rows were encoded for.
fn explained_by_a_change(error: &WriteError) -> bool {
    matches!(
        error,
        WriteError::RefusedAlike { .. }
            | WriteError::Unusable {
                class: ErrorClass::Fatal,
                ..
            }
    )
}

/// Says of all records what an error says of some.
fn widened(error: WriteError, indexes: &[usize], outcomes: &[Option<RowOutcome>]) -> WriteError {
    let mut stored = StoredRows::none(outcomes.len());
    for (index, outcome) in outcomes.iter().enumerate() {
        if matches!(outcome, Some(RowOutcome::Stored)) {
            stored.extend(&[index]);
        }
    }
    for (row, index) in indexes.iter().enumerate() {
        if error.stored().contains(row) {
            stored.extend(&[*index]);
        }
    }
    match error {
        WriteError::Unusable { class, source, .. } => WriteError::Unusable {
            stored,
            class,
            source,
        },
        WriteError::RefusedAlike { source, .. } => WriteError::RefusedAlike { stored, source },
        _ => WriteError::GaveUp { stored },
    }
}
