//! Acks, naks, ends and progress, written in bulk and flushed once.

use std::borrow::Cow;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ponix_wire::{error_chain, now_ns};
use tokio_util::sync::CancellationToken;

use super::notice::{KeptOfBatch, Notices};
use crate::dead_letters::DeadLetters;
use crate::delivery::{Batch, Delivery};
use crate::failpoint;
use crate::metrics::ConsumerMetrics;
use crate::processing_result::{DeadEvent, DeadLetter, Disposition};
use crate::publisher::{PublishError, PublishErrorClass};

/// Dead letters that wait for their PubAck at the same time.
const DEAD_LETTERS_IN_FLIGHT: usize = 256;
/// Longest wait of a shutdown for the connection that the last answers need. Together with the
/// dead letters' own time it stays below the grace time of a service.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for what is queued to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What a consumer says to the server. The second implementation is the model in the tests.
pub(super) trait Link: Send + Sync + 'static {
    /// Queues the answer to one delivery.
    fn answer(&self, reply: &Subject, kind: AckKind) -> impl Future<Output = ()> + Send;

    /// Sends what is queued.
    fn flush(&self) -> impl Future<Output = ()> + Send;

    /// Keeps a message among the dead letters; returns once they have it.
    fn keep(
        &self,
        stream: &str,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The connection to NATS and the dead-letter stream.
#[derive(Debug)]
pub(super) struct NatsLink {
    pub(super) client: Client,
    pub(super) dead_letters: DeadLetters,
}

impl Link for NatsLink {
    async fn answer(&self, reply: &Subject, kind: AckKind) {
        // Fails only when the connection is closed for good: the pull reports that.
        let _ = self.client.publish(reply.clone(), Bytes::from(kind)).await;
    }

    async fn flush(&self) {
        // Not longer than a reconnect is worth waiting for; what is queued goes out then.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.client.flush()).await;
    }

    async fn keep(
        &self,
        stream: &str,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
    ) -> Result<(), PublishError> {
        self.dead_letters.keep(stream, delivery, dead_letter).await
    }
}

/// Answers the server for the messages of a batch.
#[derive(Debug)]
pub(super) struct Settler<L> {
    pub(super) link: L,
    pub(super) nak_delay: Duration,
    pub(super) metrics: ConsumerMetrics,
    pub(super) notices: Notices,
}

/// A message of which something has to be among the dead letters before it is ended.
#[derive(Debug)]
pub(super) struct Dying<'a> {
    pub(super) delivery: &'a Delivery,
    dead: Vec<Dead>,
    /// The answer once they are kept.
    end: AckKind,
}

/// What is kept of one.
#[derive(Debug)]
enum Dead {
    Message(DeadLetter),
    Event(DeadEvent),
}

/// A dead letter that has been tried.
struct Tried<'a> {
    /// Which of the dying messages it is of.
    message: usize,
    delivery: Cow<'a, Delivery>,
    dead_letter: DeadLetter,
    kept: Result<(), PublishError>,
}

impl<L: Link> Settler<L> {
    /// Sends the acks and naks of a batch; returns the dead letters, which have no answer yet.
    ///
    /// An answer that is lost only causes a redelivery, which the identity absorbs.
    pub(super) async fn settle<'a>(
        &self,
        batch: &'a Batch,
        dispositions: Vec<Disposition>,
        give_up: &CancellationToken,
    ) -> Vec<Dying<'a>> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut dying = Vec::new();
        let mut events = 0;
        for (delivery, disposition) in batch.messages().iter().zip(dispositions) {
            let (dead, end) = match disposition {
                Disposition::Ack => {
                    events += delivery.events() as u64;
                    answers.push((delivery, AckKind::Ack));
                    continue;
                }
                Disposition::Nak { delay } => {
                    answers.push((delivery, AckKind::Nak(delay)));
                    continue;
                }
                Disposition::DeadLetter(letter) => (vec![Dead::Message(letter)], AckKind::Term),
                Disposition::DeadEvents { events, all } => {
                    let end = if all { AckKind::Term } else { AckKind::Ack };
                    (events.into_iter().map(Dead::Event).collect(), end)
                }
            };
            dying.push(Dying {
                delivery,
                dead,
                end,
            });
        }
        self.metrics.acked_events.inc_by(events);
        self.end(answers, give_up).await;
        dying
    }

    /// Keeps dead letters; returns the answers to send now: the end for messages of which all that has
    /// to be is kept, and not the other way round; the others are given back.
    ///
    /// When the dead letters take nothing, or a shutdown is due, the rest is not tried any more.
    pub(super) async fn keep<'a>(
        &self,
        stream: &str,
        dying: Vec<Dying<'a>>,
        give_up: &CancellationToken,
    ) -> Vec<(&'a Delivery, AckKind)> {
        let mut messages = Vec::with_capacity(dying.len());
        let mut letters = Vec::with_capacity(dying.len());
        for (message, dying) in dying.into_iter().enumerate() {
            let others = dying.delivery.events().saturating_sub(dying.dead.len());
            let dead = dying.dead.into_iter();
            letters.extend(dead.map(|dead| (message, dying.delivery, dead)));
            messages.push((dying.delivery, dying.end, true, others as u64));
        }
        let total = letters.len();
        let mut last_error = None;
        let mut of_batch = KeptOfBatch::default();
        let mut waiting = letters.into_iter();
        let mut keeping: FuturesUnordered<_> = waiting
            .by_ref()
            .take(DEAD_LETTERS_IN_FLIGHT)
            .map(|(message, delivery, dead)| self.keep_one(stream, message, delivery, dead))
            .collect();
        let mut kept_total = 0;
        while let Some(tried) = keeping.next().await {
            failpoint::reach("after_dead_letter");
            match tried.kept {
                Ok(()) => {
                    kept_total += 1;
                    self.metrics
                        .count_dead_letter(tried.dead_letter.reason.as_str());
                    of_batch.add(tried.delivery, tried.dead_letter);
                }
                Err(err) => {
                    messages[tried.message].2 = false;
                    last_error = Some(err);
                }
            }
            let usable = last_error
                .as_ref()
                .is_none_or(|err| err.class() == PublishErrorClass::Rejected);
            if usable && !give_up.is_cancelled() {
                let next = waiting.next();
                keeping.extend(next.map(|(message, delivery, dead)| {
                    self.keep_one(stream, message, delivery, dead)
                }));
            }
        }
        for (message, ..) in waiting {
            messages[message].2 = false;
        }
        self.notices.kept(of_batch);
        if let Some(err) = last_error {
            let what_to_do = if err.is_store_refusal() {
                "their stream is full: look at them with `ponix dlq ls`, put them back or discard them, or give the stream more bytes"
            } else {
                "look at the connection and at the stream of the dead letters"
            };
            tracing::error!(messages = total - kept_total, error = %error_chain(&err), what_to_do, "the dead letters cannot take messages, they are delivered again");
        }
        let answers = messages
            .into_iter()
            .map(|(delivery, end, all_kept, others)| {
                if all_kept && matches!(end, AckKind::Ack) {
                    self.metrics.acked_events.inc_by(others);
                }
                let answer = if all_kept { end } else { self.nak() };
                (delivery, answer)
            });
        answers.collect()
    }

    async fn keep_one<'a>(
        &self,
        stream: &str,
        message: usize,
        delivery: &'a Delivery,
        dead: Dead,
    ) -> Tried<'a> {
        let (delivery, dead_letter) = match dead {
            Dead::Message(letter) => (Cow::Borrowed(delivery), letter),
            Dead::Event(event) => {
                let of = delivery.event(event.index, event.identity, event.payload);
                (Cow::Owned(of), event.dead_letter)
            }
        };
        let kept = self.link.keep(stream, &delivery, &dead_letter).await;
        Tried {
            message,
            delivery,
            dead_letter,
            kept,
        }
    }

    /// Sends the last answers to deliveries, in one flush, and counts them.
    ///
    /// Without a connection this waits for the next one; after a shutdown not for long.
    pub(super) async fn end(
        &self,
        answers: Vec<(&Delivery, AckKind)>,
        give_up: &CancellationToken,
    ) {
        let count = |wanted: fn(&AckKind) -> bool| {
            answers.iter().filter(|(_, kind)| wanted(kind)).count() as u64
        };
        let nakked = count(|kind| matches!(kind, AckKind::Nak(_)));
        let messages = answers.len();
        let is_ack = |(delivery, kind): &(&Delivery, AckKind)| {
            matches!(kind, AckKind::Ack).then(|| delivery.published_at_ns())
        };
        let published: Vec<_> = answers.iter().filter_map(is_ack).collect();
        if tracing::enabled!(tracing::Level::TRACE) {
            for (delivery, kind) in &answers {
                self.trace(delivery, kind);
            }
        }
        let sent = async {
            for (delivery, kind) in answers {
                self.link.answer(delivery.reply(), kind).await;
            }
            self.link.flush().await;
        };
        tokio::select! {
            biased;
            () = sent => {}
            () = late(give_up) => tracing::warn!(messages, "no connection for the last answers, the messages are delivered again"),
        }
        self.metrics.acked.inc_by(published.len() as u64);
        let now = now_ns();
        for time in published {
            // Two clocks: an ack may seem to come before its message.
            let took = Duration::from_nanos(now.saturating_sub(time).max(0).cast_unsigned());
            self.metrics.latency.observe(took.as_secs_f64());
        }
        self.metrics.nakked.inc_by(nakked);
        self.metrics.in_flight.dec_by(messages as i64);
    }

    fn trace(&self, delivery: &Delivery, kind: &AckKind) {
        let became = match kind {
            AckKind::Ack => "stored",
            AckKind::Term => "dead letter",
            _ => "given back",
        };
        tracing::trace!(
            pipeline = self.metrics.pipeline(),
            subject = delivery.subject(),
            sequence = delivery.stream_sequence(),
            deliveries = delivery.deliveries(),
            trace_id = delivery.trace_id(),
            became,
            "message settled"
        );
    }

    /// Tells the server that messages are still in work, so that they are not delivered to others.
    pub(super) async fn report_progress<'a>(
        &self,
        deliveries: impl Iterator<Item = &'a Delivery> + Send,
    ) {
        for delivery in deliveries {
            self.link.answer(delivery.reply(), AckKind::Progress).await;
        }
        self.link.flush().await;
    }

    fn nak(&self) -> AckKind {
        AckKind::Nak(Some(self.nak_delay))
    }
}

/// Some time after a shutdown.
async fn late(give_up: &CancellationToken) {
    give_up.cancelled().await;
    tokio::time::sleep(LAST_ANSWERS_TIMEOUT).await;
}
