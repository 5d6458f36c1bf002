//! Publishing many messages: pipelined, each with its PubAck.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use ponix_nats::{
    ConnectionRole, NatsConfig, NatsMetrics, OutgoingMessage, Pack, PendingPublish, PubAck,
    PublishError, Publisher, connect, mixed_subject, pack,
};
use ponix_wire::PackFormat;
use prometheus_client::registry::Registry;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::events::Events;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages on their way, oldest first.
#[derive(Debug)]
pub(crate) struct Pipeline {
    publisher: Publisher,
    in_flight: VecDeque<(PendingPublish, OutgoingMessage)>,
    in_flight_max: usize,
}

impl Pipeline {
    /// Connects; at most `in_flight_max` messages will wait for their PubAck.
    pub(crate) async fn connect(nats_url: &str, in_flight_max: usize) -> Result<Self> {
        let config = nats_config(nats_url);
        let metrics = NatsMetrics::register(&mut Registry::default());
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let client = connect(&config, ConnectionRole::Publish, &metrics, deadline).await?;
        let publisher = Publisher::new(client, &config, in_flight_max, metrics);
        Ok(Self {
            publisher,
            in_flight: VecDeque::new(),
            in_flight_max,
        })
    }

    /// Sends a message, waiting for the oldest PubAck if too many are on their way.
    ///
    /// # Errors
    /// The stream is not there, or refuses this or an earlier message for ever.
    pub(crate) async fn send(&mut self, message: OutgoingMessage) -> Result<()> {
        if self.in_flight.len() >= self.in_flight_max {
            self.settle_oldest().await?;
        }
        match self.publisher.send(message.clone()).await {
            Ok(pending) => self.in_flight.push_back((pending, message)),
            Err(error) => self.settle(Err(error), &message).await?,
        }
        Ok(())
    }

    /// Sends so many events, a number of them in each message.
    ///
    /// # Errors
    /// As [`send`](Self::send), or an event is too large.
    pub(crate) async fn send_packed(
        &mut self,
        events: &mut Events,
        count: u64,
        events_max: usize,
        stream: &str,
    ) -> Result<()> {
        let mixed = mixed_subject(stream);
        let limits = self.publisher.pack_limits(events_max);
        let mut left = usize::try_from(count)?;
        while left > 0 {
            let now = left.min(events_max);
            left -= now;
            let messages: Vec<_> = (0..now).map(|_| events.next()).collect();
            for Pack { message, .. } in pack(PackFormat::Envelopes, messages, &mixed, limits) {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    /// Waits for every PubAck that is missing.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn finish(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<()> {
        if let Some((pending, message)) = self.in_flight.pop_front() {
            let outcome = pending.wait().await;
            self.settle(outcome, &message).await?;
        }
        Ok(())
    }

    /// Sends again what has no PubAck; the message's id keeps that from storing it twice.
    async fn settle(
        &mut self,
        outcome: Result<PubAck, PublishError>,
        message: &OutgoingMessage,
    ) -> Result<()> {
        match outcome {
            Ok(_) => {}
            Err(error @ PublishError::NoStream { .. }) => {
                return Err(error).context("start ponix-all-in-one first: it makes the stream");
            }
            Err(_) => {
                let for_ever = CancellationToken::new();
                self.publisher
                    .publish_until_acked(message, &for_ever)
                    .await?;
            }
        }
        Ok(())
    }
}

/// The connection to these servers; the rest is as in the service.
pub(crate) fn nats_config(url: &str) -> NatsConfig {
    NatsConfig {
        servers: url
            .split(',')
            .map(|server| server.trim().to_owned())
            .collect(),
        ..NatsConfig::default()
    }
}
