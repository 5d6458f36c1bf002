//! The stream, its consumer, the table and the dead letters, small enough to be enumerated.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Bug;
use super::worker::Working;
use crate::identity::{StreamPosition, message_identity};
use crate::janitor::first_kept;
use crate::position::{Landmark, begin_again_at, is_beyond};

pub(super) const STREAM: &str = "events";
pub(super) const WORKERS: usize = 2;
pub(super) const MESSAGES: u8 = 3;
/// The message that no decoder takes.
pub(super) const BAD: u8 = 0;

/// How often something may still go wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub(super) crashes: u8,
    pub(super) stops: u8,
    /// Answers that are lost, in either direction, and acks that the server forgets.
    pub(super) losses: u8,
    /// The store or the dead letters take nothing, or a part.
    pub(super) refusals: u8,
    /// `ack_wait` ends though the worker is at it.
    pub(super) expiries: u8,
    pub(super) tails: u8,
}

/// A message in the stream; its number is its publish time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) number: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Due,
    Out,
    Settled,
}

/// What the table keeps under an identity: the first message, and how many copies were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    number: u8,
    pub(super) copies: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) stream: Vec<Message>,
    /// The stream's last sequence.
    pub(super) last: u64,
    pub(super) published: u8,
    /// Lost by the server with the tail.
    pub(super) lost: BTreeSet<u8>,
    /// Up to where the consumer has delivered.
    pub(super) position: u64,
    pub(super) standings: BTreeMap<u64, Standing>,
    deliveries: BTreeMap<u64, u8>,
    pub(super) table: BTreeMap<Uuid, Row>,
    pub(super) tokens: BTreeSet<Vec<Uuid>>,
    pub(super) dead: BTreeSet<u8>,
    pub(super) workers: [Option<Working>; WORKERS],
    pub(super) must_look: bool,
    /// The newest message at the janitor's last look.
    landmark: Option<Message>,
    pub(super) left: Faults,
    pub(super) at_first: Faults,
}

impl State {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            stream: Vec::new(),
            last: 0,
            published: 0,
            lost: BTreeSet::new(),
            position: 0,
            standings: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            table: BTreeMap::new(),
            tokens: BTreeSet::new(),
            dead: BTreeSet::new(),
            workers: [None, None],
            must_look: false,
            landmark: None,
            left: faults,
            at_first: faults,
        }
    }

    pub(super) fn publish(&mut self) {
        self.last += 1;
        self.stream.push(Message {
            sequence: self.last,
            number: self.published,
        });
        self.published += 1;
    }

    /// Sequences that the server would deliver.
    pub(super) fn due(&self) -> Vec<u64> {
        let is_due = |sequence: &u64| match self.standings.get(sequence) {
            Some(standing) => *standing == Standing::Due,
            None => *sequence > self.position,
        };
        let sequences = self.stream.iter().map(|message| message.sequence);
        sequences.filter(is_due).collect()
    }

    pub(super) fn fetch(&mut self, worker: usize, count: usize) {
        let due = self.due();
        let mut batch = Vec::new();
        for message in &self.stream {
            if batch.len() == count || !due.contains(&message.sequence) {
                continue;
            }
            let deliveries = self.deliveries.entry(message.sequence).or_default();
            *deliveries = (*deliveries + 1).min(2); // more often makes no difference here
            batch.push((*message, *deliveries));
            self.standings.insert(message.sequence, Standing::Out);
            self.position = self.position.max(message.sequence);
        }
        self.workers[worker] = Some(Working::new(batch));
    }

    /// Tells whether a worker has the message that is delivered.
    pub(super) fn is_in_work(&self, sequence: u64) -> bool {
        let workers = self.workers.iter().flatten();
        workers.into_iter().any(|work| work.has(sequence))
    }

    pub(super) fn expire(&mut self, sequence: u64) {
        self.left.expiries -= u8::from(self.is_in_work(sequence));
        self.standings.insert(sequence, Standing::Due);
    }

    pub(super) fn lose_tail(&mut self, server_is_old: bool) {
        self.left.tails -= 1;
        let Some(message) = self.stream.pop() else {
            return;
        };
        self.lost.insert(message.number);
        self.last -= 1;
        if server_is_old {
            self.must_look = true;
        } else {
            self.standings.remove(&message.sequence);
            self.deliveries.remove(&message.sequence);
            self.position = self.position.min(self.last);
        }
    }

    /// What a worker does when its connection is back.
    pub(super) fn look(&mut self, believes: bool) {
        self.must_look = false;
        if believes || !is_beyond(self.position, self.last) {
            return;
        }
        let begin = begin_again_at(self.last + 1, self.floor());
        self.standings.retain(|sequence, _| *sequence < begin);
        self.deliveries.retain(|sequence, _| *sequence < begin);
        self.position = begin - 1;
    }

    /// The consumer's ack floor.
    fn floor(&self) -> u64 {
        let is_open = |sequence: &u64| match self.standings.get(sequence) {
            Some(standing) => *standing != Standing::Settled,
            None => false,
        };
        let first_open = (1..=self.position).find(is_open);
        first_open.map_or(self.position, |sequence| sequence - 1)
    }

    /// The janitor with a replay window of nothing.
    pub(super) fn purge(&mut self, bug: Option<Bug>) {
        let place = |message: &Message| (message.sequence, i64::from(message.number));
        let landmark = self.landmark.as_ref().map(place);
        self.landmark = self.stream.last().copied().or(self.landmark);
        if is_beyond(self.position, self.last) && bug != Some(Bug::PositionBelieved) {
            return;
        }
        if let Some((sequence, published_at_ns)) = landmark {
            let landmark = Landmark {
                sequence,
                published_at_ns,
            };
            let mut behind = self.stream.iter().filter(|it| it.sequence >= sequence);
            if landmark.was_lost(behind.next().map(place)) {
                return;
            }
        }
        let floor = if bug == Some(Bug::JanitorAboveAckFloor) {
            self.last
        } else {
            self.floor()
        };
        if let Some(first) = first_kept(Some(floor), self.last + 1) {
            self.stream.retain(|message| message.sequence >= first);
            self.standings.retain(|sequence, _| *sequence >= first);
            self.deliveries.retain(|sequence, _| *sequence >= first);
        }
    }

    pub(super) fn insert(&mut self, identities: &[(Uuid, u8)]) {
        for (identity, number) in identities {
            let row = self.table.entry(*identity).or_insert(Row {
                number: *number,
                copies: 0,
            });
            row.copies = (row.copies + 1).min(2);
        }
    }

    /// How often readers see a message.
    pub(super) fn rows_of(&self, number: u8) -> usize {
        let rows = self.table.values();
        rows.filter(|row| row.number == number).count()
    }

    pub(super) fn is_where_it_belongs(&self, number: u8) -> bool {
        if number == BAD {
            self.dead.contains(&number)
        } else {
            self.rows_of(number) == 1
        }
    }
}

/// The identity that a delivered message is stored under.
pub(super) fn identity(message: Message, deliveries: u8, bug: Option<Bug>) -> Uuid {
    if bug == Some(Bug::IdentityOnlyWhenRedelivered) && deliveries == 1 {
        return Uuid::from_u128(message.number.into());
    }
    message_identity(None, position(message, bug))
}

pub(super) fn position(message: Message, bug: Option<Bug>) -> StreamPosition<'static> {
    let published_at_ns = match bug {
        Some(Bug::IdentityIsSequence) => 0,
        _ => message.number.into(),
    };
    StreamPosition {
        stream: STREAM,
        sequence: message.sequence,
        published_at_ns,
    }
}
