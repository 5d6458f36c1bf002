//! Acks, naks, ends and progress, written in bulk and flushed once.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::dead_letters::DeadLetters;
use crate::delivery::{Batch, Delivery};
use crate::failpoint;
use crate::metrics::{NatsMetrics, ReasonLabel};
use crate::processing_result::{DeadLetter, Verdict};
use crate::publisher::PublishError;
use crate::retry::chain;

/// Dead letters that wait for their PubAck at the same time.
const DEAD_LETTERS_IN_FLIGHT: usize = 256;

/// Answers the server for the messages of a batch.
#[derive(Debug)]
pub(super) struct Settler {
    pub(super) client: Client,
    pub(super) dead_letters: DeadLetters,
    pub(super) nak_delay: Duration,
    pub(super) metrics: NatsMetrics,
}

impl Settler {
    /// Carries out the verdicts: acks and naks in one flush, then the dead letters.
    ///
    /// An answer that is lost only causes a redelivery, which the identity absorbs.
    pub(super) async fn settle(&self, batch: &Batch, verdicts: Vec<Verdict>) {
        let mut acked = 0;
        let mut nakked = 0;
        let mut dead = Vec::new();
        for (delivery, verdict) in batch.messages().iter().zip(verdicts) {
            match verdict {
                Verdict::Ack => {
                    acked += 1;
                    self.answer(delivery.reply(), AckKind::Ack).await;
                }
                Verdict::Nak { delay } => {
                    nakked += 1;
                    self.answer(delivery.reply(), AckKind::Nak(delay)).await;
                }
                Verdict::DeadLetter(_) if failpoint::is_planted("bug_undecodable_acked") => {
                    self.answer(delivery.reply(), AckKind::Ack).await;
                }
                Verdict::DeadLetter(dead_letter) => dead.push((delivery, dead_letter)),
            }
        }
        self.flush().await;
        self.metrics.acked.inc_by(acked);
        self.metrics.nakked.inc_by(nakked);
        if !dead.is_empty() {
            self.dead_letter(batch.stream(), dead).await;
        }
    }

    /// The dead letters have the message → the original ends. Not the other way round.
    async fn dead_letter(&self, stream: &str, dead: Vec<(&Delivery, DeadLetter)>) {
        let total = dead.len();
        let mut failed = 0;
        let mut last_error = None;
        let mut first = None;
        let mut waiting = dead.into_iter();
        let mut keeping: FuturesUnordered<_> = waiting
            .by_ref()
            .take(DEAD_LETTERS_IN_FLIGHT)
            .map(|dead| self.keep(stream, dead))
            .collect();
        while let Some((delivery, dead_letter, kept)) = keeping.next().await {
            keeping.extend(waiting.next().map(|dead| self.keep(stream, dead)));
            failpoint::reach("after_dead_letter");
            match kept {
                Ok(()) => {
                    self.answer(delivery.reply(), AckKind::Term).await;
                    let reason = dead_letter.reason.as_str();
                    self.metrics
                        .dead_lettered
                        .get_or_create(&ReasonLabel { reason })
                        .inc();
                    first.get_or_insert((reason, delivery.stream_sequence()));
                }
                Err(err) => {
                    failed += 1;
                    last_error = Some(err);
                    self.answer(delivery.reply(), AckKind::Nak(Some(self.nak_delay)))
                        .await;
                }
            }
        }
        self.flush().await;
        self.metrics.nakked.inc_by(failed);
        if let Some((reason, sequence)) = first {
            // The error text may quote the payload: it is with the dead letter, not in the log.
            let messages = total as u64 - failed;
            tracing::warn!(
                messages,
                reason,
                sequence,
                "messages moved to the dead letters, reason and sequence are the first one's"
            );
        }
        if let Some(err) = last_error {
            tracing::error!(messages = failed, error = %chain(&err), "the dead letters cannot take messages, they are delivered again");
        }
    }

    async fn keep<'a>(
        &self,
        stream: &str,
        (delivery, dead_letter): (&'a Delivery, DeadLetter),
    ) -> (&'a Delivery, DeadLetter, Result<(), PublishError>) {
        if failpoint::is_planted("bug_term_before_dead_letter") {
            self.answer(delivery.reply(), AckKind::Term).await;
            self.flush().await;
        }
        let kept = self.dead_letters.keep(stream, delivery, &dead_letter).await;
        (delivery, dead_letter, kept)
    }

    /// Tells the server that the batch is still in work, so that it is not delivered to others.
    pub(super) async fn report_progress(&self, batch: &Batch) {
        for delivery in batch.messages() {
            self.answer(delivery.reply(), AckKind::Progress).await;
        }
        self.flush().await;
    }

    async fn answer(&self, reply: &Subject, kind: AckKind) {
        // Fails only when the connection is closed for good: the pull reports that.
        let _ = self.client.publish(reply.clone(), Bytes::from(kind)).await;
    }

    async fn flush(&self) {
        // Not longer than a reconnect is worth waiting for; what is queued goes out then.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.client.flush()).await;
    }
}
