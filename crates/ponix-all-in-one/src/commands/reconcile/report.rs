//! What `reconcile` found, and how it is printed.

use std::fmt;

use ponix_clickhouse::Presence;
use ponix_nats::SequenceRange;

/// Events named per kind of finding.
const EXAMPLES_MAX: usize = 10;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pipeline: String,
    stream: String,
    range: SequenceRange,
    pub(super) messages: u64,
    /// More than messages where some are packed.
    pub(super) events: u64,
    /// Sequences without a message by now: purged or deleted before they could be read.
    pub(super) unread: u64,
    /// Messages that the transform drops.
    pub(super) dropped: u64,
    stored: u64,
    dead: u64,
    unmerged_copies: u64,
    lost: Finding,
    doubled: Finding,
    in_both: Finding,
}

/// Events that are not where they should be.
#[derive(Debug, Default)]
struct Finding {
    events: u64,
    examples: Vec<String>,
}

impl Finding {
    fn add(&mut self, event: &dyn fmt::Display) {
        self.events += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(event.to_string());
        }
    }
}

impl Report {
    pub(super) fn new(pipeline: &str, stream: &str, range: SequenceRange) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            stream: stream.to_owned(),
            range,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, event: &dyn fmt::Display, presence: Presence, is_dead: bool) {
        let is_stored = presence.readable > 0;
        self.stored += u64::from(is_stored);
        self.dead += u64::from(is_dead);
        self.unmerged_copies += presence.copies.saturating_sub(presence.readable);
        match (is_stored, is_dead) {
            (false, false) => self.lost.add(event),
            (true, true) => self.in_both.add(event),
            _ => {}
        }
        if presence.readable > 1 {
            self.doubled.add(event);
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.lost.events + self.doubled.events + self.in_both.events == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SequenceRange { first, last } = self.range;
        if self.range.is_empty() {
            return write!(
                f,
                "pipeline {}, stream {}: no settled message in this range",
                self.pipeline, self.stream
            );
        }
        writeln!(
            f,
            "pipeline {}, stream {}: sequences {first} to {last}, {} messages",
            self.pipeline, self.stream, self.messages
        )?;
        if self.events > self.messages {
            writeln!(f, "events           {} (in packed messages)", self.events)?;
        }
        if self.unread > 0 {
            writeln!(
                f,
                "purged unread    {} (purged or deleted before they were read; not judged)",
                self.unread
            )?;
        }
        writeln!(f, "stored           {}", self.stored)?;
        writeln!(f, "dead letters     {}", self.dead)?;
        if self.dropped > 0 {
            writeln!(f, "dropped          {}", self.dropped)?;
        }
        writeln!(f, "unmerged copies  {}", self.unmerged_copies)?;
        for (name, finding) in [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("in both places", &self.in_both),
        ] {
            writeln!(f, "{name:<16} {}", finding.events)?;
            for event in &finding.examples {
                writeln!(f, "  {event}")?;
            }
        }
        let verdict = if self.is_sound() {
            "sound: every settled event is stored once or a dead letter"
        } else {
            "NOT sound"
        };
        f.write_str(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cases: &[(u64, u64, bool)]) -> Report {
        let mut report = Report {
            range: SequenceRange { first: 1, last: 9 },
            ..Report::default()
        };
        for (copies, readable, dead) in cases {
            report.add(
                &"an event",
                Presence {
                    copies: *copies,
                    readable: *readable,
                },
                *dead,
            );
        }
        report
    }

    #[test]
    fn stored_once_or_dead_is_sound_whatever_copies_there_are() {
        let report = report(&[(1, 1, false), (3, 1, false), (0, 0, true)]);
        assert!(report.is_sound());
        assert_eq!(
            (report.stored, report.dead, report.unmerged_copies),
            (2, 1, 2)
        );
    }

    #[test]
    fn lost_doubled_or_in_both_is_not() {
        for case in [(0, 0, false), (2, 2, false), (1, 1, true)] {
            let report = report(&[case]);
            assert!(!report.is_sound(), "{case:?}");
            assert!(report.to_string().contains("NOT sound"));
        }
    }
}
