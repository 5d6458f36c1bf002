//! A store of messages without a database.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ponix_ingest::{
    AcceptedMessage, IncomingMessage, MessageStatus, MessageStore, Persisted, StoreUnavailable,
};
use uuid::Uuid;

/// Refuses lines that begin with `X|`, and everything while it is down.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    statuses: Mutex<HashMap<Uuid, (String, MessageStatus)>>,
    pub(crate) down: AtomicBool,
    /// Statuses of accepted messages cannot be written.
    pub(crate) closed: AtomicBool,
}

impl MemoryStore {
    /// Lets a message come to its end.
    pub(crate) fn finish(&self, id: Uuid, status: &str) {
        let mut statuses = self.statuses.lock().unwrap();
        status.clone_into(&mut statuses.get_mut(&id).unwrap().1.status);
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

    fn put(&self, message: AcceptedMessage, status: &str) {
        let entry = MessageStatus {
            message_id: message.message_id,
            status: status.to_owned(),
            entity_type: message.entity_type,
            received_at: message.received_at,
            processed_at: None,
            error: None,
            retry_count: 0,
        };
        let mut statuses = self.statuses.lock().unwrap();
        statuses.insert(message.message_id, (message.organization, entry));
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
            let own = found.filter(|(of, _)| of == organization);
            Ok(own.map(|(_, status)| status.clone()))
        }
        .boxed()
    }

    fn record_accepted<'a>(
        &'a self,
        messages: &'a [AcceptedMessage],
    ) -> BoxFuture<'a, Result<(), StoreUnavailable>> {
        async move {
            self.check()?;
            if self.closed.load(Ordering::Relaxed) {
                return Err(StoreUnavailable("closed".into()));
            }
            for message in messages {
                self.put(message.clone(), "accepted");
            }
            Ok(())
        }
        .boxed()
    }

    fn persist<'a>(
        &'a self,
        messages: &'a [IncomingMessage],
        atomic: bool,
    ) -> BoxFuture<'a, Result<Vec<Persisted>, StoreUnavailable>> {
        async move {
            self.check()?;
            let bad = |message: &IncomingMessage| message.payload.starts_with(b"X|");
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
                    let accepted = AcceptedMessage {
                        message_id: message.message_id,
                        organization: message.organization.clone(),
                        entity_type: message.entity_type.clone(),
                        received_at: message.received_at,
                        source: message.source.clone(),
                    };
                    self.put(accepted, "processed");
                }
                results.push(Persisted::Stored);
            }
            Ok(results)
        }
        .boxed()
    }
}
