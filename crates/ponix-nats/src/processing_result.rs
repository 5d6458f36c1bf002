//! What becomes of each message of a batch.

use std::time::Duration;

use bytes::Bytes;
use ponix_wire::DeadLetterReason;
use uuid::Uuid;

/// Why a message goes to the dead letters, and under which identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The class of the reason.
    pub reason: DeadLetterReason,
    /// The error for the operator's eyes.
    pub error: String,
    /// The identity the body carries, where it could be read; else the delivery's own counts.
    pub event_id: Option<Uuid>,
}

/// An event of a packed message that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEvent {
    /// Its place in the message, counted from 0.
    pub index: u32,
    /// Its identity as a message of its own.
    pub identity: Uuid,
    /// Its bytes, as a message of its own would have them.
    pub payload: Bytes,
    /// Why, and under which identity.
    pub dead_letter: DeadLetter,
}

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// It is stored: never deliver it again.
    Ack,
    /// Not now: deliver it again after the delay, or at once.
    Nak {
        /// Time until the next delivery.
        delay: Option<Duration>,
    },
    /// It cannot be stored: keep it among the dead letters, then never deliver it again.
    DeadLetter(DeadLetter),
    /// Of a packed message: these events cannot be stored, the others need no more. Keep each of these
    /// among the dead letters, then never deliver the message again.
    DeadEvents {
        /// The events, at least one.
        events: Vec<DeadEvent>,
        /// Whether they are all that the message has.
        all: bool,
    },
}

/// How long the parts of the processing of a batch took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Until the rows of the messages could be sent.
    pub decode: Duration,
    /// Until the store had answered for each of them.
    pub write: Duration,
}

/// One [`Disposition`] per message of a batch, in the batch's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessingResult {
    dispositions: Vec<Disposition>,
    times: Option<StageTimes>,
}

impl ProcessingResult {
    /// Says `Ack` for each of `len` messages.
    pub fn ack_all(len: usize) -> Self {
        Self {
            dispositions: vec![Disposition::Ack; len],
            times: None,
        }
    }

    /// Says `Nak` for each of `len` messages.
    pub fn nak_all(len: usize, delay: Option<Duration>) -> Self {
        Self {
            dispositions: vec![Disposition::Nak { delay }; len],
            times: None,
        }
    }

    /// Takes a disposition per message, in the batch's order.
    pub fn from_dispositions(dispositions: Vec<Disposition>) -> Self {
        Self {
            dispositions,
            times: None,
        }
    }

    /// Says how long it took, for the log and the metrics.
    #[must_use]
    pub fn with_times(self, times: StageTimes) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Returns how long it took, where the processor says it.
    pub fn times(&self) -> Option<StageTimes> {
        self.times
    }

    /// Changes message `index` to `Nak`.
    ///
    /// # Panics
    /// When the batch has no message `index`.
    #[must_use]
    pub fn with_nak(mut self, index: usize, delay: Option<Duration>) -> Self {
        self.dispositions[index] = Disposition::Nak { delay };
        self
    }

    /// Changes message `index` to a dead letter.
    ///
    /// # Panics
    /// When the batch has no message `index`.
    #[must_use]
    pub fn with_dead_letter(mut self, index: usize, dead_letter: DeadLetter) -> Self {
        self.dispositions[index] = Disposition::DeadLetter(dead_letter);
        self
    }

    /// Returns the dispositions, one per message.
    pub fn dispositions(&self) -> &[Disposition] {
        &self.dispositions
    }

    pub(crate) fn into_dispositions(self) -> Vec<Disposition> {
        self.dispositions
    }
}
