//! Every interleaving of two workers, three messages and a few faults, by model checking.
//!
//! What decides is the product's code: a batch is worked on by [`Work::settle_batch`] (hold, open,
//! settle, dead letters), what may be purged and from where a consumer begins again is said by the
//! janitor's and the position's own functions. A step of a worker is one effect of that code on the
//! outside; the code runs from its beginning each time and is given again what it was told before.
//!
//! [`Work::settle_batch`]: super::work::Work::settle_batch

mod state;
mod worker;

use std::time::Duration;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use self::state::{BAD, Faults, MESSAGES, Standing, State, WORKERS};
use self::worker::How;

/// Longest time of one check; far more than it takes.
const TIME_MAX: Duration = Duration::from_mins(20);

/// What is wrong with the world around the product's functions; each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    AckBeforeInsert,
    CancelledBetweenInsertAndAck,
    DeduplicationToken,
    IdentityIsSequence,
    IdentityOnlyWhenRedelivered,
    JanitorAboveAckFloor,
    PositionBelieved,
    TermBeforeDeadLetter,
    UndecodableAcked,
}

#[derive(Debug, Clone, Copy)]
struct Interleavings {
    bug: Option<Bug>,
    /// Before 2.14 a consumer's position stays behind the end of a stream that lost its tail.
    server_is_old: bool,
    faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Publish,
    /// A worker takes so many messages.
    Fetch(usize, usize),
    /// A worker has its next effect on the outside.
    Step(usize, How),
    Crash(usize),
    /// SIGTERM.
    Stop(usize),
    /// `ack_wait` of a message is over.
    Expire(u64),
    /// The server is killed and forgets an ack.
    ForgetAck(u64),
    LoseTail,
    /// The consumer's position is compared with the end of the stream.
    Look,
    Purge,
}

impl Model for Interleavings {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.published < MESSAGES && !state.must_look {
            actions.push(Action::Publish);
        }
        let due = state.due().len();
        for worker in 0..WORKERS {
            let Some(work) = &state.workers[worker] else {
                if !state.must_look {
                    actions.extend((1..=due.min(2)).map(|count| Action::Fetch(worker, count)));
                }
                continue;
            };
            actions.push(Action::Step(worker, How::Well));
            if state.left.losses > 0 {
                actions.push(Action::Step(worker, How::AnswerLost));
            }
            if state.left.refusals > 0 {
                actions.push(Action::Step(worker, How::Refused));
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(worker));
            }
            if state.left.stops > 0 && !work.is_stopping {
                actions.push(Action::Stop(worker));
            }
        }
        for (sequence, standing) in &state.standings {
            match standing {
                Standing::Out if !state.is_in_work(*sequence) || state.left.expiries > 0 => {
                    actions.push(Action::Expire(*sequence));
                }
                Standing::Settled if state.left.losses > 0 => {
                    actions.push(Action::ForgetAck(*sequence));
                }
                _ => {}
            }
        }
        let end = state.stream.last().map(|message| message.sequence);
        if state.left.tails > 0 && end == Some(state.last) {
            actions.push(Action::LoseTail);
        }
        if state.must_look && state.workers.contains(&None) {
            actions.push(Action::Look);
        }
        actions.push(Action::Purge);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Publish => next.publish(),
            Action::Fetch(worker, count) => next.fetch(worker, count),
            Action::Step(worker, how) => worker::step(*self, &mut next, worker, how)?,
            Action::Crash(worker) => {
                next.left.crashes -= 1;
                next.workers[worker] = None;
            }
            Action::Stop(worker) => {
                next.left.stops -= 1;
                if self.bug == Some(Bug::CancelledBetweenInsertAndAck) {
                    next.workers[worker] = None;
                } else if let Some(work) = &mut next.workers[worker] {
                    work.is_stopping = true;
                }
            }
            Action::Expire(sequence) => next.expire(sequence),
            Action::ForgetAck(sequence) => {
                next.left.losses -= 1;
                next.standings.insert(sequence, Standing::Due);
            }
            Action::LoseTail => next.lose_tail(self.server_is_old),
            Action::Look => next.look(self.bug == Some(Bug::PositionBelieved)),
            Action::Purge => next.purge(self.bug),
        }
        next.workers.sort_unstable(); // one worker is as good as the other
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what is settled is kept", |_, state: &State| {
                let settled = |standing: &Standing| *standing == Standing::Settled;
                let kept = |number| state.is_where_it_belongs(number);
                let open = state.stream.iter().filter(|message| {
                    state
                        .standings
                        .get(&message.sequence)
                        .is_none_or(|it| !settled(it))
                });
                let open: Vec<u8> = open.map(|message| message.number).collect();
                (0..state.published)
                    .filter(|number| !state.lost.contains(number) && !open.contains(number))
                    .all(kept)
            }),
            Property::always("nothing is in both places", |_, state: &State| {
                !state.dead.iter().any(|number| state.rows_of(*number) > 0)
            }),
            Property::always("nothing is stored twice", |_, state: &State| {
                (0..state.published).all(|number| state.rows_of(number) <= 1)
            }),
            Property::always(
                "the good is no dead letter, the bad no row",
                |_, state: &State| {
                    state.dead.iter().all(|number| *number == BAD) && state.rows_of(BAD) == 0
                },
            ),
            Property::always("no copies without a fault", |_, state: &State| {
                let only_stops = Faults {
                    stops: state.left.stops,
                    ..state.at_first
                };
                state.left != only_stops || state.table.values().all(|row| row.copies == 1)
            }),
            Property::always("nothing is skipped", |_, state: &State| {
                let is_due = |sequence| state.due().contains(&sequence);
                state.must_look
                    || state.stream.iter().all(|message| {
                        state.standings.contains_key(&message.sequence) || is_due(message.sequence)
                    })
            }),
            Property::sometimes("all is settled", |_, state: &State| {
                let settled = state.standings.values().all(|it| *it == Standing::Settled);
                state.published == MESSAGES && state.due().is_empty() && settled
            }),
        ]
    }
}

/// Explores; returns how many states there are, and what was violated on which way.
fn explore(model: Interleavings) -> (usize, Vec<String>) {
    let found = model
        .checker()
        .threads(2)
        .timeout(TIME_MAX)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    assert!(found.is_done(), "{model:?} takes too long");
    let states = found.unique_state_count();
    let told = found
        .discoveries()
        .into_iter()
        .filter_map(|(property, path)| {
            let violated = property != "all is settled";
            violated.then(|| format!("{property}: {:?}", path.into_actions()))
        });
    let mut told: Vec<String> = told.collect();
    if told.is_empty() && found.discovery("all is settled").is_none() {
        told.push("nothing is ever settled".to_owned());
    }
    (states, told)
}

fn report(name: &str, states: usize) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{name}: {states} states explored");
}

/// A name, whether the server is an old one, and what goes wrong.
type Check = (&'static str, bool, Faults);

/// Few enough faults for each check; together every kind of them.
fn checks() -> [Check; 4] {
    let none = Faults::default();
    let crashes = Faults {
        crashes: 2,
        stops: 1,
        ..none
    };
    let answers = Faults {
        crashes: 1,
        losses: 1,
        refusals: 1,
        ..none
    };
    let tail = Faults {
        crashes: 1,
        tails: 1,
        ..none
    };
    let late = Faults {
        expiries: 1,
        ..tail
    };
    [
        ("two crashes", false, crashes),
        ("a lost answer", false, answers),
        ("a lost tail", false, late),
        ("a lost tail on an old server", true, tail),
    ]
}

/// All kinds of faults in one run: minutes, so only where the variable asks for it.
fn every_fault() -> Check {
    let faults = Faults {
        crashes: 2,
        stops: 0,
        losses: 1,
        refusals: 0,
        expiries: 0,
        tails: 1,
    };
    ("two crashes, a lost answer and a lost tail", false, faults)
}

#[test]
fn no_interleaving_loses_doubles_or_misplaces_an_event() {
    let mut all = checks().to_vec();
    if std::env::var_os("PONIX_TEST_MODEL_FULL").is_some() {
        all.push(every_fault());
    }
    for (name, server_is_old, faults) in all {
        let (states, violated) = explore(Interleavings {
            bug: None,
            server_is_old,
            faults,
        });
        report(name, states);
        assert!(violated.is_empty(), "{name}: {violated:#?}");
        assert!(states > 1_000, "{name}: hardly anything is explored");
    }
}

#[test]
fn each_bug_has_an_interleaving_that_shows_it() {
    let [crashes, answers, tail, old_server] = checks();
    for (bug, (_, server_is_old, faults)) in [
        (Bug::AckBeforeInsert, crashes),
        (Bug::CancelledBetweenInsertAndAck, crashes),
        (Bug::DeduplicationToken, answers),
        (Bug::IdentityIsSequence, tail),
        (Bug::IdentityOnlyWhenRedelivered, crashes),
        (Bug::JanitorAboveAckFloor, crashes),
        (Bug::PositionBelieved, old_server),
        (Bug::TermBeforeDeadLetter, crashes),
        (Bug::UndecodableAcked, crashes),
    ] {
        let (states, violated) = explore(Interleavings {
            bug: Some(bug),
            server_is_old,
            faults,
        });
        let way = violated.first();
        let way = way.unwrap_or_else(|| panic!("{bug:?} was not found"));
        report(&format!("{bug:?}, {way}"), states);
    }
}
