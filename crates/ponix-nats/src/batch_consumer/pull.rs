//! One pull: a request to the server and the messages it answers with.
//!
//! Each request asks for a whole batch and expires after the linger time, so the server closes
//! the batch by count, by bytes or by age, and no message is left in a buffer where nobody
//! reports progress on it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::BatchSettings;
use crate::connection::VERSION_SINGLE_COPY_MIN;
use crate::delivery::Delivery;
use crate::history::HistoryError;
use crate::metrics::ConsumerMetrics;
use crate::position::{self, Landmark};

/// Time after a request's expiry in which the server must have ended it.
const EXPIRY_GRACE: Duration = Duration::from_secs(2);
/// Time in which a request must have left, which it cannot without a connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests without an answer after which the server, being there, is not taken for restarting.
const SILENCES_MAX: u32 = 3;
/// Attempts to look at the consumer's position after each connect.
const POSITION_CHECKS: u32 = 3;
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
    /// The server had lost the tail of the stream, and the consumer was set back.
    LostTail,
}

impl RebuildReason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Server => "server",
            Self::LostTail => "lost_tail",
        }
    }
}

/// How a pull ended. The messages received until then count in every case.
#[derive(Debug)]
pub(super) enum PullEnd {
    /// The batch is full, or its time is over.
    Complete,
    /// The pull was broken and has been set up again.
    Rebuilt,
    /// The service is stopping; nothing more will be pulled.
    Shutdown,
    /// The connection is closed for good.
    Closed,
    /// The stream or consumer cannot be read now.
    Unavailable(String),
}

/// How the collecting of a batch ended.
#[derive(Debug)]
enum Collected {
    /// By count, bytes or age.
    Complete,
    Shutdown,
    /// The connection is closed for good.
    Closed,
    Broken(RebuildReason),
    /// The server does not take the request.
    Refused(String),
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

/// What a consumer pulls from. The second implementation is the model in the tests.
pub(super) trait Source: Send + Sync + 'static {
    /// Returns the stream's name.
    fn stream_name(&self) -> &str;

    /// Collects one batch. A shutdown ends it and keeps what had been delivered.
    fn pull(
        &mut self,
        shutdown: &CancellationToken,
    ) -> impl Future<Output = (Vec<Delivery>, PullEnd)> + Send;

    /// Ends the pulling; returns what had been delivered and is in no batch.
    fn leftovers(&mut self) -> impl Future<Output = Vec<Delivery>> + Send;
}

/// Sends pull requests and collects their answers.
#[derive(Debug)]
pub(super) struct Puller {
    client: Client,
    consumer: PullConsumer,
    settings: Arc<BatchSettings>,
    metrics: ConsumerMetrics,
    subscription: Option<Subscription>,
    last_delivery: Instant,
    oversized: bool,
    /// Events in a message, as the last pulls had them.
    events_per_message: f64,
    /// Requests without an answer, one after the other.
    silences: u32,
    context: jetstream::Context,
    position: PositionCheck,
}

/// What is known about the consumer's position in the stream.
#[derive(Debug, Default)]
struct PositionCheck {
    /// Connects the client had made when it was looked at.
    connects: u64,
    /// Attempts left to look at it.
    attempts: u32,
    /// How often it was seen beyond the end, one after the other.
    beyond: u32,
    /// The highest sequence delivered to this puller.
    landmark: Option<Landmark>,
    /// What the consumer's metadata said when it was looked at.
    set_back_to: Option<String>,
}

/// What the server says about the consumer.
#[derive(Debug)]
struct Condition {
    /// Messages are pending and there is room for them.
    deliverable: bool,
    paused: bool,
}

#[derive(Debug)]
struct Subscription {
    inbox: String,
    subscriber: Subscriber,
    requests: u64,
    /// A request that had not ended when the batch was full: its messages are still to come, and in
    /// the next batch.
    unfinished: Option<Request>,
}

/// A request to the server.
#[derive(Debug)]
struct Request {
    inbox: String,
    /// Messages that are still to come at most.
    rest: usize,
    made: Instant,
}

/// What a batch has room for.
#[derive(Debug, Clone, Copy)]
struct Room {
    events: usize,
    bytes: usize,
    linger: Duration,
}

impl Room {
    const fn new(settings: &BatchSettings) -> Self {
        Self {
            events: settings.messages_max,
            bytes: settings.bytes_max,
            linger: settings.linger,
        }
    }

    /// Returns the room beside messages that are of a request so old.
    fn beside(self, messages: &[Delivery], age: Duration) -> Self {
        if messages.is_empty() {
            return self;
        }
        let events: usize = messages.iter().map(Delivery::events).sum();
        let bytes: usize = messages.iter().map(Delivery::bytes).sum();
        Self {
            events: self.events.saturating_sub(events),
            bytes: self.bytes.saturating_sub(bytes),
            linger: self.linger.saturating_sub(age),
        }
    }

    /// Tells whether nothing more goes in, such as a message that is a batch of its own.
    const fn is_taken(self, oversized: bool) -> bool {
        self.events == 0 || self.bytes == 0 || oversized
    }
}

impl Source for Puller {
    fn stream_name(&self) -> &str {
        &self.consumer.cached_info().stream_name
    }

    async fn pull(&mut self, shutdown: &CancellationToken) -> (Vec<Delivery>, PullEnd) {
        let mut messages = Vec::new();
        let mut room = Room::new(&self.settings);
        let unfinished = self.subscription.as_mut();
        if let Some(mut request) = unfinished.and_then(|it| it.unfinished.take()) {
            // Before the position is looked at, which is judged by all that was delivered.
            let collected = self.collect(&mut request, &mut messages, shutdown).await;
            room = room.beside(&messages, request.made.elapsed());
            let is_whole = room.is_taken(self.oversized) || self.must_check_position();
            if !matches!(collected, Collected::Complete) || (is_whole && !messages.is_empty()) {
                self.note_delivered(&messages);
                let end = self.ended(collected, messages.is_empty(), shutdown).await;
                return (messages, end);
            }
        }
        let checked = tokio::select! {
            biased;
            () = shutdown.cancelled() => return (messages, PullEnd::Shutdown),
            checked = self.check_position() => checked,
        };
        if let Some(end) = checked {
            return (messages, end);
        }
        // Without a connection all of these may wait for the next one.
        let request = tokio::select! {
            biased;
            () = shutdown.cancelled() => return (messages, PullEnd::Shutdown),
            request = tokio::time::timeout(SEND_TIMEOUT, self.request(room)) => request,
        };
        let mut request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return (messages, PullEnd::Closed),
            Err(_) => {
                let reason = "there is no connection to nats".to_owned();
                return (messages, PullEnd::Unavailable(reason));
            }
        };
        let collected = self.collect(&mut request, &mut messages, shutdown).await;
        self.note_delivered(&messages);
        let end = self.ended(collected, messages.is_empty(), shutdown).await;
        (messages, end)
    }

    async fn leftovers(&mut self) -> Vec<Delivery> {
        let mut messages = Vec::new();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.drain(&mut messages)).await;
        messages
    }
}

impl Puller {
    fn note_delivered(&mut self, messages: &[Delivery]) {
        if messages.is_empty() {
            return;
        }
        self.last_delivery = Instant::now();
        let events: usize = messages.iter().map(Delivery::events).sum();
        let lately = events as f64 / messages.len() as f64;
        self.events_per_message = f64::midpoint(self.events_per_message, lately);
    }

    async fn ended(
        &mut self,
        collected: Collected,
        empty: bool,
        shutdown: &CancellationToken,
    ) -> PullEnd {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => PullEnd::Shutdown,
            end = self.end(collected, empty) => end,
        }
    }

    pub(super) fn new(
        client: Client,
        consumer: PullConsumer,
        settings: Arc<BatchSettings>,
        metrics: ConsumerMetrics,
    ) -> Self {
        Self {
            context: jetstream::new(client.clone()),
            position: PositionCheck::default(),
            client,
            consumer,
            settings,
            metrics,
            subscription: None,
            last_delivery: Instant::now(),
            oversized: false,
            events_per_message: 1.0,
            silences: 0,
        }
    }

    /// Subscribes if need be and asks for a batch; returns the request's own inbox, `None` when
    /// the connection is closed for good.
    async fn request(&mut self, room: Room) -> Option<Request> {
        if self.subscription.is_none() {
            let inbox = self.client.new_inbox();
            let subscriber = self.client.subscribe(format!("{inbox}.*")).await.ok()?;
            self.subscription = Some(Subscription {
                inbox,
                subscriber,
                requests: 0,
                unfinished: None,
            });
        }
        let subscription = self.subscription.as_mut().expect("set above");
        subscription.requests += 1;
        let inbox = format!("{}.{}", subscription.inbox, subscription.requests);
        // A message larger than the limit of bytes ends every request at once: take it alone.
        let (batch, max_bytes) = if self.oversized {
            (1, 0)
        } else {
            let messages = messages_to_ask(room.events, self.events_per_message);
            (messages, room.bytes)
        };
        // Without an expiry a request would stay for ever.
        let expires = Some(room.linger.max(Duration::from_millis(1)));
        let config = BatchConfig {
            batch,
            expires,
            max_bytes,
            ..BatchConfig::default()
        };
        self.consumer
            .request_batch(config, inbox.clone().into())
            .await
            .ok()?;
        Some(Request {
            inbox,
            rest: batch,
            made: Instant::now(),
        })
    }

    async fn collect(
        &mut self,
        request: &mut Request,
        messages: &mut Vec<Delivery>,
        shutdown: &CancellationToken,
    ) -> Collected {
        let mut events: usize = messages.iter().map(Delivery::events).sum();
        let mut deadline = Instant::now() + self.settings.linger + EXPIRY_GRACE;
        // The end of the request comes behind its messages, over a slow link much later.
        let moved = |deadline: Instant| deadline.max(Instant::now() + EXPIRY_GRACE);
        loop {
            let subscription = self.subscription.as_mut().expect("subscribed by request()");
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.drain(messages)).await;
                    return Collected::Shutdown;
                }
                received = tokio::time::timeout_at(deadline, subscription.subscriber.next()) => received,
            };
            let message = match received {
                Ok(Some(message)) => message,
                Ok(None) => return Collected::Closed,
                Err(_) => return Collected::Broken(RebuildReason::Silent),
            };
            if message.status.is_none() {
                deadline = moved(deadline);
                if self.take(message, messages) {
                    request.rest = request.rest.saturating_sub(1);
                    events += messages.last().map_or(0, Delivery::events);
                }
                if request.rest == 0 {
                    self.oversized = false;
                    return Collected::Complete;
                }
                // Packed messages were larger than those before. What the server has sent already
                // is the next batch.
                if events >= self.settings.messages_max {
                    let subscription = self.subscription.as_mut().expect("it has just delivered");
                    subscription.unfinished = Some(Request {
                        inbox: std::mem::take(&mut request.inbox),
                        ..*request
                    });
                    return Collected::Complete;
                }
                continue;
            }
            if message.subject.as_str() != request.inbox {
                continue; // the end of an earlier request
            }
            match read_status(&message) {
                Status::Heartbeat => {
                    deadline = Instant::now() + self.settings.linger + EXPIRY_GRACE;
                }
                Status::Complete => return Collected::Complete,
                Status::Oversized => {
                    self.oversized = messages.is_empty();
                    return Collected::Complete;
                }
                Status::Rebuild => return Collected::Broken(RebuildReason::Server),
                Status::Unavailable(reason) => return Collected::Refused(reason),
            }
        }
    }

    /// Adds a message to the batch; false for one that did not come from JetStream.
    fn take(&mut self, message: Message, messages: &mut Vec<Delivery>) -> bool {
        let Some((delivery, _)) = Delivery::from_message(message) else {
            tracing::warn!("a message without a JetStream ack subject came to the pull inbox");
            return false;
        };
        let landmark = Landmark {
            sequence: delivery.stream_sequence(),
            published_at_ns: delivery.published_at_ns(),
        };
        let highest = &mut self.position.landmark;
        if highest.is_none_or(|highest| highest.sequence < landmark.sequence) {
            *highest = Some(landmark);
        }
        messages.push(delivery);
        true
    }

    /// Ends the subscription; what the server had already sent belongs to the batch.
    async fn drain(&mut self, messages: &mut Vec<Delivery>) {
        let Some(mut subscription) = self.subscription.take() else {
            return;
        };
        if subscription.subscriber.drain().await.is_err() {
            return;
        }
        while let Some(message) = subscription.subscriber.next().await {
            if message.status.is_none() {
                self.take(message, messages);
            }
        }
    }

    /// Looks after a pull that has ended: what of it has to be set up again, and why it was empty.
    async fn end(&mut self, collected: Collected, empty: bool) -> PullEnd {
        if !matches!(collected, Collected::Broken(RebuildReason::Silent)) {
            self.silences = 0;
        }
        match collected {
            Collected::Complete if empty => self.check_stall().await,
            Collected::Complete => PullEnd::Complete,
            Collected::Shutdown => PullEnd::Shutdown,
            Collected::Closed => PullEnd::Closed,
            Collected::Broken(reason) => self.rebuild(reason).await,
            Collected::Refused(reason) => {
                self.subscription = None;
                PullEnd::Unavailable(reason)
            }
        }
    }

    async fn rebuild(&mut self, reason: RebuildReason) -> PullEnd {
        self.metrics.count_rebuild(reason);
        tracing::warn!(reason = reason.as_str(), "setting up the pull again");
        // Dropping it unsubscribes, without waiting for a connection.
        self.subscription = None;
        self.position.attempts = POSITION_CHECKS;
        self.silences += u32::from(reason == RebuildReason::Silent);
        let (consumer, stream) = self.names();
        match self.check_consumer().await {
            Err(reason) => PullEnd::Unavailable(reason),
            Ok(Condition { paused: true, .. }) => PullEnd::Unavailable(format!(
                "consumer {consumer} of stream {stream} is paused: resume it (nats consumer resume), or wait until the pause is over",
            )),
            // Not a restart, which is over by now.
            Ok(_) if self.silences >= SILENCES_MAX => PullEnd::Unavailable(format!(
                "the server does not answer requests for messages of consumer {consumer}: may the user publish on $JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer} and subscribe to _INBOX.>?",
            )),
            Ok(_) => PullEnd::Rebuilt,
        }
    }

    /// After a silence: connected, messages pending, room for them, and none delivered?
    async fn check_stall(&mut self) -> PullEnd {
        if self.last_delivery.elapsed() < self.settings.stall_timeout {
            return PullEnd::Complete;
        }
        match self.check_consumer().await {
            // Asked again with the next pull that brings nothing.
            Err(reason) => PullEnd::Unavailable(reason),
            Ok(condition) if condition.deliverable => {
                let end = self.rebuild(RebuildReason::Stalled).await;
                if matches!(end, PullEnd::Rebuilt) {
                    self.last_delivery = Instant::now();
                }
                end
            }
            Ok(_) => {
                self.last_delivery = Instant::now();
                PullEnd::Complete
            }
        }
    }

    /// Tells whether the server may have been another one since the position was looked at.
    fn must_check_position(&mut self) -> bool {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        if self.position.connects != connects {
            self.position.connects = connects;
            self.position.attempts = POSITION_CHECKS;
        }
        self.position.attempts > 0
    }

    /// After a connect or a rebuild: would the consumer skip messages, because the server has lost
    /// the tail of the stream? Then it is set back, once no batch is in flight any more whose acks
    /// would settle other messages.
    async fn check_position(&mut self) -> Option<PullEnd> {
        if !self.must_check_position() {
            return None;
        }
        match self.set_back_if_beyond().await {
            Ok(None) => {
                self.position.attempts = 0;
                self.position.beyond = 0;
                None
            }
            Ok(end) => end,
            Err(err) => {
                // What reads messages will say what is the matter.
                self.position.attempts -= 1;
                let error = format!("{err:#}");
                tracing::warn!(error, "the consumer's position cannot be looked at");
                None
            }
        }
    }

    async fn set_back_if_beyond(&mut self) -> Result<Option<PullEnd>, HistoryError> {
        let (consumer, name) = self.names();
        let stream = self.context.get_stream(&name).await;
        let stream =
            stream.map_err(|err| HistoryError::named(&name, "it cannot be looked up", err))?;
        let info = stream.consumer_info(&consumer).await;
        let info = info.map_err(|err| HistoryError::named(&name, "no consumer info", err))?;
        // Set back, by this worker or another: what was delivered before tells nothing any more.
        let set_back_to = info.config.metadata.get(position::SET_BACK_TO);
        if self.position.set_back_to.as_ref() != set_back_to {
            self.position.set_back_to = set_back_to.cloned();
            self.position.landmark = None;
        }
        let (major, minor) = VERSION_SINGLE_COPY_MIN;
        let server_is_right = self.client.is_server_compatible(major, minor, 0);
        let landmark = self.position.landmark.filter(|_| !server_is_right);
        let Some(first) = position::first_skipped(&stream, &info, landmark).await? else {
            return Ok(None);
        };
        self.position.beyond += 1;
        // Acks of what was delivered before would settle the messages that have its sequences now.
        if self.position.beyond < position::LOOKS || self.metrics.in_flight.get() > 0 {
            let reached = position::position(&info);
            return Ok(Some(PullEnd::Unavailable(format!(
                "the server has lost the tail of stream {name}: consumer {consumer} stands at {reached} and would skip what is stored from {first} on; it is about to be set back",
            ))));
        }
        position::set_back(&stream, &info, first).await?;
        self.metrics.count_rebuild(RebuildReason::LostTail);
        self.subscription = None;
        self.position.beyond = 0;
        Ok(Some(PullEnd::Rebuilt))
    }

    fn names(&self) -> (String, String) {
        let info = self.consumer.cached_info();
        (info.name.clone(), info.stream_name.clone())
    }

    async fn check_consumer(&mut self) -> Result<Condition, String> {
        match self.consumer.get_info().await {
            Ok(info) => {
                let limit = info.config.max_ack_pending;
                let room = limit <= 0 || (info.num_ack_pending as i64) < limit;
                Ok(Condition {
                    deliverable: info.num_pending > 0 && room,
                    paused: info.paused,
                })
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
}

/// Messages to ask for, so that there are about so many events in them.
fn messages_to_ask(events_max: usize, events_per_message: f64) -> usize {
    let messages = (events_max as f64 / events_per_message.max(1.0)).floor();
    (messages as usize).clamp(1, events_max.max(1))
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
        // Looking the consumer up tells what is the matter.
        Some(409)
            if ["leadership", "shutdown", "consumer deleted"]
                .iter()
                .any(|t| lower.contains(t)) =>
        {
            Status::Rebuild
        }
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
    fn as_many_messages_are_asked_for_as_have_the_events() {
        for (events_max, per_message, expected) in [
            (10_000, 1.0, 10_000),
            (10_000, 50.0, 200),
            (10_000, 3.0, 3_333),
            (10_000, 1e6, 1),
            (1, 1.0, 1),
        ] {
            assert_eq!(messages_to_ask(events_max, per_message), expected);
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
            (409, "Consumer Deleted", Status::Rebuild),
            (503, "", Status::Rebuild),
        ] {
            assert_eq!(read_status(&status(code, text)), expected, "{code} {text}");
        }
        for (code, text) in [
            (409, "Consumer is push based"),
            (409, "Exceeded MaxRequestBatch of 10"),
            (418, ""),
        ] {
            assert!(
                matches!(read_status(&status(code, text)), Status::Unavailable(r) if r.contains(text))
            );
        }
    }
}
