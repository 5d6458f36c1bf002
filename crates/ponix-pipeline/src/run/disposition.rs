//! From what became of a row to what becomes of its message.

use std::time::Duration;

use ponix_nats::{DeadEvent, DeadLetter, Delivery, Disposition};
use ponix_sink::{RejectedBy, Rejection, RowOutcome};
use ponix_wire::{DeadLetterReason, event_identity};
use uuid::Uuid;

use super::decoded::{EventPlace, Origin};

/// What does not depend on the row.
#[derive(Debug)]
pub(super) struct Dispositions {
    pub(super) nak_delay: Duration,
    /// From this delivery on, what would be tried later is a dead letter.
    pub(super) deliveries_max: u32,
}

/// What becomes of a row.
#[derive(Debug)]
enum Fate {
    Stored,
    Dead(DeadLetter),
    Later,
}

/// What has become of the events of a message so far.
#[derive(Debug)]
pub(super) struct Settling {
    /// Events of a packed message; `None` for a message that is its own event.
    packed: Option<usize>,
    whole: Option<DeadLetter>,
    dead: Vec<DeadEvent>,
    later: bool,
}

impl Settling {
    /// Begins with nothing of the message dead, and nothing to be tried later.
    pub(super) const fn new(packed: Option<usize>) -> Self {
        Self {
            packed,
            whole: None,
            dead: Vec::new(),
            later: false,
        }
    }

    /// A message that is dead as a whole.
    pub(super) fn whole(letter: DeadLetter) -> Self {
        Self {
            whole: Some(letter),
            ..Self::new(None)
        }
    }

    /// Notes the end of the message, or of one event of a packed one.
    pub(super) fn add_dead(
        &mut self,
        delivery: &Delivery,
        event: Option<&EventPlace>,
        dead_letter: DeadLetter,
    ) {
        match event {
            None => self.whole = Some(dead_letter),
            Some(EventPlace { index, bytes }) => self.dead.push(DeadEvent {
                index: *index,
                identity: event_identity(delivery.identity(), *index),
                payload: delivery.payload().slice(bytes.clone()),
                dead_letter,
            }),
        }
    }

    /// Tells whether the message, or an event of it, has to be among the dead letters.
    pub(super) const fn has_dead(&self) -> bool {
        self.whole.is_some() || !self.dead.is_empty()
    }

    /// Returns what becomes of the message. While one event is to be tried later all of it is: what is
    /// dead is kept with the last of it, so that nobody finds it there and here.
    pub(super) fn disposition(self, nak_delay: Duration) -> Disposition {
        if self.later {
            return Disposition::Nak {
                delay: Some(nak_delay),
            };
        }
        if let Some(letter) = self.whole {
            return Disposition::DeadLetter(letter);
        }
        if self.dead.is_empty() {
            return Disposition::Ack;
        }
        Disposition::DeadEvents {
            all: self.packed == Some(self.dead.len()),
            events: self.dead,
        }
    }
}

impl Dispositions {
    /// Notes in its message what became of a row.
    pub(super) fn settle(
        &self,
        message: &mut Settling,
        stream: &str,
        delivery: &Delivery,
        outcome: RowOutcome,
        origin: &Origin,
    ) {
        match self.of(stream, delivery, outcome, origin) {
            Fate::Stored => {}
            Fate::Dead(letter) => message.add_dead(delivery, origin.event.as_ref(), letter),
            Fate::Later => message.later = true,
        }
    }

    fn of(&self, stream: &str, delivery: &Delivery, outcome: RowOutcome, origin: &Origin) -> Fate {
        let identity = Some(origin.identity);
        Fate::Dead(match outcome {
            RowOutcome::Stored => return Fate::Stored,
            RowOutcome::Rejected(Rejection { by, text }) => match by {
                RejectedBy::Store => dead_letter(DeadLetterReason::RejectedByStore, text, identity),
                RejectedBy::Decoder => dead_letter(DeadLetterReason::Value, text, identity),
                // Not under the id, which is another message's.
                RejectedBy::Identity => {
                    let place = delivery.place(stream);
                    let place = origin
                        .event
                        .as_ref()
                        .map_or(place, |event| event_identity(place, event.index));
                    dead_letter(DeadLetterReason::Value, text, Some(place))
                }
            },
            RowOutcome::Later { reason } if delivery.deliveries() >= self.deliveries_max => {
                dead_letter(DeadLetterReason::MaxDeliveries, reason, identity)
            }
            RowOutcome::Later { .. } => return Fate::Later,
        })
    }
}

/// Why a message, or an event of one, ends among the dead letters.
pub(super) fn dead_letter(
    reason: DeadLetterReason,
    error: String,
    event_id: Option<Uuid>,
) -> DeadLetter {
    DeadLetter {
        reason,
        error,
        event_id,
    }
}
