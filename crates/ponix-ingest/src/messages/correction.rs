//! A message that failed is sent again, corrected, under its id.
//!
//! The memory and the stream know an id for some time and would keep the second content out; the
//! worker takes it, for what failed has stored nothing.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use ponix_wire::message::{MessageStatus, Status};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::ApiError;
use crate::identity::id_of_content;
use crate::message::{MessageEncoder, RawMessage};
use crate::state::{IngestState, Messages, Way};
use crate::submission::{Checked, Encode as _, Line, Sent, Submission};

/// The latest messages that were corrected, and when: what is known of their end may be of before.
/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Corrections(Arc<Mutex<LruCache<Uuid, OffsetDateTime>>>);

impl Corrections {
    pub(crate) fn new(ids_max: usize) -> Self {
        let most = NonZeroUsize::new(ids_max).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Mutex::new(LruCache::new(most))))
    }

    fn note(&self, id: Uuid, at: OffsetDateTime) {
        self.cache().put(id, at);
    }

    /// Shows a message as accepted whose end was before its correction.
    pub(super) fn look_through(&self, status: MessageStatus) -> MessageStatus {
        let corrected = self.cache().peek(&status.message_id).copied();
        match (corrected, status.processed_at) {
            (Some(corrected), Some(ended)) if ended < corrected => MessageStatus {
                status: Status::Accepted,
                processed_at: None,
                error: None,
                ..status
            },
            _ => status,
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<Uuid, OffsetDateTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends again what was kept out because of a message that failed. `first` is the number of the
/// first line, 0 for a body that is one message.
pub(super) async fn take(
    state: &IngestState,
    submission: &Submission<'_, MessageEncoder<'_>, Messages>,
    lines: &[(usize, Bytes)],
    first: usize,
    sent: &mut [Line],
) {
    let messages = submission.destination;
    let Way::Stream(stream) = &messages.way else {
        return;
    };
    let kept_out = |result: &Result<Sent, ApiError>| match result {
        Ok(sent) => sent.duplicate,
        Err(error) => error.is_conflict(),
    };
    let mut suspects: Vec<(usize, Checked<RawMessage>)> = Vec::new();
    for (position, ((index, payload), (_, result))) in lines.iter().zip(sent.iter()).enumerate() {
        if kept_out(result)
            && let Ok(event) = submission.encoder.encode(payload.clone(), index + first)
        {
            suspects.push((position, event));
        }
    }
    if suspects.is_empty() {
        return;
    }
    let ids: Vec<Uuid> = suspects.iter().map(|(_, event)| event.id).collect();
    let reading = messages.store.statuses(submission.organization, &ids);
    // Without an answer the first content counts, as was said.
    let Ok(Ok(known)) = tokio::time::timeout(state.config.publish_timeout, reading).await else {
        return;
    };
    for (position, event) in suspects {
        if known.iter().any(|status| has_failed(status, event.id)) {
            sent[position].1 = messages.correct(stream, event).await;
        }
    }
}

/// Forgets what was said under the ids of messages that failed, for a batch that is refused because of
/// it; returns whether there are any. [`take`] sends them after the batch.
pub(super) async fn make_way(
    state: &IngestState,
    submission: &Submission<'_, MessageEncoder<'_>, Messages>,
    lines: &[(usize, Bytes)],
    first: usize,
) -> bool {
    let messages = submission.destination;
    if !matches!(messages.way, Way::Stream(_)) {
        return false;
    }
    let encode = |(index, payload): &(usize, Bytes)| {
        let event = submission.encoder.encode(payload.clone(), index + first);
        let event = event.ok()?;
        let known = messages.memory.check(event.key, event.id, event.content?);
        known.is_err().then_some((event.key, event.id))
    };
    let suspects: Vec<(Uuid, Uuid)> = lines.iter().filter_map(encode).collect();
    let ids: Vec<Uuid> = suspects.iter().map(|(_, id)| *id).collect();
    let reading = messages.store.statuses(submission.organization, &ids);
    let Ok(Ok(known)) = tokio::time::timeout(state.config.publish_timeout, reading).await else {
        return false;
    };
    let mut any = false;
    for (key, id) in suspects {
        if known.iter().any(|status| has_failed(status, id)) {
            messages.memory.forget(key);
            any = true;
        }
    }
    any
}

fn has_failed(status: &MessageStatus, id: Uuid) -> bool {
    status.message_id == id && matches!(status.status, Status::Failed | Status::DeadLetter)
}

impl Messages {
    /// Publishes under an id of its content, which the stream has not seen unless this is a repeat.
    async fn correct(
        &self,
        stream: &crate::stream::Stream,
        event: Checked<RawMessage>,
    ) -> Result<Sent, ApiError> {
        let stream_id = match &event.content {
            Some(content) => id_of_content(event.key, content),
            None => event.key,
        };
        self.memory.forget(event.key);
        self.corrections.note(event.id, event.message.received_at);
        self.publish(stream, event, stream_id).await
    }
}
