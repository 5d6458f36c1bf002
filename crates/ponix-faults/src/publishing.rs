//! Publishes events and keeps the ledger.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use ponix_nats::async_nats::jetstream::Context;
use ponix_nats::{
    ConnectionRole, NatsConfig, NatsMetrics, OutgoingMessage, Pack, PubAck, PublishError,
    PublishErrorClass, Publisher, connect, jetstream_context, mixed_subject, pack,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, IdentifiedBy};
use crate::ledger::Ledger;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const IN_FLIGHT: usize = 256;

/// A publisher with a connection of its own.
#[derive(Debug, Clone)]
pub struct Publishing {
    publisher: Publisher,
    context: Context,
    ledger: Ledger,
}

impl Publishing {
    pub(crate) async fn connect(url: &str, ledger: Ledger) -> Result<Self> {
        let config = NatsConfig {
            servers: url.split(',').map(str::to_owned).collect(),
            request_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            ..NatsConfig::default()
        };
        let metrics = NatsMetrics::unregistered();
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let client = connect(&config, ConnectionRole::Publish, &metrics, deadline).await?;
        Ok(Self {
            publisher: Publisher::new(client.clone(), &config, 2 * IN_FLIGHT, metrics),
            context: jetstream_context(client, &config),
            ledger,
        })
    }

    /// JetStream, to look into it or to change it by hand.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Publishes events, pipelined, in order, and waits for their PubAcks. What is not
    /// acknowledged is sent again where that is safe: an event with an identity of its own.
    ///
    /// # Errors
    /// A message that is wrong in itself.
    pub async fn publish(&self, events: impl IntoIterator<Item = Event>) -> Result<()> {
        self.publish_until(events, &CancellationToken::new()).await
    }

    /// As [`publish`](Self::publish), but gives up sending again once `give_up` is cancelled.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_until(
        &self,
        events: impl IntoIterator<Item = Event>,
        give_up: &CancellationToken,
    ) -> Result<()> {
        // Waited for together: each PubAck that never comes takes the whole timeout.
        futures::stream::iter(events)
            .map(|event| self.publish_one(event, give_up))
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    /// Publishes events in packed messages of so many at most, one after the other, and waits for their
    /// PubAcks. What is not acknowledged is sent again, with the same id.
    ///
    /// # Errors
    /// A message that is wrong in itself.
    pub async fn publish_packed(
        &self,
        events: impl IntoIterator<Item = Event>,
        events_max: usize,
        give_up: &CancellationToken,
    ) -> Result<()> {
        let events: Vec<Event> = events.into_iter().collect();
        let limits = self.publisher.pack_limits(events_max);
        for of_one in events.chunk_by(|a, b| a.pipeline == b.pipeline) {
            let pipeline = of_one[0].pipeline;
            let messages = of_one.iter().map(|event| OutgoingMessage {
                // By which the message is known, and its events in it.
                id: Some(event.key),
                ..event.message()
            });
            let mixed = mixed_subject(pipeline.subject_prefix());
            let packs = pack(pipeline.pack_format(), messages, &mixed, limits);
            for Pack { message, events } in packs {
                let id = message.id.context("every event has a key")?;
                let is_packed = events.len() > 1;
                let known = (0_u32..).zip(&events).map(|(index, position)| {
                    let event = of_one[*position].clone();
                    if is_packed {
                        event.packed(id, index)
                    } else {
                        event.identified(Some(id))
                    }
                });
                let known: Vec<Event> = known.collect();
                for event in &known {
                    self.ledger.attempt(event);
                }
                let acked = self.publisher.publish_until_acked(&message, give_up).await;
                match acked {
                    Ok(ack) => {
                        for event in &known {
                            self.ledger.acknowledge(event.key, ack.sequence);
                        }
                    }
                    Err(PublishError::GaveUp) => return Ok(()),
                    Err(err) => return Err(err).context("events cannot be published"),
                }
            }
        }
        Ok(())
    }

    /// Publishes one event, once.
    ///
    /// # Errors
    /// The stream's refusal, or no PubAck in time.
    pub async fn publish_once(&self, event: Event) -> Result<PubAck, PublishError> {
        self.ledger.attempt(&event);
        let ack = self.publisher.publish(event.message()).await?;
        self.ledger.acknowledge(event.key, ack.sequence);
        Ok(ack)
    }

    async fn publish_one(&self, event: Event, give_up: &CancellationToken) -> Result<()> {
        self.ledger.attempt(&event);
        let message = event.message();
        let ack = match self.publisher.publish(message.clone()).await {
            Ok(ack) => Some(ack),
            Err(err) if err.class() == PublishErrorClass::Rejected => {
                return Err(err).context("an event cannot be published");
            }
            Err(_) if event.identified_by == IdentifiedBy::Position => None,
            Err(_) => {
                let again = self.publisher.publish_until_acked(&message, give_up);
                again.await.ok()
            }
        };
        if let Some(ack) = ack {
            self.ledger.acknowledge(event.key, ack.sequence);
        }
        Ok(())
    }
}
