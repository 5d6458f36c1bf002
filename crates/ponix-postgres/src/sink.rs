//! The sink of raw messages: tables of entities, claims and statuses.

use std::sync::Arc;

use ponix_entities::Catalog;
use ponix_sink::{Attempt, BoxError, Rejection, RowOutcome, Sink, WriteError};

use crate::write::MessageRow;
use crate::{MessageOutcome, Postgres};

/// Is told of every batch that is committed.
type OnCommit = Arc<dyn Fn(&[MessageRow], &[MessageOutcome]) + Send + Sync>;

/// Writes messages by their entities. Clones share the pool.
#[derive(Clone)]
pub struct MessageSink {
    postgres: Postgres,
    catalog: Arc<Catalog>,
    on_commit: Option<OnCommit>,
}

impl std::fmt::Debug for MessageSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageSink")
            .field("postgres", &self.postgres)
            .finish_non_exhaustive()
    }
}

impl MessageSink {
    /// Makes a sink; the catalog's tables must be there ([`Postgres::apply_entities`]).
    pub fn new(postgres: Postgres, catalog: Arc<Catalog>) -> Self {
        Self {
            postgres,
            catalog,
            on_commit: None,
        }
    }

    /// Has somebody be told of every batch that is committed, to count it.
    #[must_use]
    pub fn on_commit(
        mut self,
        tell: impl Fn(&[MessageRow], &[MessageOutcome]) + Send + Sync + 'static,
    ) -> Self {
        self.on_commit = Some(Arc::new(tell));
        self
    }
}

impl Sink for MessageSink {
    type Row = MessageRow;
    /// The rows: which of them are written how, their claims tell.
    type Encoded = Vec<MessageRow>;

    async fn encode(&self, rows: Vec<MessageRow>) -> Result<Vec<MessageRow>, WriteError> {
        Ok(rows)
    }

    /// One transaction, which is there as a whole or not at all: nothing is stored on an error.
    async fn write(
        &self,
        rows: &Vec<MessageRow>,
        attempt: Attempt<'_>,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let written = self
            .postgres
            .write_guarded(&self.catalog, rows, Some(attempt))
            .await;
        match written {
            Ok(written) => {
                if let Some(tell) = &self.on_commit {
                    tell(rows, &written);
                }
                Ok(written.into_iter().map(RowOutcome::from).collect())
            }
            Err(error) => Err(error.nothing_written(rows.len())),
        }
    }

    async fn ping(&self) -> Result<(), BoxError> {
        Ok(self.postgres.ping().await?)
    }
}

impl From<MessageOutcome> for RowOutcome {
    fn from(written: MessageOutcome) -> Self {
        match written {
            MessageOutcome::Stored | MessageOutcome::AlreadyDone => Self::Stored,
            MessageOutcome::Refused { by, field, reason } => Self::Rejected(Rejection {
                by,
                text: match field {
                    Some(field) => format!("{field}: {reason}"),
                    None => reason,
                },
            }),
            MessageOutcome::Retry { reason } => Self::Later { reason },
        }
    }
}
