//! Follows what comes into a stream, and leaves nothing behind.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::{RetentionPolicy, Stream};
use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::Delivery;
use crate::history::HistoryError;

/// A message that came into a stream.
#[derive(Debug, Clone)]
pub struct FollowedMessage {
    /// The subject it was published on.
    pub subject: String,
    /// Its body.
    pub payload: Bytes,
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// Where it is in the stream; `None` of a work queue, which tells nobody but its worker.
    pub place: Option<FollowedPlace>,
}

/// Where a message is in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowedPlace {
    /// Its sequence.
    pub sequence: u64,
    /// When the server stored it, nanoseconds since 1970.
    pub published_at_ns: i64,
    /// Its identity by header or place.
    pub identity: Uuid,
}

/// Follows what comes into a stream. A consumer for it is removed by [`close`](Self::close); where
/// that is not called, the server removes it within half a minute.
///
/// A work queue gives each message to one consumer. What is published for it is listened to instead.
#[derive(Debug)]
pub struct Follower {
    stream: Stream,
    consumer: String,
    messages: Messages,
}

enum Messages {
    Stored(Box<Ordered>),
    Published(Subscriber),
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stored(_) => "Stored",
            Self::Published(_) => "Published",
        })
    }
}

impl Follower {
    /// Begins with what comes from now on, or with what was published at a time, nanoseconds since
    /// 1970, and later; of a work queue always from now on.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn open(
        client: &Client,
        stream: Stream,
        filter: &str,
        since_ns: Option<i64>,
    ) -> Result<Self, HistoryError> {
        let consumer = format!("ponix-tail-{}", Uuid::new_v4().simple());
        let config = stream.cached_info().config.clone();
        if config.retention == RetentionPolicy::WorkQueue {
            let subjects = config.subjects;
            let subject = if filter.is_empty() {
                subjects.into_iter().next().unwrap_or_default()
            } else {
                filter.to_owned()
            };
            let messages = client
                .subscribe(subject)
                .await
                .map_err(|err| HistoryError::new(&stream, "no subscription", err))?;
            return Ok(Self {
                stream,
                consumer,
                messages: Messages::Published(messages),
            });
        }
        let since =
            since_ns.and_then(|ns| OffsetDateTime::from_unix_timestamp_nanos(ns.into()).ok());
        let config = OrderedConfig {
            name: Some(consumer.clone()),
            filter_subject: filter.to_owned(),
            deliver_policy: since.map_or(DeliverPolicy::New, |start_time| {
                DeliverPolicy::ByStartTime { start_time }
            }),
            ..OrderedConfig::default()
        };
        let messages = stream
            .create_consumer(config)
            .await
            .map_err(|err| HistoryError::new(&stream, "no consumer for reading", err))?
            .messages()
            .await
            .map_err(|err| HistoryError::new(&stream, "no messages", err))?;
        Ok(Self {
            stream,
            consumer,
            messages: Messages::Stored(Box::new(messages)),
        })
    }

    /// Returns the next message; `None` when the connection is closed.
    ///
    /// # Errors
    /// Following broke off and could not be taken up again.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    pub async fn next(&mut self) -> Result<Option<FollowedMessage>, HistoryError> {
        match &mut self.messages {
            Messages::Published(messages) => {
                Ok(messages.next().await.map(|message| FollowedMessage {
                    subject: message.subject.to_string(),
                    payload: message.payload,
                    headers: message.headers,
                    place: None,
                }))
            }
            Messages::Stored(messages) => loop {
                let Some(message) = messages.next().await else {
                    return Ok(None);
                };
                let message = message
                    .map_err(|err| HistoryError::new(&self.stream, "following broke off", err))?;
                let Some((delivery, _)) = Delivery::from_message(message.message) else {
                    continue;
                };
                return Ok(Some(FollowedMessage {
                    subject: delivery.subject().to_owned(),
                    payload: delivery.payload().clone(),
                    headers: delivery.headers().cloned(),
                    place: Some(FollowedPlace {
                        sequence: delivery.stream_sequence(),
                        published_at_ns: delivery.published_at_ns(),
                        identity: delivery.identity(),
                    }),
                }));
            },
        }
    }

    /// Removes what was made for it on the server.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn close(self) -> Result<(), HistoryError> {
        if matches!(self.messages, Messages::Published(_)) {
            return Ok(());
        }
        // Whoever still asks for messages would make it again.
        drop(self.messages);
        let names: Vec<String> = self
            .stream
            .consumer_names()
            .try_collect()
            .await
            .map_err(|err| HistoryError::new(&self.stream, "no list of consumers", err))?;
        // One that was made again has a number behind its name.
        for name in names.iter().filter(|name| name.starts_with(&self.consumer)) {
            self.stream
                .delete_consumer(name)
                .await
                .map_err(|err| HistoryError::new(&self.stream, "a consumer stays behind", err))?;
        }
        Ok(())
    }
}
