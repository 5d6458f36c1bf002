//! What the log says of messages that go to the dead letters: the first at once, the others as a
//! count now and then.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ponix_wire::envelope::v1::ProcessedEnvelope;
use ponix_wire::{DeadLetterReason, Message as _};
use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::processing_result::DeadLetter;

/// Least time between two lines for the same reason.
const PERIOD: Duration = Duration::from_secs(10);
/// Longest error text in the log, in bytes; the dead letter has all of it.
const ERROR_BYTES_MAX: usize = 200;

/// What was said of each reason, and what was not said yet.
#[derive(Debug, Default)]
pub(super) struct Notices {
    reasons: Mutex<HashMap<DeadLetterReason, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl Notices {
    /// Counts messages; returns how many there are to speak of when it is time for a line.
    fn due(&self, reason: DeadLetterReason, messages: u64, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = reasons.get_mut(&reason) else {
            reasons.insert(reason, Said { at: now, unsaid: 0 });
            return Some(messages);
        };
        said.unsaid += messages;
        if now.duration_since(said.at) < PERIOD {
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.unsaid))
    }

    /// Says what of a batch the dead letters have, but for what was said a moment ago.
    pub(super) fn kept(&self, kept: KeptOfBatch<'_>) {
        for (reason, (messages, delivery, error)) in kept.first {
            let Some(messages) = self.due(reason, messages, Instant::now()) else {
                continue;
            };
            let code = reason.as_str();
            tracing::warn!(
                messages,
                reason = code,
                subject = delivery.subject(),
                device = device(delivery.payload()),
                sequence = delivery.stream_sequence(),
                index = delivery.index(),
                trace_id = delivery.trace_id(),
                error = shown(reason, &error),
                show = format!("ponix dlq ls --reason {code}"),
                "messages moved to the dead letters, the rest tells of the first one"
            );
        }
    }
}

/// What of a batch is among the dead letters: by reason, how many, and the first with its error.
#[derive(Debug, Default)]
pub(super) struct KeptOfBatch<'a> {
    first: HashMap<DeadLetterReason, (u64, Cow<'a, Delivery>, String)>,
}

impl<'a> KeptOfBatch<'a> {
    pub(super) fn add(&mut self, delivery: Cow<'a, Delivery>, dead_letter: DeadLetter) {
        let DeadLetter { reason, error, .. } = dead_letter;
        let (messages, ..) = self.first.entry(reason).or_insert((0, delivery, error));
        *messages += 1;
    }
}

/// The device of an envelope; nothing of other messages.
fn device(payload: &[u8]) -> Option<String> {
    let envelope = ProcessedEnvelope::decode(payload).ok()?;
    let is_envelope = !envelope.organization_id.is_empty() && !envelope.end_device_id.is_empty();
    is_envelope.then_some(envelope.end_device_id)
}

/// The error as the log may have it: without what it quotes of the message. A store may quote the row
/// that it refuses: of what it says, the code alone.
fn shown(reason: DeadLetterReason, error: &str) -> String {
    const CODE: &str = "Code: ";
    let of_store = [
        DeadLetterReason::RejectedByStore,
        DeadLetterReason::MaxDeliveries,
    ];
    if !of_store.contains(&reason) {
        let outside = error.split('"').step_by(2);
        let mut shown = outside.collect::<Vec<_>>().join("…");
        shown.truncate(shown.floor_char_boundary(ERROR_BYTES_MAX));
        return shown;
    }
    let Some(rest) = error.strip_prefix(CODE) else {
        return String::new();
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    error[..CODE.len() + digits.unwrap_or(rest.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_in_a_while_with_a_count() {
        let notices = Notices::default();
        let (decode, value) = (DeadLetterReason::Decode, DeadLetterReason::Value);
        let start = Instant::now();
        assert_eq!(notices.due(decode, 1, start), Some(1));
        for _ in 0..41 {
            assert_eq!(notices.due(decode, 1, start + PERIOD / 2), None);
        }
        // Another reason does not wait for the first.
        assert_eq!(notices.due(value, 1, start + PERIOD / 2), Some(1));
        assert_eq!(notices.due(decode, 1, start + PERIOD), Some(42));
        assert_eq!(notices.due(decode, 1, start + PERIOD), None);
    }

    #[test]
    fn the_log_quotes_no_row() {
        let of_store = |error| shown(DeadLetterReason::RejectedByStore, error);
        assert_eq!(
            of_store("Code: 117. DB::Exception: {\"pin\":1234}"),
            "Code: 117"
        );
        assert_eq!(of_store("pin: value 1234 is too long"), "");
        let quoted = "Order.pin: \"1234\" is not one of 1, 2";
        let masked = shown(DeadLetterReason::Value, quoted);
        assert_eq!(masked, "Order.pin: … is not one of 1, 2");
        let long = "ü".repeat(300);
        let shown = shown(DeadLetterReason::Value, &long);
        assert!(shown.len() <= ERROR_BYTES_MAX && !shown.is_empty());
    }
}
