//! Publishes with a PubAck, pipelined, bounded in flight.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, ErrorCode};
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::NatsConfig;
use crate::metrics::NatsMetrics;
use crate::pack::HEADER_BYTES;
use crate::retry::Backoff;
use ponix_wire::{PackLimits, TokenError};

/// Longest subject the publisher accepts, in bytes. A server closes the whole connection for one
/// over 4 KiB.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// Why a message was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The subject has a wildcard, white space, an empty token or too many bytes.
    #[error("subject {subject:?} cannot be published on: {why}")]
    Subject {
        /// The subject, shortened.
        subject: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The device id cannot be part of a subject.
    #[error("device id cannot be part of a subject")]
    Token(#[from] TokenError),
    /// The message is larger than the server takes.
    #[error("message of {bytes} bytes is larger than the server's max_payload")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// The stream is full, or holds the subject already where that may occur once.
    #[error("the stream refused the message: {description} (error {code})")]
    Refused {
        /// The server's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// No stream takes the subject.
    #[error("no stream takes subject {subject}")]
    NoStream {
        /// The subject.
        subject: String,
    },
    /// No PubAck came in time: the message may be stored or not. Send it again with the same id.
    #[error("no PubAck in time, the outcome is unknown")]
    OutcomeUnknown(#[source] jetstream::context::PublishError),
    /// A shutdown ended the waiting.
    #[error("gave up waiting for the PubAck, the outcome is unknown")]
    GaveUp,
}

/// What to do about a [`PublishError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishErrorClass {
    /// Send again, later, with the same id.
    Transient,
    /// The message itself is wrong; sending it again gives the same answer.
    Rejected,
}

impl PublishError {
    /// Returns what to do about the error.
    pub const fn class(&self) -> PublishErrorClass {
        match self {
            Self::Subject { .. } | Self::Token(_) | Self::TooLarge { .. } => {
                PublishErrorClass::Rejected
            }
            _ => PublishErrorClass::Transient,
        }
    }

    /// Tells whether the stream says it has no room: its own limits, or one message per subject.
    pub fn is_store_refusal(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == ErrorCode::STREAM_STORE_FAILED.0)
    }

    fn from_nats(err: jetstream::context::PublishError, subject: &str, bytes: usize) -> Self {
        match err.kind() {
            PublishErrorKind::StreamNotFound => Self::NoStream {
                subject: subject.to_owned(),
            },
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge { bytes },
            PublishErrorKind::Other => match server_error(&err) {
                Some(error) => Self::Refused {
                    code: error.error_code().0,
                    description: error.to_string(),
                },
                None => Self::OutcomeUnknown(err),
            },
            _ => Self::OutcomeUnknown(err),
        }
    }
}

fn server_error(err: &jetstream::context::PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(err)?.downcast_ref()
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// A literal subject.
    pub subject: String,
    /// Sent as `Nats-Msg-Id`: within the stream's duplicate window the message is stored once.
    pub id: Option<Uuid>,
    /// Further headers.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
}

/// A stored message's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubAck {
    /// The stream that has it.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// The stream had a message with this id already, within the duplicate window.
    pub duplicate: bool,
}

/// Publishes into JetStream. Clones share the connection and the limit in flight.
#[derive(Debug, Clone)]
pub struct Publisher {
    context: Context,
    metrics: NatsMetrics,
}

/// A message on its way: resolve it with [`PendingPublish::wait`].
#[derive(Debug)]
pub struct PendingPublish {
    ack: PublishAckFuture,
    subject: String,
    bytes: usize,
    published: Counter,
    failures: Counter,
}

impl Publisher {
    /// Makes a publisher on a connection; at most `in_flight_max` messages wait for their PubAck.
    pub fn new(
        client: async_nats::Client,
        config: &NatsConfig,
        in_flight_max: usize,
        metrics: NatsMetrics,
    ) -> Self {
        let context = jetstream::ContextBuilder::new()
            .timeout(config.request_timeout)
            .ack_timeout(config.request_timeout)
            .max_ack_inflight(in_flight_max)
            .backpressure_on_inflight(true)
            .build(client);
        Self { context, metrics }
    }

    /// Returns how large a packed message may be: with so many events at most, and as many bytes as the server
    /// takes, now that it is connected.
    pub fn pack_limits(&self, events_max: usize) -> PackLimits {
        PackLimits {
            events_max,
            bytes_max: self
                .context
                .client()
                .server_info()
                .max_payload
                .saturating_sub(HEADER_BYTES),
        }
    }

    pub(crate) fn metrics(&self) -> &NatsMetrics {
        &self.metrics
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Sends a message without waiting for its PubAck; waits while too many are in flight.
    ///
    /// A message is in flight until its [`PendingPublish`] is waited for or dropped: who keeps
    /// more of them than the limit, and waits for none, waits for ever.
    ///
    /// # Errors
    /// A message that is wrong in itself, or a connection that is closed.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call leaves open whether the message was sent. Send it again
    /// with the same id.
    pub async fn send(&self, message: OutgoingMessage) -> Result<PendingPublish, PublishError> {
        check_subject(&message.subject)?;
        let OutgoingMessage {
            subject,
            id,
            mut headers,
            payload,
        } = message;
        let bytes = payload.len();
        if let Some(id) = id {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string().as_str());
        }
        let mut outgoing = PublishMessage::build().payload(payload);
        if !headers.is_empty() {
            outgoing = outgoing.headers(headers);
        }
        match self.context.send_publish(subject.clone(), outgoing).await {
            Ok(ack) => Ok(PendingPublish {
                ack,
                subject,
                bytes,
                published: self.metrics.published.clone(),
                failures: self.metrics.publish_failures.clone(),
            }),
            Err(err) => {
                self.metrics.publish_failures.inc();
                Err(PublishError::from_nats(err, &subject, bytes))
            }
        }
    }

    /// Sends a message and waits for its PubAck.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is retried here.
    ///
    /// # Cancel safety
    /// As [`Publisher::send`].
    pub async fn publish(&self, message: OutgoingMessage) -> Result<PubAck, PublishError> {
        self.send(message).await?.wait().await
    }

    /// Publishes until the PubAck is there, with a growing pause between attempts.
    ///
    /// The message needs an id for this to be safe: within the stream's duplicate window the
    /// stream then keeps one copy, and beyond it the identity makes copies one event.
    ///
    /// # Errors
    /// A message that is wrong in itself, or [`PublishError::GaveUp`] once `give_up` is cancelled.
    ///
    /// # Cancel safety
    /// As [`Publisher::send`].
    pub async fn publish_until_acked(
        &self,
        message: &OutgoingMessage,
        give_up: &CancellationToken,
    ) -> Result<PubAck, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let err = match self.publish(message.clone()).await {
                Ok(ack) => return Ok(ack),
                Err(err) if err.class() == PublishErrorClass::Rejected => return Err(err),
                Err(err) => err,
            };
            if give_up.is_cancelled() {
                return Err(PublishError::GaveUp);
            }
            tracing::warn!(error = %ponix_wire::error_chain(&err), "event not stored yet, sending again");
            tokio::select! {
                () = tokio::time::sleep(backoff.next_pause()) => {}
                () = give_up.cancelled() => return Err(PublishError::GaveUp),
            }
        }
    }
}

impl PendingPublish {
    /// Waits for the PubAck.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped wait leaves open whether the message was stored.
    pub async fn wait(self) -> Result<PubAck, PublishError> {
        match self.ack.await {
            Ok(ack) => {
                self.published.inc();
                Ok(PubAck {
                    stream: ack.stream,
                    sequence: ack.sequence,
                    duplicate: ack.duplicate,
                })
            }
            Err(err) => {
                self.failures.inc();
                Err(PublishError::from_nats(err, &self.subject, self.bytes))
            }
        }
    }
}

/// The server takes wildcards and NUL as literal tokens on publish; nobody could read them again.
fn check_subject(subject: &str) -> Result<(), PublishError> {
    let why = if subject.len() > SUBJECT_BYTES_MAX {
        "it is too long"
    } else if subject.split('.').any(str::is_empty) {
        "it has an empty token"
    } else if subject.split('.').any(|token| token == "*" || token == ">") {
        "it has a wildcard"
    } else if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has white space or control characters"
    } else {
        return Ok(());
    };
    Err(PublishError::Subject {
        subject: subject.chars().take(100).collect(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_that_nobody_could_read() {
        for subject in [
            "", "a..b", ".a", "a.", "a.*", "a.>", "a b", "a\r\nb", "a\0b",
        ] {
            assert!(check_subject(subject).is_err(), "{subject:?}");
        }
        assert!(check_subject(&"x".repeat(SUBJECT_BYTES_MAX + 1)).is_err());
        assert!(check_subject("events.a%2Eb").is_ok());
    }
}
