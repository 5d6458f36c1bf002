//! The pool, and what runs on it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Client, ClientWrapper, ConfigConnectImpl, Connect, Manager, ManagerConfig, Pool,
    RecyclingMethod, Runtime,
};
use time::Date;
use tokio_postgres::NoTls;

use crate::config::Target;
use crate::{ConfigError, PostgresConfig, PostgresMetrics, StoreError, tls};

/// Shortest and longest pause before a transaction that lost is begun again, in milliseconds.
const CONFLICT_PAUSE_MS: std::ops::Range<u64> = 5..50;

/// PostgreSQL through a pool that connects when it is first used; clones share it.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
    metrics: PostgresMetrics,
}

struct Inner {
    pool: Pool,
    /// Connects what does not come from the pool.
    connect: Box<dyn Connect>,
    target: Target,
    config: PostgresConfig,
    /// Days whose partition is known to be there.
    days: Mutex<BTreeSet<Date>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.inner.target).finish()
    }
}

impl Postgres {
    /// Makes the pool. Nothing is connected yet.
    ///
    /// # Errors
    /// The configuration cannot be used; the URL never shows in the error.
    pub fn connect(config: PostgresConfig, metrics: PostgresMetrics) -> Result<Self, ConfigError> {
        let target = Target::new(&config)?;
        let manager = Manager::from_connect(
            target.with_statement_timeout(config.statement_timeout),
            Boxed(connector(&target)?),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(config.connections_max.max(1))
            .wait_timeout(Some(config.pool_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| ConfigError::Pool {
                connections_max: config.connections_max,
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                connect: connector(&target)?,
                target,
                config,
                days: Mutex::default(),
            }),
            metrics,
        })
    }

    /// Returns the same pool for a pipeline, whose name is in what it counts.
    #[must_use]
    pub fn for_pipeline(&self, pipeline: &str) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            metrics: self.metrics.for_pipeline(pipeline),
        }
    }

    /// Asks the server for an answer.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.within(async {
            let client = self.client().await?;
            client.batch_execute("SELECT 1").await?;
            client.give_back();
            Ok(())
        })
        .await
    }

    /// Closes the pool: waiting and later operations fail, connections in use end with theirs.
    pub fn close(&self) {
        self.inner.pool.close();
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &PostgresMetrics {
        &self.metrics
    }

    pub(crate) fn config(&self) -> &PostgresConfig {
        &self.inner.config
    }

    /// Takes a connection of the pool.
    pub(crate) async fn client(&self) -> Result<Lease, StoreError> {
        let begun = Instant::now();
        let client = self.inner.pool.get().await;
        let status = self.inner.pool.status();
        self.metrics.pool(&status, begun.elapsed());
        let config = self.config();
        match client {
            Ok(client) => Ok(Lease(Some(client))),
            Err(error) => Err(StoreError::of_pool(
                error,
                config.connect_timeout,
                config.pool_timeout,
            )),
        }
    }

    /// Connects outside the pool, for what must not share a session: locks and long statements of
    /// migrations. The connection ends with the client.
    pub(crate) async fn session(&self) -> Result<tokio_postgres::Client, StoreError> {
        let inner = &self.inner;
        let config = inner
            .target
            .with_statement_timeout(inner.config.migration_timeout);
        let after = inner.config.connect_timeout;
        let connected = tokio::time::timeout(after, inner.connect.connect(&config)).await;
        let (client, _task) = connected.map_err(|_| StoreError::TimedOut { after })??;
        Ok(client)
    }

    /// Bounds an operation in time.
    pub(crate) async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let after = self.config().operation_timeout;
        match tokio::time::timeout(after, operation).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::TimedOut { after }),
        }
    }

    /// Does an operation again while it loses against others.
    pub(crate) async fn retry_on_conflict<T, F>(
        &self,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut retries = 0;
        loop {
            match self.within(operation()).await {
                Err(error)
                    if error.is_conflict() && retries < self.config().conflict_retries_max =>
                {
                    retries += 1;
                    self.metrics.conflict();
                    let pause = rand::random_range(CONFLICT_PAUSE_MS);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                result => return result,
            }
        }
    }

    pub(crate) fn known_days(&self) -> std::sync::MutexGuard<'_, BTreeSet<Date>> {
        self.inner
            .days
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of the pool that goes back only when it is said to be in order.
///
/// Dropped otherwise, after an error or because the operation was given up in the middle, it is
/// closed, and PostgreSQL rolls back what it did.
pub(crate) struct Lease(Option<Client>);

impl Lease {
    /// Gives the connection back.
    pub(crate) fn give_back(mut self) {
        self.0 = None;
    }
}

impl Deref for Lease {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.0.as_ref().expect("only giving it back takes it")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        self.0.as_mut().expect("only giving it back takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

/// Chooses how to connect.
fn connector(target: &Target) -> Result<Box<dyn Connect>, ConfigError> {
    if !target.tls {
        return Ok(Box::new(ConfigConnectImpl { tls: NoTls }));
    }
    let tls = tls::connector(target.root_certificates.as_deref())?;
    Ok(Box::new(ConfigConnectImpl { tls }))
}

/// A connect that was chosen at run time.
struct Boxed(Box<dyn Connect>);

type Connecting<'a> = std::pin::Pin<
    Box<
        dyn Future<
                Output = Result<
                    (tokio_postgres::Client, tokio::task::JoinHandle<()>),
                    tokio_postgres::Error,
                >,
            > + Send
            + 'a,
    >,
>;

impl Connect for Boxed {
    fn connect(&self, config: &tokio_postgres::Config) -> Connecting<'_> {
        self.0.connect(config)
    }
}
