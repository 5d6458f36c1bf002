//! Whether the messages of a consumer get settled, by its state at some looks.

use std::time::Duration;

use tokio::time::Instant;

/// Time for which a consumer that settled something counts as one that does: batches come apart.
const SETTLES_FOR: Duration = Duration::from_secs(10);

/// What was seen at the looks before.
#[derive(Debug, Default)]
pub(super) struct Progress {
    last: Option<Look>,
    settled_at: Option<Instant>,
}

/// A consumer's state.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Sequence up to which everything is settled.
    floor: u64,
    /// Messages that are not settled.
    unsettled: u64,
}

impl Progress {
    /// Returns whether something was settled since the last look, or [`SETTLES_FOR`] before `now`.
    ///
    /// The floor alone does not do, for one message may keep it while all others pass; nor what is not
    /// settled, for more may come than goes.
    pub(super) fn look(&mut self, now: Instant, floor: u64, unsettled: u64) -> bool {
        let look = Look { floor, unsettled };
        let last = self.last.replace(look);
        if last.is_some_and(|last| last.floor < floor || last.unsettled > unsettled) {
            self.settled_at = Some(now);
        }
        self.settled_at.is_some_and(|at| now - at <= SETTLES_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_when_the_floor_rises_or_the_backlog_falls() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        assert!(!progress.look(at(0), 0, 100), "nobody has settled anything");
        assert!(!progress.look(at(15), 0, 200), "it only grows");
        assert!(progress.look(at(30), 10, 300), "the floor rises");
        assert!(progress.look(at(30), 10, 300), "asked twice");
        assert!(
            progress.look(at(45), 10, 250),
            "behind a message that waits"
        );
        assert!(progress.look(at(54), 10, 900), "a while ago");
        assert!(!progress.look(at(70), 10, 900), "it has stopped");
        assert!(progress.look(at(85), 900, 10));
    }

    #[test]
    fn a_stream_made_anew_is_no_progress() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.look(start, 500, 0);
        assert!(!progress.look(start, 0, 20));
    }
}
