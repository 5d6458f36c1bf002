//! A stream as a destination: a message is there once its PubAck is.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, ready};
use futures::stream::FuturesOrdered;
use ponix_nats::{OutgoingMessage, Pack, PubAck, Publisher, mixed_subject, pack};
use ponix_wire::PackFormat;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::ApiError;
use crate::group::{Group, Lead, Waiting};
use crate::memory::{ContentHash, Memory, conflict};
use crate::metrics::IngestMetrics;
use crate::submission::{Checked, Destination, Events, Sent};
use crate::trace;

/// Messages of one request that wait for their PubAck at the same time.
const IN_FLIGHT_PER_REQUEST: usize = 512;
/// The same of packed ones.
const PACKS_IN_FLIGHT: usize = 8;

/// Publishes, and remembers what clients said under the ids they chose. Clones share the memory.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    publisher: Publisher,
    timeout: Duration,
    metrics: IngestMetrics,
    memory: Memory,
    packing: Option<Packing>,
}

/// How the events of a request are packed.
#[derive(Debug, Clone)]
struct Packing {
    /// Of packed messages with events of several devices.
    mixed_subject: String,
    events_max: usize,
    /// Events that are alone in their requests.
    group: Group,
}

/// What is known of an event beside its message.
type Known = Checked<()>;

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
            packing: None,
        }
    }

    /// Packs so many envelopes of one request into a message at most; 1 packs none.
    pub(crate) fn packing(self, subject_prefix: &str, events_max: usize) -> Self {
        let packing = (events_max > 1).then(|| Packing {
            mixed_subject: mixed_subject(subject_prefix),
            events_max,
            group: Group::default(),
        });
        Self { packing, ..self }
    }

    /// Returns the same with nothing remembered: for a stream of its own, where nothing is packed, for its
    /// events have no identity in their bodies.
    pub(crate) fn with_memory(&self, memory: Memory) -> Self {
        Self {
            memory,
            packing: None,
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
        let duplicate = self.acked(message).await?;
        let message = ();
        self.sent(
            &Known {
                id,
                key,
                content,
                message,
            },
            duplicate,
        )
    }

    /// Publishes and waits for the PubAck; returns whether the stream had the message already.
    async fn acked(&self, mut message: OutgoingMessage) -> Result<bool, ApiError> {
        trace::put_into(&mut message.headers);
        let subject = tracing::enabled!(tracing::Level::TRACE).then(|| message.subject.clone());
        let start = Instant::now();
        let published = tokio::time::timeout(self.timeout, self.publisher.publish(message)).await;
        let PubAck { duplicate, .. } = published.map_err(|_| ApiError::outcome_unknown())??;
        let took = start.elapsed();
        self.metrics.publish_latency.observe(took.as_secs_f64());
        if let Some(subject) = subject {
            let took_ms = took.as_secs_f64() * 1000.0;
            let trace_id = trace::id();
            tracing::trace!(subject, trace_id, took_ms, duplicate, "message published");
        }
        Ok(duplicate)
    }

    fn sent(&self, event: &Known, duplicate: bool) -> Result<Sent, ApiError> {
        let Known {
            id, key, content, ..
        } = *event;
        if let Some(content) = content {
            // Two at the same time both pass the first check: the stream tells which came second.
            if duplicate {
                self.memory.check(key, id, content)?;
            }
            self.memory.remember(key, content);
        }
        Ok(Sent { id, duplicate })
    }

    /// Publishes an event together with those of other requests that come at the same time. It has
    /// no trace there: a message has one at most.
    async fn grouped(
        &self,
        event: Checked<OutgoingMessage>,
        packing: &Packing,
    ) -> Result<Sent, ApiError> {
        let (answer, answered) = oneshot::channel();
        if let Some(lead) = packing.group.join(Waiting { event, answer }) {
            // Others wait for it: it must not end with the request that began it.
            let (stream, packing) = (self.clone(), packing.clone());
            tokio::spawn(async move { stream.lead(lead, &packing).await });
        }
        // As long as it waits, those before it may take as long.
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(ApiError::outcome_unknown()),
        }
    }

    /// Publishes what waits until nothing does.
    async fn lead(&self, mut lead: Lead, packing: &Packing) {
        while let Some(waiting) = lead.next(packing.events_max) {
            let (events, answers): (Vec<_>, Vec<_>) =
                waiting.into_iter().map(|it| (it.event, it.answer)).unzip();
            let events = events.into_iter().map(|event| {
                // Once more: the message before may have carried another content under its id.
                if let Some(content) = event.content {
                    self.memory.check(event.key, event.id, content)?;
                }
                Ok(event)
            });
            let sent = self.packed(Box::new(events), packing).await;
            for (answer, sent) in answers.into_iter().zip(sent) {
                // Nobody listens when the client is gone.
                let _ = answer.send(sent);
            }
        }
    }

    /// Publishes events in packed messages. Each has its own answer, as if it were alone.
    async fn packed(
        &self,
        events: Events<'_, OutgoingMessage>,
        packing: &Packing,
    ) -> Vec<Result<Sent, ApiError>> {
        let mut answers = Vec::new();
        let (mut messages, mut known) = (Vec::new(), Vec::new());
        // Of this request; the memory has what was sent before it.
        let mut own: HashMap<Uuid, ContentHash> = HashMap::new();
        for (line, event) in events.enumerate() {
            let checked = event.and_then(|event| match event.content {
                Some(content) if *own.entry(event.key).or_insert(content) != content => {
                    Err(conflict(event.id))
                }
                _ => Ok(event),
            });
            let Checked {
                id,
                key,
                content,
                message,
            } = match checked {
                Ok(event) => event,
                Err(err) => {
                    answers.push(Err(err));
                    continue;
                }
            };
            answers.push(Err(ApiError::outcome_unknown()));
            let event = Known {
                id,
                key,
                content,
                message: (),
            };
            known.push((line, event));
            messages.push(OutgoingMessage {
                id: Some(key),
                ..message
            });
        }
        let limits = self.publisher.pack_limits(packing.events_max);
        let packs = pack(
            PackFormat::Envelopes,
            messages,
            &packing.mixed_subject,
            limits,
        );
        let published = packs.into_iter().map(|Pack { message, events }| async {
            let acked = self.acked(message).await;
            (events, acked)
        });
        let mut published = futures::stream::iter(published).buffer_unordered(PACKS_IN_FLIGHT);
        while let Some((events, acked)) = published.next().await {
            for event in events {
                let (line, event) = &known[event];
                let acked = acked.clone();
                answers[*line] = acked.and_then(|duplicate| self.sent(event, duplicate));
            }
        }
        answers
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
        match &self.packing {
            Some(packing) => {
                let mut events = events;
                match (events.next(), events.next()) {
                    (Some(Ok(event)), None) if trace::is_recorded() => {
                        vec![self.publish(event).await]
                    }
                    (Some(Ok(event)), None) => vec![self.grouped(event, packing).await],
                    (first, second) => {
                        let events = first.into_iter().chain(second).chain(events);
                        self.packed(Box::new(events), packing).await
                    }
                }
            }
            None => pipelined(events, |event| self.publish(event)).await,
        }
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
