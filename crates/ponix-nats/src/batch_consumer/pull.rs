//! One pull: a request to the server and the messages it answers with.
//!
//! Each request asks for a whole batch and expires after the linger time, so the server closes
//! the batch by count, by bytes or by age, and no message is left in a buffer where nobody
//! reports progress on it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::BatchSettings;
use crate::delivery::Delivery;
use crate::metrics::{NatsMetrics, ReasonLabel};

/// Time after a request's expiry in which the server must have ended it.
const EXPIRY_GRACE: Duration = Duration::from_secs(2);
/// Time a shutdown waits for the messages that the server had already sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a pull was set up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildReason {
    /// The server did not end the request in time: the connection was lost, or the server was.
    Silent,
    /// Messages are pending and none was delivered for the stall time.
    Stalled,
    /// The server ended the request for a reason of its own: leader change, shutdown.
    Server,
}

impl RebuildReason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Server => "server",
        }
    }
}

/// How a pull ended. The messages received until then count in every case.
#[derive(Debug)]
pub(super) enum PullEnd {
    /// The batch is full, or its time is over.
    Complete,
    /// The service is stopping; nothing more will be pulled.
    Shutdown,
    /// The connection is closed for good.
    Closed,
    /// The stream or consumer cannot be read now.
    Unavailable(String),
}

/// What a status message says about the running request.
#[derive(Debug, PartialEq, Eq)]
enum Status {
    Heartbeat,
    Complete,
    Oversized,
    Rebuild,
    Unavailable(String),
}

/// Sends pull requests and collects their answers.
#[derive(Debug)]
pub(super) struct Puller {
    client: Client,
    consumer: PullConsumer,
    settings: Arc<BatchSettings>,
    metrics: NatsMetrics,
    subscription: Option<Subscription>,
    last_delivery: Instant,
    oversized: bool,
}

#[derive(Debug)]
struct Subscription {
    inbox: String,
    subscriber: Subscriber,
    requests: u64,
}

impl Puller {
    pub(super) fn new(
        client: Client,
        consumer: PullConsumer,
        settings: Arc<BatchSettings>,
        metrics: NatsMetrics,
    ) -> Self {
        Self {
            client,
            consumer,
            settings,
            metrics,
            subscription: None,
            last_delivery: Instant::now(),
            oversized: false,
        }
    }

    pub(super) fn stream_name(&self) -> &str {
        &self.consumer.cached_info().stream_name
    }

    /// Collects one batch. A shutdown ends the request and keeps what the server had sent.
    pub(super) async fn pull(&mut self, shutdown: &CancellationToken) -> (Vec<Delivery>, PullEnd) {
        let mut messages = Vec::new();
        let request = match self.request().await {
            Ok(request) => request,
            Err(end) => return (messages, end),
        };
        let end = self.collect(&request, &mut messages, shutdown).await;
        let end = match end {
            PullEnd::Complete if messages.is_empty() => self.check_stall().await,
            end => end,
        };
        self.count(&messages);
        (messages, end)
    }

    /// Subscribes if need be and asks for a batch; returns the request's own inbox.
    async fn request(&mut self) -> Result<String, PullEnd> {
        let closed = |_| PullEnd::Closed;
        if self.subscription.is_none() {
            let inbox = self.client.new_inbox();
            let subscriber = self
                .client
                .subscribe(format!("{inbox}.*"))
                .await
                .map_err(|_| PullEnd::Closed)?;
            self.subscription = Some(Subscription {
                inbox,
                subscriber,
                requests: 0,
            });
        }
        let subscription = self.subscription.as_mut().expect("set above");
        subscription.requests += 1;
        let request = format!("{}.{}", subscription.inbox, subscription.requests);
        // A message larger than the limit of bytes ends every request at once: take it alone.
        let (batch, max_bytes) = if self.oversized {
            (1, 0)
        } else {
            (self.settings.messages_max, self.settings.bytes_max)
        };
        let expires = Some(self.settings.linger);
        let config = BatchConfig {
            batch,
            expires,
            max_bytes,
            ..BatchConfig::default()
        };
        self.consumer
            .request_batch(config, request.clone().into())
            .await
            .map_err(closed)?;
        Ok(request)
    }

    async fn collect(
        &mut self,
        request: &str,
        messages: &mut Vec<Delivery>,
        shutdown: &CancellationToken,
    ) -> PullEnd {
        let wanted = if self.oversized {
            1
        } else {
            self.settings.messages_max
        };
        let mut deadline = Instant::now() + self.settings.linger + EXPIRY_GRACE;
        loop {
            let subscription = self.subscription.as_mut().expect("subscribed by request()");
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.drain(messages).await;
                    return PullEnd::Shutdown;
                }
                received = tokio::time::timeout_at(deadline, subscription.subscriber.next()) => received,
            };
            let message = match received {
                Ok(Some(message)) => message,
                Ok(None) => return PullEnd::Closed,
                Err(_) => return self.rebuild(RebuildReason::Silent).await,
            };
            if message.status.is_none() {
                self.take(message, messages);
                if messages.len() >= wanted {
                    self.oversized = false;
                    return PullEnd::Complete;
                }
                continue;
            }
            if message.subject.as_str() != request {
                continue; // the end of an earlier request
            }
            match read_status(&message) {
                Status::Heartbeat => {
                    deadline = Instant::now() + self.settings.linger + EXPIRY_GRACE;
                }
                Status::Complete => return PullEnd::Complete,
                Status::Oversized => {
                    self.oversized = messages.is_empty();
                    return PullEnd::Complete;
                }
                Status::Rebuild => return self.rebuild(RebuildReason::Server).await,
                Status::Unavailable(reason) => {
                    self.subscription = None;
                    return PullEnd::Unavailable(reason);
                }
            }
        }
    }

    fn take(&mut self, message: Message, messages: &mut Vec<Delivery>) {
        let message = async_nats::jetstream::Message {
            message,
            context: self.context(),
        };
        match Delivery::from_message(message) {
            Some((delivery, pending)) => {
                self.metrics
                    .pending
                    .set(i64::try_from(pending).unwrap_or(i64::MAX));
                messages.push(delivery);
            }
            None => {
                tracing::warn!("a message without a JetStream ack subject came to the pull inbox");
            }
        }
    }

    fn context(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client.clone())
    }

    /// Ends the subscription; what the server had already sent belongs to the batch.
    async fn drain(&mut self, messages: &mut Vec<Delivery>) {
        let Some(mut subscription) = self.subscription.take() else {
            return;
        };
        if subscription.subscriber.drain().await.is_err() {
            return;
        }
        let until = Instant::now() + DRAIN_TIMEOUT;
        while let Ok(Some(message)) =
            tokio::time::timeout_at(until, subscription.subscriber.next()).await
        {
            if message.status.is_none() {
                self.take(message, messages);
            }
        }
    }

    async fn rebuild(&mut self, reason: RebuildReason) -> PullEnd {
        self.metrics
            .pull_rebuilds
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
        tracing::warn!(reason = reason.as_str(), "setting up the pull again");
        if let Some(mut subscription) = self.subscription.take() {
            // The connection may be gone, and the subscription with it.
            let _ = subscription.subscriber.unsubscribe().await;
        }
        self.check_consumer()
            .await
            .map_or_else(PullEnd::Unavailable, |_| PullEnd::Complete)
    }

    /// After a silence: connected, messages pending, room for them, and none delivered?
    async fn check_stall(&mut self) -> PullEnd {
        if self.last_delivery.elapsed() < self.settings.stall_timeout {
            return PullEnd::Complete;
        }
        self.last_delivery = Instant::now();
        match self.check_consumer().await {
            Err(reason) => PullEnd::Unavailable(reason),
            Ok(deliverable) if deliverable => self.rebuild(RebuildReason::Stalled).await,
            Ok(_) => PullEnd::Complete,
        }
    }

    /// Asks the server for the consumer: whether it could deliver a message now.
    async fn check_consumer(&mut self) -> Result<bool, String> {
        match self.consumer.get_info().await {
            Ok(info) => {
                let limit = info.config.max_ack_pending;
                let room = limit <= 0 || (info.num_ack_pending as i64) < limit;
                Ok(info.num_pending > 0 && room)
            }
            Err(err) => {
                let info = self.consumer.cached_info();
                Err(match err.kind() {
                    ConsumerInfoErrorKind::NotFound => format!(
                        "consumer {} of stream {} is gone: restart the service to create it again, everything the stream still holds is then read again",
                        info.name, info.stream_name
                    ),
                    ConsumerInfoErrorKind::StreamNotFound => format!(
                        "stream {} is gone: restore it, or restart the service to create an empty one",
                        info.stream_name
                    ),
                    _ => format!(
                        "consumer {} of stream {} cannot be looked up: {err}",
                        info.name, info.stream_name
                    ),
                })
            }
        }
    }

    fn count(&mut self, messages: &[Delivery]) {
        if messages.is_empty() {
            return;
        }
        self.last_delivery = Instant::now();
        self.metrics.received.inc_by(messages.len() as u64);
        let redelivered = messages.iter().filter(|m| m.deliveries() > 1).count();
        self.metrics.redelivered.inc_by(redelivered as u64);
    }
}

/// Reads what the server says about a request. Codes and texts are those of nats-server's
/// consumer.go; an unknown one counts as unavailable, so that it is seen and tried again slowly.
fn read_status(message: &Message) -> Status {
    let description = message.description.as_deref().unwrap_or_default();
    let lower = description.to_ascii_lowercase();
    match message.status.as_ref().map(StatusCode::as_u16) {
        Some(100) => Status::Heartbeat,
        Some(404 | 408) => Status::Complete,
        Some(409) if lower.contains("maxbytes") && lower.contains("message size") => {
            Status::Oversized
        }
        Some(409) if lower.contains("batch completed") => Status::Complete,
        Some(409) if lower.contains("maxackpending") => Status::Complete,
        Some(409) if lower.contains("leadership") || lower.contains("shutdown") => Status::Rebuild,
        Some(503) => Status::Rebuild,
        code => {
            let mut reason = String::from("the server refused the pull: ");
            let _ = write!(reason, "{} {description}", code.unwrap_or_default());
            Status::Unavailable(reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, description: &str) -> Message {
        Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: StatusCode::from_u16(code).ok(),
            description: Some(description.to_owned()),
            length: 0,
        }
    }

    #[test]
    fn statuses() {
        for (code, text, expected) in [
            (100, "Idle Heartbeat", Status::Heartbeat),
            (404, "No Messages", Status::Complete),
            (408, "Request Timeout", Status::Complete),
            (409, "Batch Completed", Status::Complete),
            (409, "Exceeded MaxAckPending", Status::Complete),
            (409, "Message Size Exceeds MaxBytes", Status::Oversized),
            (409, "Leadership Change", Status::Rebuild),
            (409, "Server Shutdown", Status::Rebuild),
            (503, "", Status::Rebuild),
        ] {
            assert_eq!(read_status(&status(code, text)), expected, "{code} {text}");
        }
        for (code, text) in [
            (409, "Consumer Deleted"),
            (409, "Exceeded MaxRequestBatch of 10"),
            (418, ""),
        ] {
            assert!(
                matches!(read_status(&status(code, text)), Status::Unavailable(r) if r.contains(text))
            );
        }
    }
}
