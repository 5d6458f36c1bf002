//! JetStream as the consumer sees it: deliveries and answers.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use rand::Rng as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settings;
use super::world::{STREAM, Standing, State, World};
use crate::batch_consumer::pull::{PullEnd, Source};
use crate::batch_consumer::settle::Link;
use crate::delivery::Delivery;
use crate::delivery::tests::delivery;
use crate::processing_result::DeadLetter;
use crate::publisher::PublishError;

/// Delivers messages to one worker.
pub(super) struct ModelSource {
    worker: usize,
    world: Arc<World>,
}

impl ModelSource {
    pub(super) fn new(worker: usize, world: Arc<World>) -> Self {
        Self { worker, world }
    }

    fn deliver(&self) -> Vec<Delivery> {
        let settings = settings();
        let mut state = self.world.state();
        let State {
            stream,
            rng,
            is_healed,
            ..
        } = &mut *state;
        let now = Instant::now();
        let mut delivered = Vec::new();
        for message in stream.iter_mut() {
            let is_due = match message.standing {
                Standing::Due(from) => from <= now,
                // Early now and then: the server was killed, or another one took over.
                Standing::Out { until, .. } => {
                    until <= now || (!*is_healed && rng.random_bool(0.02))
                }
                Standing::Settled => false,
            };
            if !is_due || delivered.len() >= settings.messages_max {
                continue;
            }
            message.deliveries += 1;
            message.standing = Standing::Out {
                until: now + settings.ack_wait,
                worker: self.worker,
            };
            let reply = format!("{}.{}", message.sequence, message.published_at_ns);
            let position = message.position();
            let make = || {
                delivery(
                    message.kind,
                    reply.clone(),
                    position,
                    message.deliveries,
                    message.id,
                )
            };
            delivered.push(make());
            if !*is_healed && rng.random_bool(0.02) {
                delivered.push(make());
            }
        }
        delivered
    }
}

impl Source for ModelSource {
    async fn leftovers(&mut self) -> Vec<Delivery> {
        Vec::new()
    }

    fn stream_name(&self) -> &str {
        STREAM
    }

    async fn pull(&mut self, shutdown: &CancellationToken) -> (Vec<Delivery>, PullEnd) {
        let (is_gone, wait_ms, late_ms) = {
            let state = &mut *self.world.state();
            let chaos = !state.is_healed;
            let is_gone = chaos && state.rng.random_bool(0.02);
            // Later than ack_wait at times: what arrives then is with somebody else already.
            let is_late = chaos && state.rng.random_bool(0.03);
            let late_ms = if is_late {
                state.rng.random_range(0..8_000)
            } else {
                0
            };
            (is_gone, state.rng.random_range(1..800), late_ms)
        };
        if is_gone {
            return (
                Vec::new(),
                PullEnd::Unavailable("the model is away".to_owned()),
            );
        }
        let is_stopping = tokio::select! {
            biased;
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => false,
        };
        let delivered = self.deliver();
        tokio::time::sleep(Duration::from_millis(late_ms)).await;
        (
            delivered,
            if is_stopping {
                PullEnd::Shutdown
            } else {
                PullEnd::Complete
            },
        )
    }
}

/// Takes the answers of one worker.
pub(super) struct ModelLink {
    world: Arc<World>,
}

impl ModelLink {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }
}

impl Link for ModelLink {
    async fn answer(&self, reply: &Subject, kind: AckKind) {
        let mut state = self.world.state();
        if !state.is_healed && state.rng.random_bool(0.05) {
            return; // lost on its way
        }
        let Some(index) = find(&state, reply) else {
            return;
        };
        let now = Instant::now();
        match (kind, state.stream[index].standing) {
            (_, Standing::Settled) => {}
            (AckKind::Ack, _) => World::settled(&mut state, index, false),
            (AckKind::Term, _) => World::settled(&mut state, index, true),
            (AckKind::Nak(delay), _) => {
                state.stream[index].standing = Standing::Due(now + delay.unwrap_or_default());
            }
            (AckKind::Progress, Standing::Out { worker, .. }) => {
                state.stream[index].standing = Standing::Out {
                    until: now + settings().ack_wait,
                    worker,
                };
            }
            _ => {}
        }
    }

    async fn flush(&self) {
        let pause_ms = self.world.state().rng.random_range(0..20);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    async fn keep(
        &self,
        _stream: &str,
        delivery: &Delivery,
        dead_letter: &DeadLetter,
    ) -> Result<(), PublishError> {
        let id = dead_letter.event_id.unwrap_or_else(|| delivery.identity());
        let pause = |world: &World| Duration::from_millis(world.state().rng.random_range(0..50));
        tokio::time::sleep(pause(&self.world)).await;
        {
            let mut state = self.world.state();
            if !state.dead_letters_are_up {
                return Err(PublishError::GaveUp);
            }
            state.dead_letters.insert(id);
            if !state.is_healed && state.rng.random_bool(0.1) {
                return Err(PublishError::GaveUp); // kept, and the PubAck lost
            }
        }
        tokio::time::sleep(pause(&self.world)).await;
        Ok(())
    }
}

/// Finds the message of an answer; one that was lost with the tail is not there any more.
fn find(state: &State, reply: &Subject) -> Option<usize> {
    let (sequence, published) = reply.as_str().split_once('.')?;
    let (sequence, published): (u64, i64) = (sequence.parse().ok()?, published.parse().ok()?);
    let is_it = |index: &usize| {
        let message = &state.stream[*index];
        (message.sequence, message.published_at_ns) == (sequence, published)
    };
    state
        .stream
        .binary_search_by_key(&sequence, |message| message.sequence)
        .ok()
        .filter(is_it)
}
