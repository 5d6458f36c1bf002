//! What there is: the stream, the table, the dead letters; and what may happen to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use uuid::Uuid;

use crate::identity::{StreamPosition, message_identity};

pub(super) const STREAM: &str = "events";

/// What a message is, as its one byte of payload says.
pub(super) const GOOD: u8 = 0;
/// The decoder refuses it.
pub(super) const UNDECODABLE: u8 = 1;
/// The store refuses it.
pub(super) const REFUSED: u8 = 2;
/// The processor panics over it.
pub(super) const PANICS: u8 = 3;

/// The world, shared by workers and models.
pub(super) struct World {
    state: Mutex<State>,
    begin: Instant,
}

pub(super) struct State {
    pub(super) rng: StdRng,
    pub(super) stream: Vec<Message>,
    next_sequence: u64,
    pub(super) table: HashMap<Uuid, u64>,
    pub(super) dead_letters: HashSet<Uuid>,
    pub(super) tokens: HashSet<Vec<Uuid>>,
    pub(super) token_bug: bool,
    pub(super) store_is_up: bool,
    pub(super) schema_is_broken: bool,
    pub(super) dead_letters_are_up: bool,
    pub(super) is_healed: bool,
    settled: Vec<(Instant, u64, i64)>,
    pub(super) violations: Vec<String>,
}

/// A message of the stream and where its consumer stands with it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) published_at_ns: i64,
    pub(super) kind: u8,
    pub(super) id: Option<Uuid>,
    pub(super) deliveries: u32,
    pub(super) standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// May be delivered from then on.
    Due(Instant),
    /// With a worker until then.
    Out { until: Instant, worker: usize },
    /// Acked or ended.
    Settled,
}

impl Message {
    pub(super) fn position(&self) -> StreamPosition<'static> {
        StreamPosition {
            stream: STREAM,
            sequence: self.sequence,
            published_at_ns: self.published_at_ns,
        }
    }

    pub(super) fn identity(&self) -> Uuid {
        let message_id = self.id.map(|id| id.to_string());
        message_identity(message_id.as_deref(), self.position())
    }
}

impl World {
    pub(super) fn new(seed: u64, token_bug: bool) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            stream: Vec::new(),
            next_sequence: 1,
            table: HashMap::new(),
            dead_letters: HashSet::new(),
            tokens: HashSet::new(),
            token_bug,
            store_is_up: true,
            schema_is_broken: false,
            dead_letters_are_up: true,
            is_healed: false,
            settled: Vec::new(),
            violations: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            begin: Instant::now(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Publishes; some messages carry an id, and some ids come twice, as a publisher repeats them
    /// when it has missed the PubAck.
    pub(super) fn publish(&self, messages: usize) {
        let mut state = self.state();
        for _ in 0..messages {
            let kind = match state.rng.random_range(0..20) {
                0 => UNDECODABLE,
                1 => REFUSED,
                2 => PANICS,
                _ => GOOD,
            };
            let message_id = (kind == GOOD && state.rng.random_bool(0.5))
                .then(|| Uuid::from_u128(state.rng.random()));
            let copies = if message_id.is_some() && state.rng.random_bool(0.1) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let published_at_ns =
                    self.begin.elapsed().as_nanos() as i64 + state.stream.len() as i64;
                let sequence = state.next_sequence;
                state.next_sequence += 1;
                state.stream.push(Message {
                    sequence,
                    published_at_ns,
                    kind,
                    id: message_id,
                    deliveries: 0,
                    standing: Standing::Due(Instant::now()),
                });
            }
        }
    }

    /// Kills the server: it forgets some of the last acks, all delivery counts, and who has what.
    pub(super) fn kill_server(&self) {
        let mut state = self.state();
        let recent = Instant::now() - Duration::from_secs(2).min(self.begin.elapsed());
        let forgotten: Vec<(u64, i64)> = std::mem::take(&mut state.settled)
            .into_iter()
            .filter(|(at, ..)| *at >= recent)
            .map(|(_, sequence, published)| (sequence, published))
            .collect();
        let now = Instant::now();
        let State { stream, rng, .. } = &mut *state;
        for message in stream {
            let is_forgotten = forgotten.contains(&(message.sequence, message.published_at_ns));
            message.deliveries = 0;
            match message.standing {
                Standing::Settled if is_forgotten && rng.random_bool(0.4) => {
                    message.standing = Standing::Due(now);
                }
                Standing::Out { .. } => message.standing = Standing::Due(now),
                _ => {}
            }
        }
    }

    /// The tail of the store is gone; its sequences go to the messages that come next.
    pub(super) fn lose_tail(&self) {
        let mut state = self.state();
        let lost = state.rng.random_range(1..4).min(state.stream.len());
        let kept = state.stream.len() - lost;
        state.stream.truncate(kept);
        state.next_sequence = state
            .stream
            .last()
            .map_or(1, |message| message.sequence + 1);
    }

    pub(super) fn toggle_store(&self) {
        let mut state = self.state();
        state.store_is_up = !state.store_is_up;
    }

    pub(super) fn toggle_dead_letters(&self) {
        let mut state = self.state();
        state.dead_letters_are_up = !state.dead_letters_are_up;
    }

    /// Nothing can be stored until somebody mends it.
    pub(super) fn break_schema(&self) {
        let mut state = self.state();
        state.schema_is_broken = !state.schema_is_broken;
    }

    /// From here on nothing goes wrong.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        state.store_is_up = true;
        state.schema_is_broken = false;
        state.dead_letters_are_up = true;
        state.is_healed = true;
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.state()
            .stream
            .iter()
            .all(|message| message.standing == Standing::Settled)
    }

    /// Notes that the server has been told that a message is stored, or ended.
    pub(super) fn settled(state: &mut State, index: usize, is_end: bool) {
        let message = state.stream[index].clone();
        let identity = message.identity();
        let place = if is_end {
            "the dead letters"
        } else {
            "the table"
        };
        let is_there = if is_end {
            state.dead_letters.contains(&identity)
        } else {
            state.table.contains_key(&identity)
        };
        if !is_there {
            state
                .violations
                .push(format!("settled before {place} had it: {message:?}"));
        }
        state.stream[index].standing = Standing::Settled;
        state
            .settled
            .push((Instant::now(), message.sequence, message.published_at_ns));
    }

    /// After a shutdown on healthy servers the worker has settled whatever it had stored.
    pub(super) fn check_after_stop(&self, worker: usize) {
        let mut state = self.state();
        let left: Vec<Message> = state
            .stream
            .iter()
            .filter(|message| matches!(message.standing, Standing::Out { worker: w, .. } if w == worker))
            .filter(|message| state.table.contains_key(&message.identity()))
            .filter(|message| message.id.is_none())
            .cloned()
            .collect();
        if !left.is_empty() {
            state
                .violations
                .push(format!("stored and not settled by a shutdown: {left:?}"));
        }
    }

    /// Every message that the stream still has is where it belongs, once.
    pub(super) fn judge(&self) -> Vec<String> {
        let mut state = self.state();
        let mut violations = std::mem::take(&mut state.violations);
        let mut identities: HashMap<Uuid, (u64, i64)> = HashMap::new();
        for message in &state.stream {
            let identity = message.identity();
            let stored = state.table.contains_key(&identity);
            let dead = state.dead_letters.contains(&identity);
            if message.standing != Standing::Settled {
                violations.push(format!("never settled: {message:?}"));
            }
            match (message.kind == GOOD, stored, dead) {
                (true, true, false) | (false, false, true) => {}
                (_, false, false) => violations.push(format!("lost: {message:?}")),
                (_, true, true) => violations.push(format!("in both places: {message:?}")),
                (true, ..) => violations.push(format!("good, and a dead letter: {message:?}")),
                (false, ..) => violations.push(format!("bad, and stored: {message:?}")),
            }
            let position = (message.sequence, message.published_at_ns);
            let other = identities.insert(identity, position);
            if message.id.is_none() && other.is_some() {
                violations.push(format!("shares its identity: {message:?}"));
            }
        }
        violations
    }
}
