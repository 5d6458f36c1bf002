//! A worker's next effect: the product's code, given again what it was told so far.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::state::{BAD, Message, STREAM, Standing, State, identity, position};
use super::{Bug, Interleavings};
use crate::batch_consumer::hold::Held;
use crate::batch_consumer::notice::Notices;
use crate::batch_consumer::settle::{Link, Settler};
use crate::batch_consumer::work::Work;
use crate::batch_consumer::{BatchProcessor, BatchSettings, ProcessError};
use crate::delivery::tests::delivery;
use crate::delivery::{Batch, Delivery};
use crate::metrics::{ConsumerMetrics, NatsMetrics};
use crate::processing_result::{DeadLetter, ProcessingResult};
use crate::publisher::PublishError;
use crate::retry::LogGate;
use ponix_wire::DeadLetterReason;

/// How an effect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum How {
    Well,
    /// It happens, and the worker does not hear of it; an answer to the server does not arrive.
    AnswerLost,
    /// It does not happen; of an INSERT the first row is stored.
    Refused,
}

/// A batch in work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Working {
    batch: Vec<(Message, u8)>,
    /// How the effects so far ended.
    told: Vec<How>,
    pub(super) is_stopping: bool,
}

impl Working {
    pub(super) fn new(batch: Vec<(Message, u8)>) -> Self {
        Self {
            batch,
            told: Vec::new(),
            is_stopping: false,
        }
    }

    pub(super) fn has(&self, sequence: u64) -> bool {
        let mut sequences = self.batch.iter().map(|(message, _)| message.sequence);
        sequences.any(|it| it == sequence)
    }
}

/// Lets a worker have its next effect; `None` when this kind of effect cannot end like that.
pub(super) fn step(model: Interleavings, state: &mut State, worker: usize, how: How) -> Option<()> {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        static METRICS: ConsumerMetrics = NatsMetrics::unregistered().consumer("model", "model");
    }
    let work = state.workers[worker].clone()?;
    let make = |(message, deliveries): &(Message, u8)| {
        let reply = format!("{}.{}.{deliveries}", message.sequence, message.number);
        let kind = u8::from(message.number == BAD);
        delivery(
            kind,
            reply,
            position(*message, model.bug),
            (*deliveries).into(),
            None,
        )
    };
    let batch = Batch::new(STREAM.to_owned(), work.batch.iter().map(make).collect());
    let outside = Outside(Arc::new(Inside {
        bug: model.bug,
        turn: Mutex::new(Turn {
            state: state.clone(),
            batch: work.batch,
            told: work.told.clone(),
            at: 0,
            how,
            is_done: false,
            is_possible: true,
        }),
        done: Notify::new(),
    }));
    let settings = Arc::new(BatchSettings {
        hold_backoff: (Duration::from_millis(1), Duration::from_millis(1)),
        ..BatchSettings::default()
    });
    let metrics = METRICS.with(Clone::clone);
    let settler = Settler {
        link: outside.clone(),
        nak_delay: settings.nak_delay,
        metrics: metrics.clone(),
        notices: Notices::default(),
    };
    let product = Work {
        processor: outside.clone(),
        settler,
        settings,
        metrics,
        held: watch::Sender::new(Held::default()),
        log_gate: LogGate::default(),
    };
    let give_up = CancellationToken::new();
    if work.is_stopping {
        give_up.cancel();
    }
    let ended = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = outside.0.done.notified() => false,
                () = planted(model.bug, &product, &batch, &give_up) => true,
            }
        })
    });
    let turn = outside.turn();
    if !turn.is_possible || (!turn.is_done && how != How::Well) {
        return None;
    }
    *state = turn.state.clone();
    match how {
        How::Well => {}
        How::AnswerLost => state.left.losses -= 1,
        How::Refused => state.left.refusals -= 1,
    }
    state.workers[worker] = (!ended).then(|| Working {
        batch: turn.batch.clone(),
        told: turn.told.clone(),
        is_stopping: work.is_stopping,
    });
    Some(())
}

/// The product's work on a batch, behind what a bug does before it.
async fn planted(
    bug: Option<Bug>,
    product: &Work<Outside, Outside>,
    batch: &Batch,
    give_up: &CancellationToken,
) {
    if bug == Some(Bug::AckBeforeInsert) {
        for message in batch.messages() {
            product
                .settler
                .link
                .answer(message.reply(), AckKind::Ack)
                .await;
        }
    }
    product.settle_batch(batch, give_up).await;
}

/// Everything around the product's code during one step.
#[derive(Debug, Clone)]
struct Outside(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    bug: Option<Bug>,
    turn: Mutex<Turn>,
    done: Notify,
}

#[derive(Debug)]
struct Turn {
    state: State,
    batch: Vec<(Message, u8)>,
    told: Vec<How>,
    /// Effects of this run so far.
    at: usize,
    how: How,
    is_done: bool,
    is_possible: bool,
}

impl Outside {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next effect: returns how it ended before; has it now when it is the one of this step;
    /// never returns behind that one.
    async fn effect(&self, can: &[How], apply: impl FnOnce(&mut State, How) + Send) -> How {
        {
            let turn = &mut *self.turn();
            let at = turn.at;
            turn.at += 1;
            if let Some(how) = turn.told.get(at) {
                return *how;
            }
            if !turn.is_done {
                turn.is_done = true;
                turn.is_possible = can.contains(&turn.how);
                turn.told.push(turn.how);
                apply(&mut turn.state, turn.how);
                // The rest may have no effect: then the batch ends with this one.
                return turn.how;
            }
        }
        self.0.done.notify_one();
        std::future::pending().await
    }

    fn message(&self, delivery: &Delivery) -> (Message, u8) {
        let turn = self.turn();
        let sequence = delivery.stream_sequence();
        let found = turn.batch.iter().find(|(it, _)| it.sequence == sequence);
        *found.expect("it is of this batch")
    }
}

impl Link for Outside {
    async fn answer(&self, reply: &Subject, kind: AckKind) {
        let settled = match kind {
            AckKind::Ack | AckKind::Term => Standing::Settled,
            AckKind::Nak(_) => Standing::Due,
            _ => return,
        };
        let mut parts = reply.as_str().split('.');
        let sequence: u64 = parts
            .next()
            .and_then(|it| it.parse().ok())
            .expect("made here");
        let number: u8 = parts
            .next()
            .and_then(|it| it.parse().ok())
            .expect("made here");
        self.effect(&[How::Well, How::AnswerLost], |state, how| {
            let message = Message { sequence, number };
            let standing = state.standings.get_mut(&sequence);
            // Of a message that was lost with the tail the server knows nothing.
            if let (Some(standing), true, How::Well) =
                (standing, state.stream.contains(&message), how)
                && *standing != Standing::Settled
            {
                *standing = settled;
            }
        })
        .await;
    }

    async fn flush(&self) {}

    async fn keep(
        &self,
        _stream: &str,
        delivery: &Delivery,
        _dead_letter: &DeadLetter,
    ) -> Result<(), PublishError> {
        let (message, _) = self.message(delivery);
        if self.0.bug == Some(Bug::TermBeforeDeadLetter) {
            self.answer(delivery.reply(), AckKind::Term).await;
        }
        let how = self.effect(&[How::Well, How::AnswerLost, How::Refused], |state, how| {
            if how != How::Refused {
                state.dead.insert(message.number);
            }
        });
        match how.await {
            How::Well => Ok(()),
            How::AnswerLost | How::Refused => Err(PublishError::GaveUp),
        }
    }
}

impl BatchProcessor for Outside {
    async fn process(
        &self,
        batch: &Batch,
        _give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let bug = self.0.bug;
        let mut result = ProcessingResult::ack_all(batch.len());
        let (mut rows, mut positions): (Vec<(Uuid, u8)>, Vec<usize>) = (Vec::new(), Vec::new());
        for (index, delivery) in batch.messages().iter().enumerate() {
            let (message, deliveries) = self.message(delivery);
            if message.number != BAD {
                rows.push((identity(message, deliveries, bug), message.number));
                positions.push(index);
            } else if bug != Some(Bug::UndecodableAcked) {
                let dead_letter = DeadLetter {
                    reason: DeadLetterReason::Decode,
                    error: String::new(),
                    event_id: None,
                };
                result = result.with_dead_letter(index, dead_letter);
            }
        }
        if rows.is_empty() {
            return Ok(result);
        }
        let token: Vec<Uuid> = rows.iter().map(|(identity, _)| *identity).collect();
        let how = self.effect(&[How::Well, How::AnswerLost, How::Refused], |state, how| {
            let is_new = bug != Some(Bug::DeduplicationToken) || state.tokens.insert(token);
            if is_new {
                let whole = how != How::Refused;
                // With a token, what is refused has left the token and no part.
                let stored = match bug {
                    Some(Bug::DeduplicationToken) if !whole => 0,
                    _ if whole => rows.len(),
                    _ => 1,
                };
                state.insert(&rows[..stored]);
            }
        });
        let stored = match how.await {
            How::Well => return Ok(result),
            How::AnswerLost => Vec::new(),
            How::Refused if bug == Some(Bug::DeduplicationToken) => Vec::new(),
            How::Refused => vec![positions[0]],
        };
        Err(ProcessError::StoreUnusable {
            stored,
            waiting_helps: true,
            source: "no answer".into(),
        })
    }
}
