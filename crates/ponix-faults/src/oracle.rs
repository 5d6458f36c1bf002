//! The oracle: what has become of each event, and whether that is right.
//!
//! With U the attempted events, A the acknowledged ones, P the poison, C what readers see and Q the
//! dead letters: A∖P ⊆ C, P∩A ⊆ Q ⊆ P, C∪Q ⊆ U, C∩Q = ∅, every event at most once in either, and
//! nothing is pending. Where a materialized view keeps the identity, it has what readers see.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;

use uuid::Uuid;

use crate::event::{Fate, IdentifiedBy};
use crate::ledger::Entry;

/// Violations that are told one by one; the rest is counted.
const EXAMPLES_MAX: usize = 10;

/// One row of the view, or one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Under which identity it is kept.
    pub identity: Uuid,
    /// The key in its data or payload; `None` for what the publishers never sent.
    pub key: Option<Uuid>,
}

/// What the servers say.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Rows that readers see.
    pub readable: Vec<Found>,
    /// Rows that have come through a materialized view which keeps the identity, if there is one.
    pub viewed: Option<Vec<Found>>,
    /// Dead letters.
    pub dead: Vec<Found>,
    /// Rows in the table, copies included.
    pub rows: u64,
    /// Messages the consumer has not been delivered.
    pub pending: u64,
    /// Messages delivered and not settled.
    pub ack_pending: u64,
    /// Identities that follow from the place in the stream, by the key of the message there, as far
    /// as the stream still holds it.
    pub position_identities: HashMap<Uuid, Uuid>,
}

/// The verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Judgement {
    /// Events attempted (U).
    pub attempted: u64,
    /// Events acknowledged by a PubAck (A).
    pub acknowledged: u64,
    /// Poison among the attempted (P).
    pub poison: u64,
    /// Rows that readers see (C).
    pub readable: u64,
    /// Dead letters (Q).
    pub dead: u64,
    /// Rows in the table beyond those that readers see.
    pub physical_duplicates: u64,
    /// How many rules are broken.
    pub violations: u64,
    /// The first of them in words.
    pub examples: Vec<String>,
}

impl Judgement {
    /// Tells whether everything is where it has to be.
    pub fn is_sound(&self) -> bool {
        self.violations == 0
    }

    fn violation(&mut self, text: impl FnOnce() -> String) {
        self.violations += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "attempted {}, acknowledged {}, poison {}; readable {}, dead letters {}, physical duplicates {}; violations {}",
            self.attempted,
            self.acknowledged,
            self.poison,
            self.readable,
            self.dead,
            self.physical_duplicates,
            self.violations
        )?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}

/// How often one event was found.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    readable: u64,
    dead: u64,
    /// One of the places it was found in has another identity than the event's.
    wrong_identity: Option<Uuid>,
}

/// Judges.
pub fn judge<S: BuildHasher>(entries: &HashMap<Uuid, Entry, S>, findings: &Findings) -> Judgement {
    let mut judgement = Judgement {
        readable: findings.readable.len() as u64,
        dead: findings.dead.len() as u64,
        physical_duplicates: findings.rows.saturating_sub(findings.readable.len() as u64),
        ..Judgement::default()
    };
    let mut times: HashMap<Uuid, Times> = HashMap::new();
    let mut identities: HashMap<Uuid, u64> = HashMap::new();
    let places = [
        ("a row", &findings.readable),
        ("a dead letter", &findings.dead),
    ];
    for (place, found) in places {
        for found in found {
            let entry = found.key.and_then(|key| Some((key, entries.get(&key)?)));
            // Two events with one identity; their keys tell whether each is there once.
            let shared = matches!(entry, Some((_, entry)) if entry.identified_by.is_shared());
            let of_identity = identities.entry(found.identity).or_default();
            *of_identity += u64::from(!shared);
            if *of_identity > 1 {
                judgement.violation(|| {
                    format!(
                        "identity {} is {place}, not for the first time",
                        found.identity
                    )
                });
            }
            let Some((key, entry)) = entry else {
                judgement.violation(|| format!("{place} nobody published: {found:?}"));
                continue;
            };
            let times = times.entry(key).or_default();
            if place == "a row" {
                times.readable += 1;
            } else {
                times.dead += 1;
            }
            let expected = match entry.identified_by {
                IdentifiedBy::Key => Some(key),
                IdentifiedBy::Position => findings.position_identities.get(&key).copied(),
                // Of two dead letters the second is kept beside the first, under another name.
                IdentifiedBy::Shared(id) => (place == "a row").then_some(id),
            };
            if expected.is_some_and(|expected| expected != found.identity) {
                times.wrong_identity = Some(found.identity);
            }
        }
    }
    for (key, entry) in entries {
        judgement.attempted += 1;
        judgement.acknowledged += u64::from(entry.acknowledged.is_some());
        judgement.poison += u64::from(entry.fate == Fate::DeadLetter);
        judge_event(
            *key,
            *entry,
            times.get(key).copied().unwrap_or_default(),
            &mut judgement,
        );
    }
    if let Some(viewed) = &findings.viewed {
        judge_view(viewed, &findings.readable, &mut judgement);
    }
    if findings.pending + findings.ack_pending > 0 {
        judgement.violation(|| {
            let (pending, ack_pending) = (findings.pending, findings.ack_pending);
            format!("{pending} messages pending, {ack_pending} not settled")
        });
    }
    judgement
}

fn judge_view(viewed: &[Found], readable: &[Found], judgement: &mut Judgement) {
    let keys = |found: &[Found]| found.iter().map(|found| found.key).collect::<HashSet<_>>();
    let (viewed, readable) = (keys(viewed), keys(readable));
    for key in readable.difference(&viewed) {
        judgement.violation(|| format!("unseen: {key:?} is a row and not in the view"));
    }
    for key in viewed.difference(&readable) {
        judgement.violation(|| format!("seen alone: {key:?} is in the view and no row"));
    }
}

fn judge_event(key: Uuid, entry: Entry, times: Times, judgement: &mut Judgement) {
    let (right, wrong, place) = match entry.fate {
        Fate::Stored => (times.readable, times.dead, "row"),
        Fate::DeadLetter => (times.dead, times.readable, "dead letter"),
    };
    if let (0, Some(sequence)) = (right, entry.acknowledged) {
        judgement.violation(|| format!("lost: {key}, accepted as {sequence}, is no {place}"));
    }
    if right > 1 {
        judgement.violation(|| format!("doubled: {key} is {right} times a {place}"));
    }
    if wrong > 0 {
        judgement.violation(|| format!("misplaced: {key} should be a {place} alone"));
    }
    if let Some(identity) = times.wrong_identity {
        judgement.violation(|| format!("identity of {key} is {identity}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn entry(fate: Fate, acknowledged: Option<u64>) -> Entry {
        Entry {
            pipeline: crate::Pipeline::Envelopes,
            fate,
            identified_by: IdentifiedBy::Key,
            acknowledged,
        }
    }

    fn found(ids: &[u128]) -> Vec<Found> {
        let found = |n: &u128| Found {
            identity: id(*n),
            key: Some(id(*n)),
        };
        ids.iter().map(found).collect()
    }

    /// 1 and 2 are accepted, 3 was attempted, 4 is accepted poison, 5 attempted poison.
    fn entries() -> HashMap<Uuid, Entry> {
        HashMap::from([
            (id(1), entry(Fate::Stored, Some(1))),
            (id(2), entry(Fate::Stored, Some(2))),
            (id(3), entry(Fate::Stored, None)),
            (id(4), entry(Fate::DeadLetter, Some(4))),
            (id(5), entry(Fate::DeadLetter, None)),
        ])
    }

    fn findings(readable: &[u128], dead: &[u128]) -> Findings {
        Findings {
            readable: found(readable),
            dead: found(dead),
            rows: readable.len() as u64,
            ..Findings::default()
        }
    }

    #[test]
    fn sound_with_and_without_what_was_only_attempted() {
        for (readable, dead) in [
            (&[1, 2][..], &[4][..]),
            (&[1, 2, 3], &[4]),
            (&[1, 2, 3], &[4, 5]),
        ] {
            let judgement = judge(&entries(), &findings(readable, dead));
            assert!(judgement.is_sound(), "{judgement}");
        }
    }

    #[test]
    fn every_rule_can_be_broken() {
        for (readable, dead, word) in [
            (&[1][..], &[4][..], "lost"),
            (&[1, 2], &[], "lost"),
            (&[1, 2, 2], &[4], "doubled"),
            (&[1, 2], &[4, 4], "doubled"),
            (&[1, 2], &[4, 3], "misplaced"),
            (&[1, 2, 5], &[4], "misplaced"),
            (&[1, 2], &[4, 1], "misplaced"),
            (&[1, 2, 9], &[4], "nobody published"),
        ] {
            let judgement = judge(&entries(), &findings(readable, dead));
            let told = judgement.examples.iter().any(|text| text.contains(word));
            assert!(told, "{word}: {judgement}");
        }
    }

    #[test]
    fn one_identity_may_be_that_of_two_events() {
        let shared = |n| Entry {
            identified_by: IdentifiedBy::Shared(id(77)),
            ..entry(Fate::Stored, Some(n))
        };
        let entries = HashMap::from([(id(1), shared(1)), (id(2), shared(2))]);
        let row = |key| Found {
            identity: id(77),
            key: Some(id(key)),
        };
        let judged = |readable| {
            let findings = Findings {
                readable,
                ..Findings::default()
            };
            judge(&entries, &findings)
        };
        let both = judged(vec![row(1), row(2)]);
        assert!(both.is_sound(), "{both}");
        for (readable, word) in [
            (vec![row(1)], "lost"),
            (vec![row(1), row(2), row(2)], "doubled"),
            (
                vec![
                    row(1),
                    Found {
                        identity: id(2),
                        ..row(2)
                    },
                ],
                "identity of",
            ),
        ] {
            let judgement = judged(readable);
            let told = judgement.examples.iter().any(|text| text.contains(word));
            assert!(told, "{word}: {judgement}");
        }
    }

    #[test]
    fn a_view_has_what_readers_see() {
        let judged = |viewed: &[u128]| {
            let viewed = Some(found(viewed));
            judge(
                &entries(),
                &Findings {
                    viewed,
                    ..findings(&[1, 2], &[4])
                },
            )
        };
        assert!(judged(&[2, 1]).is_sound());
        for (viewed, word) in [(&[1][..], "unseen"), (&[1, 2, 3], "seen alone")] {
            let judgement = judged(viewed);
            assert!(judgement.examples[0].contains(word), "{judgement}");
        }
    }

    #[test]
    fn nothing_may_be_left_to_do() {
        for (pending, ack_pending) in [(1, 0), (0, 1)] {
            let findings = Findings {
                pending,
                ack_pending,
                ..findings(&[1, 2], &[4])
            };
            assert!(!judge(&entries(), &findings).is_sound());
        }
    }

    #[test]
    fn an_identity_that_differs_between_deliveries_is_found() {
        let mut findings = findings(&[1, 2], &[4]);
        findings.readable[0].identity = id(77);
        let judgement = judge(&entries(), &findings);
        assert!(judgement.examples[0].contains("identity of"), "{judgement}");

        let mut entries = entries();
        entries.get_mut(&id(1)).unwrap().identified_by = IdentifiedBy::Position;
        findings.position_identities.insert(id(1), id(77));
        assert!(judge(&entries, &findings).is_sound());
        findings.position_identities.insert(id(1), id(78));
        assert!(!judge(&entries, &findings).is_sound());
    }

    #[test]
    fn copies_are_counted_and_are_no_violation() {
        let mut findings = findings(&[1, 2], &[4]);
        findings.rows = 5;
        let judgement = judge(&entries(), &findings);
        assert_eq!(
            (judgement.physical_duplicates, judgement.violations),
            (3, 0)
        );
    }
}
