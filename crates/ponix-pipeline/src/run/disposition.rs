//! From what became of a row to what becomes of its message.

use std::time::Duration;

use ponix_nats::{DeadLetter, Delivery, Disposition};
use ponix_sink::{RejectedBy, Rejection, RowOutcome};
use ponix_wire::DeadLetterReason;
use uuid::Uuid;

/// What does not depend on the row.
#[derive(Debug)]
pub(super) struct Dispositions {
    pub(super) nak_delay: Duration,
    /// From this delivery on, what would be tried later is a dead letter.
    pub(super) deliveries_max: u32,
}

impl Dispositions {
    /// Returns what becomes of the message of a row.
    pub(super) fn of(
        &self,
        stream: &str,
        delivery: &Delivery,
        outcome: RowOutcome,
        identity: Uuid,
    ) -> Disposition {
        match outcome {
            RowOutcome::Stored => Disposition::Ack,
            RowOutcome::Rejected(Rejection { by, text }) => match by {
                RejectedBy::Store => {
                    dead_letter(DeadLetterReason::RejectedByStore, text, Some(identity))
                }
                RejectedBy::Decoder => dead_letter(DeadLetterReason::Value, text, Some(identity)),
                // Not under the id, which is another message's.
                RejectedBy::Identity => {
                    dead_letter(DeadLetterReason::Value, text, Some(delivery.place(stream)))
                }
            },
            RowOutcome::Later { reason } if delivery.deliveries() >= self.deliveries_max => {
                dead_letter(DeadLetterReason::MaxDeliveries, reason, Some(identity))
            }
            RowOutcome::Later { .. } => Disposition::Nak {
                delay: Some(self.nak_delay),
            },
        }
    }
}

/// Ends a message among the dead letters.
pub(super) fn dead_letter(
    reason: DeadLetterReason,
    error: String,
    event_id: Option<Uuid>,
) -> Disposition {
    Disposition::DeadLetter(DeadLetter {
        reason,
        error,
        event_id,
    })
}
