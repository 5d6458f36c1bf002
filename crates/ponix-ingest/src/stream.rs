//! A stream as a destination: a message is there once its PubAck is.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, ready};
use futures::stream::FuturesOrdered;
use ponix_nats::{OutgoingMessage, PubAck, Publisher};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::ApiError;
use crate::memory::Memory;
use crate::metrics::IngestMetrics;
use crate::submission::{Checked, Destination, Events, Sent};

/// Messages of one request that wait for their PubAck at the same time.
const IN_FLIGHT_PER_REQUEST: usize = 512;

/// Publishes, and remembers what clients said under the ids they chose. Clones share the memory.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    publisher: Publisher,
    timeout: Duration,
    metrics: IngestMetrics,
    memory: Memory,
}

impl Stream {
    pub(crate) fn new(
        publisher: Publisher,
        timeout: Duration,
        remembered_ids_max: usize,
        metrics: IngestMetrics,
    ) -> Self {
        Self {
            publisher,
            timeout,
            metrics,
            memory: Memory::new(remembered_ids_max),
        }
    }

    /// Returns the same with nothing remembered: for a stream of its own.
    pub(crate) fn with_memory(&self, memory: Memory) -> Self {
        Self {
            memory,
            ..self.clone()
        }
    }

    /// Publishes and waits for the PubAck.
    pub(crate) async fn publish(&self, event: Checked<OutgoingMessage>) -> Result<Sent, ApiError> {
        let stream_id = event.key;
        self.publish_as(event, stream_id).await
    }

    /// The same with an id of its own for the stream.
    pub(crate) async fn publish_as(
        &self,
        event: Checked<OutgoingMessage>,
        stream_id: Uuid,
    ) -> Result<Sent, ApiError> {
        let Checked {
            id,
            key,
            content,
            mut message,
        } = event;
        message.id = Some(stream_id);
        let start = Instant::now();
        let published = tokio::time::timeout(self.timeout, self.publisher.publish(message)).await;
        let PubAck { duplicate, .. } = published.map_err(|_| ApiError::outcome_unknown())??;
        self.metrics
            .publish_latency
            .observe(start.elapsed().as_secs_f64());
        if let Some(content) = content {
            // Two at the same time both pass the first check: the stream tells which came second.
            if duplicate {
                self.memory.check(key, id, content)?;
            }
            self.memory.remember(key, content);
        }
        Ok(Sent { id, duplicate })
    }
}

impl Destination<OutgoingMessage> for Stream {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn send(
        &self,
        events: Events<'_, OutgoingMessage>,
        _atomic: bool,
    ) -> Vec<Result<Sent, ApiError>> {
        pipelined(events, |event| self.publish(event)).await
    }
}

/// Sends each event that is none of the errors, so many at a time, and keeps the order. Events are
/// encoded as there is room for them.
pub(crate) async fn pipelined<M, F>(
    events: Events<'_, M>,
    publish: impl Fn(Checked<M>) -> F + Send + Sync,
) -> Vec<Result<Sent, ApiError>>
where
    F: Future<Output = Result<Sent, ApiError>> + Send,
{
    let mut waiting = FuturesOrdered::new();
    let mut sent = Vec::new();
    for event in events {
        if waiting.len() == IN_FLIGHT_PER_REQUEST {
            sent.extend(waiting.next().await);
        }
        waiting.push_back(match event {
            Ok(event) => Either::Left(publish(event)),
            Err(err) => Either::Right(ready(Err(err))),
        });
    }
    sent.extend(waiting.collect::<Vec<_>>().await);
    sent
}
