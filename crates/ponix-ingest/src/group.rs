//! Commits in groups: events that come while a message is under way go out together in the next one.
//!
//! There is no timer: an event that finds nothing under way goes out at once, alone. The more come at a time,
//! the more share a message, its PubAck and, where the server syncs each, its write to the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ponix_nats::OutgoingMessage;
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::submission::{Checked, Sent};

/// An event whose request waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) event: Checked<OutgoingMessage>,
    pub(crate) answer: oneshot::Sender<Result<Sent, ApiError>>,
}

/// What waits for the next message. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// At so many, those whose requests are gone are forgotten.
    forget_at: usize,
    /// Somebody publishes, and will take what waits.
    is_led: bool,
}

const FORGET_FROM: usize = 64;

impl State {
    fn forget_gone(&mut self) {
        self.waiting.retain(|it| !it.answer.is_closed());
    }
}

impl Group {
    /// Adds an event. Whoever gets a [`Lead`] must publish what waits, in a task that outlives the request.
    pub(crate) fn join(&self, waiting: Waiting) -> Option<Lead> {
        let mut state = self.state();
        // Who is gone must not fill the memory while nothing can be published.
        if state.waiting.len() >= state.forget_at {
            state.forget_gone();
            state.forget_at = FORGET_FROM.max(2 * state.waiting.len());
        }
        state.waiting.push(waiting);
        if state.is_led {
            return None;
        }
        state.is_led = true;
        Some(Lead {
            group: self.clone(),
            ended: false,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to publish what waits. Dropped in the middle, what still waits is for the next who joins, and
/// what was taken hears nothing.
#[derive(Debug)]
pub(crate) struct Lead {
    group: Group,
    ended: bool,
}

impl Lead {
    /// Takes what waits, so many events at most, without those whose requests are gone; none ends the
    /// duty.
    pub(crate) fn next(&mut self, events_max: usize) -> Option<Vec<Waiting>> {
        let mut state = self.group.state();
        state.forget_gone();
        if state.waiting.is_empty() {
            state.is_led = false;
            self.ended = true;
            return None;
        }
        let rest = state.waiting.len().min(events_max);
        let rest = state.waiting.split_off(rest);
        Some(std::mem::replace(&mut state.waiting, rest))
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.ended {
            self.group.state().is_led = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    /// An event, and what hears its answer.
    fn event(n: u128) -> (Waiting, oneshot::Receiver<Result<Sent, ApiError>>) {
        let id = Uuid::from_u128(n);
        let message = OutgoingMessage {
            subject: "s".into(),
            id: Some(id),
            headers: ponix_nats::async_nats::HeaderMap::new(),
            payload: Bytes::new(),
        };
        let (answer, answered) = oneshot::channel();
        let event = Checked {
            id,
            key: id,
            content: None,
            message,
        };
        (Waiting { event, answer }, answered)
    }

    fn ids(waiting: Option<Vec<Waiting>>) -> Vec<u128> {
        let waiting = waiting.into_iter().flatten();
        waiting.map(|it| it.event.id.as_u128()).collect()
    }

    #[test]
    fn what_comes_meanwhile_goes_together_in_order_and_within_the_limit() {
        let group = Group::default();
        let (events, _answers): (Vec<_>, Vec<_>) = (1..=7).map(event).unzip();
        let mut events = events.into_iter();
        let mut join = || group.join(events.next().expect("seven"));
        let mut lead = join().expect("nothing is under way");
        assert_eq!(ids(lead.next(3)), [1]);
        for _ in 2..=6 {
            assert!(join().is_none());
        }
        assert_eq!(ids(lead.next(3)), [2, 3, 4]);
        assert_eq!(ids(lead.next(3)), [5, 6]);
        assert!(lead.next(3).is_none());
        assert!(join().is_some(), "the duty has ended");
    }

    #[test]
    fn who_ends_in_the_middle_leaves_the_rest_to_the_next() {
        let group = Group::default();
        let [(one, _a), (two, _b), (three, _c)] = [1, 2, 3].map(event);
        let mut lead = group.join(one).expect("nothing is under way");
        assert_eq!(ids(lead.next(3)), [1]);
        assert!(group.join(two).is_none());
        drop(lead);
        let mut lead = group.join(three).expect("nobody leads any more");
        assert_eq!(ids(lead.next(3)), [2, 3]);
    }

    #[test]
    fn who_is_gone_takes_no_room_and_is_not_published() {
        let group = Group::default();
        let (first, _answer) = event(1);
        let mut lead = group.join(first).expect("nothing is under way");
        assert_eq!(ids(lead.next(3)), [1]);
        let (stays, _answer) = event(2);
        assert!(group.join(stays).is_none());
        for n in 3..1_000 {
            assert!(
                group.join(event(n).0).is_none(),
                "its answer is not awaited"
            );
            assert!(group.state().waiting.len() <= FORGET_FROM + 1);
        }
        assert_eq!(ids(lead.next(2_000)), [2]);
    }
}
