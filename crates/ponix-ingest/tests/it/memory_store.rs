//! A store of messages without a database.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ponix_ingest::{MessageStore, Persisted, RawMessage, StatusList, StoreUnavailable};
use ponix_wire::message::{Accepted, MessageStatus, Status};
use uuid::Uuid;

/// Refuses lines that begin with `X|`, and everything while it is down.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    statuses: Mutex<HashMap<Uuid, MessageStatus>>,
    pub(crate) down: AtomicBool,
    /// Statuses of accepted messages cannot be written.
    pub(crate) closed: AtomicBool,
}

impl MemoryStore {
    /// Lets a message come to its end.
    pub(crate) fn finish(&self, id: Uuid) {
        self.end(id, Status::Processed);
    }

    pub(crate) fn end(&self, id: Uuid, status: Status) {
        let mut statuses = self.statuses.lock().unwrap();
        statuses.get_mut(&id).unwrap().status = status;
    }

    pub(crate) fn len(&self) -> usize {
        self.statuses.lock().unwrap().len()
    }

    fn check(&self) -> Result<(), StoreUnavailable> {
        if self.down.load(Ordering::Relaxed) {
            return Err(StoreUnavailable("secret of the database".into()));
        }
        Ok(())
    }

    fn put(&self, message: Accepted, status: Status) {
        let entry = MessageStatus {
            status,
            ..MessageStatus::accepted(message)
        };
        self.statuses
            .lock()
            .unwrap()
            .insert(entry.message_id, entry);
    }
}

impl MessageStore for MemoryStore {
    fn status<'a>(
        &'a self,
        organization: &'a str,
        message_id: Uuid,
    ) -> BoxFuture<'a, Result<Option<MessageStatus>, StoreUnavailable>> {
        async move {
            self.check()?;
            let statuses = self.statuses.lock().unwrap();
            let found = statuses.get(&message_id);
            let own = found.filter(|found| found.organization.as_deref() == Some(organization));
            Ok(own.cloned())
        }
        .boxed()
    }

    fn statuses<'a>(
        &'a self,
        organization: &'a str,
        message_ids: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>> {
        async move {
            self.check()?;
            let statuses = self.statuses.lock().unwrap();
            let found = message_ids.iter().filter_map(|id| statuses.get(id));
            let own = found.filter(|found| found.organization.as_deref() == Some(organization));
            Ok(own.cloned().collect())
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        organization: &'a str,
        list: &'a StatusList,
    ) -> BoxFuture<'a, Result<Vec<MessageStatus>, StoreUnavailable>> {
        async move {
            self.check()?;
            let statuses = self.statuses.lock().unwrap();
            let place = |status: &MessageStatus| (status.received_at, status.message_id);
            let before = list.before.and_then(|id| statuses.get(&id)).map(place);
            let mut found: Vec<_> = statuses
                .values()
                .filter(|status| status.organization.as_deref() == Some(organization))
                .filter(|status| list.status.is_none_or(|wanted| wanted == status.status))
                .filter(|status| before.is_none_or(|before| place(status) < before))
                .cloned()
                .collect();
            found.sort_by_key(|status| std::cmp::Reverse(place(status)));
            found.truncate(list.limit);
            Ok(found)
        }
        .boxed()
    }

    fn record_accepted<'a>(
        &'a self,
        messages: &'a [Accepted],
    ) -> BoxFuture<'a, Result<(), StoreUnavailable>> {
        async move {
            self.check()?;
            if self.closed.load(Ordering::Relaxed) {
                return Err(StoreUnavailable("closed".into()));
            }
            for message in messages {
                self.put(message.clone(), Status::Accepted);
            }
            Ok(())
        }
        .boxed()
    }

    fn persist<'a>(
        &'a self,
        messages: &'a [RawMessage],
        atomic: bool,
    ) -> BoxFuture<'a, Result<Vec<Persisted>, StoreUnavailable>> {
        async move {
            self.check()?;
            let bad = |message: &RawMessage| message.payload.starts_with(b"X|");
            let none = atomic && messages.iter().any(bad);
            let mut results = Vec::new();
            for message in messages {
                if bad(message) {
                    results.push(Persisted::Refused {
                        field: Some("prefix".to_owned()),
                        reason: "prefix X is not known".to_owned(),
                    });
                    continue;
                }
                if !none {
                    let accepted = Accepted {
                        message_id: message.message_id,
                        organization: Some(message.organization.clone()),
                        entity_type: message.entity_type.clone(),
                        received_at: message.received_at,
                        source: Some(message.source.clone()),
                    };
                    self.put(accepted, Status::Processed);
                }
                results.push(Persisted::Stored);
            }
            Ok(results)
        }
        .boxed()
    }
}
