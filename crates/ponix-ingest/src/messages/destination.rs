//! Where raw messages go: into a stream with a status behind it, or into the store at once.

use std::time::Duration;

use axum::http::StatusCode;
use ponix_wire::message::{Accepted, MessageStatus};
use uuid::Uuid;

use crate::error::ApiError;
use crate::memory::Memory;
use crate::message::RawMessage;
use crate::state::{Messages, Way};
use crate::store::Persisted;
use crate::stream::{self, Stream};
use crate::submission::{Checked, Destination, Events, Sent};

impl Messages {
    /// Status and word of a request that is done.
    pub(super) fn success(&self) -> (StatusCode, &'static str) {
        match self.way {
            Way::Stream(_) => (StatusCode::ACCEPTED, "accepted"),
            Way::AtOnce(_) => (StatusCode::OK, "persisted"),
        }
    }

    /// The status of a message that is accepted and not written yet.
    pub(super) fn queued(&self, organization: &str, message_id: Uuid) -> Option<MessageStatus> {
        self.statuses
            .queued(message_id)
            .filter(|message| message.organization.as_deref() == Some(organization))
            .map(MessageStatus::accepted)
    }

    /// Publishes a message, which the stream knows by `stream_id`.
    pub(super) async fn publish(
        &self,
        stream: &Stream,
        event: Checked<RawMessage>,
        stream_id: Uuid,
    ) -> Result<Sent, ApiError> {
        let Checked {
            id,
            key,
            content,
            message,
        } = event;
        let outgoing = Checked {
            id,
            key,
            content,
            message: message.outgoing(&self.config.subject_prefix, stream_id),
        };
        let sent = stream.publish_as(outgoing, stream_id).await?;
        self.statuses.push(Accepted {
            message_id: message.message_id,
            organization: Some(message.organization),
            entity_type: message.entity_type,
            received_at: message.received_at,
            source: Some(message.source),
        });
        Ok(sent)
    }

    /// Stores what is no error, all at once.
    async fn persist(
        &self,
        events: Events<'_, RawMessage>,
        atomic: bool,
        timeout: Duration,
    ) -> Vec<Result<Sent, ApiError>> {
        let (mut chosen, mut messages) = (Vec::new(), Vec::new());
        let mut results: Vec<Result<Sent, ApiError>> = Vec::new();
        for event in events {
            results.push(event.map(|event| {
                chosen.push((event.key, event.content));
                messages.push(event.message);
                let (id, duplicate) = (event.id, false);
                Sent { id, duplicate }
            }));
        }
        let sent = results.iter_mut().filter(|result| result.is_ok());
        let stored = tokio::time::timeout(timeout, self.store.persist(&messages, atomic)).await;
        match stored {
            Ok(Ok(stored)) => {
                for ((result, stored), (key, content)) in sent.zip(stored).zip(chosen) {
                    if let (Persisted::Stored, Some(content)) = (&stored, content) {
                        self.memory.remember(key, content);
                    }
                    settle(result, stored);
                }
            }
            failed => {
                if let Ok(Err(err)) = failed {
                    tracing::warn!(error = %err, "the store does not answer a request");
                }
                sent.for_each(|result| *result = Err(ApiError::outcome_unknown()));
            }
        }
        results
    }
}

impl Destination<RawMessage> for Messages {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn send(
        &self,
        events: Events<'_, RawMessage>,
        atomic: bool,
    ) -> Vec<Result<Sent, ApiError>> {
        match &self.way {
            Way::AtOnce(timeout) => self.persist(events, atomic, *timeout).await,
            Way::Stream(stream) => {
                let publish = |event: Checked<RawMessage>| {
                    let stream_id = event.key;
                    self.publish(stream, event, stream_id)
                };
                stream::pipelined(events, publish).await
            }
        }
    }
}

fn settle(result: &mut Result<Sent, ApiError>, stored: Persisted) {
    match stored {
        Persisted::Stored => {}
        Persisted::AlreadyDone => {
            if let Ok(sent) = result {
                sent.duplicate = true;
            }
        }
        Persisted::Refused { field, reason } => {
            let error = ApiError::bad("invalid_message", reason);
            *result = Err(match field {
                Some(field) => error.at(field),
                None => error,
            });
        }
    }
}
