//! What the HTTP API needs of PostgreSQL.

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use ponix_entities::Catalog;
use ponix_ingest::{MessageStore, Persisted, StatusList, StoreUnavailable};
use ponix_postgres::{
    Accepted, MessageOutcome, MessageRow, MessageStatus, StatusFilter, StoreError,
};
use uuid::Uuid;

use crate::pipelines::EntityStore;

/// The store of the HTTP API.
#[derive(Debug, Clone)]
pub(super) struct PostgresMessages(pub(super) EntityStore);

impl MessageStore for PostgresMessages {
    fn status<'a>(
        &'a self,
        organization: &'a str,
        message_id: Uuid,
    ) -> BoxFuture<'a, Result<Option<MessageStatus>, StoreUnavailable>> {
        let status = self.0.postgres.status(Some(organization), message_id);
        status.map_err(unavailable).boxed()
    }

    fn statuses<'a>(
        &'a self,
        organization: &'a str,
        message_ids: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>> {
        let statuses = self.0.postgres.statuses(organization, message_ids);
        statuses.map_err(unavailable).boxed()
    }

    fn list<'a>(
        &'a self,
        organization: &'a str,
        list: &'a StatusList,
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>> {
        let filter = StatusFilter {
            organization: organization.to_owned(),
            status: list.status,
            before: list.before,
            limit: list.limit,
        };
        async move {
            let listed = self.0.postgres.list_statuses(&filter).await;
            listed.map_err(unavailable)
        }
        .boxed()
    }

    fn record_accepted<'a>(
        &'a self,
        messages: &'a [Accepted],
    ) -> BoxFuture<'a, Result<(), StoreUnavailable>> {
        let recorded = self.0.postgres.record_accepted(messages);
        recorded.map_err(unavailable).boxed()
    }

    fn persist<'a>(
        &'a self,
        messages: &'a [ponix_ingest::RawMessage],
        atomic: bool,
    ) -> BoxFuture<'a, Result<Vec<Persisted>, StoreUnavailable>> {
        self.write(messages, atomic).boxed()
    }
}

impl PostgresMessages {
    async fn write(
        &self,
        messages: &[ponix_ingest::RawMessage],
        atomic: bool,
    ) -> Result<Vec<Persisted>, StoreUnavailable> {
        let EntityStore { postgres, catalog } = &self.0;
        let incoming: Vec<MessageRow> = messages.iter().map(|m| incoming(catalog, m)).collect();
        if atomic && incoming.iter().any(|message| message.parsed.is_err()) {
            return Ok(incoming.into_iter().map(refused_with_others).collect());
        }
        let written = postgres
            .write(catalog, &incoming)
            .await
            .map_err(unavailable)?;
        Ok(written.into_iter().map(persisted).collect())
    }
}

/// What a message of an atomic batch is answered when one of them is wrong.
fn refused_with_others(message: MessageRow) -> Persisted {
    match message.parsed {
        Err(err) => Persisted::Refused {
            reason: err.reasons(),
            field: err.field,
        },
        Ok(_) => Persisted::Refused {
            field: None,
            reason: "another message of the batch is wrong".to_owned(),
        },
    }
}

fn persisted(written: MessageOutcome) -> Persisted {
    match written {
        MessageOutcome::Stored => Persisted::Stored,
        MessageOutcome::AlreadyDone => Persisted::AlreadyDone,
        MessageOutcome::Refused { field, reason, .. } => Persisted::Refused { field, reason },
        MessageOutcome::Retry { reason } => Persisted::Refused {
            field: None,
            reason,
        },
    }
}

fn incoming(catalog: &Catalog, message: &ponix_ingest::RawMessage) -> MessageRow {
    MessageRow {
        message_id: message.message_id,
        organization: Some(message.organization.clone()),
        entity_type: message.entity_type.clone(),
        received_at: message.received_at,
        source: Some(message.source.clone()),
        retry_count: 0,
        parsed: catalog.parse(message.format, &message.payload, message.hint.as_deref()),
    }
}

fn unavailable(err: StoreError) -> StoreUnavailable {
    StoreUnavailable(err.into())
}
