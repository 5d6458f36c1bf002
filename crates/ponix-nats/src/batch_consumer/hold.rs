//! Batches that wait for their store, and the intake that waits for them.

use tokio::sync::watch;

/// How many batches are held, and why the last of them.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: usize,
    reason: String,
}

impl Held {
    /// Returns the reason while at least one batch is held.
    pub(super) fn reason(&self) -> Option<&str> {
        (self.batches > 0).then_some(self.reason.as_str())
    }
}

/// One held batch; dropping it lets the intake go on, unless others are held.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    held: &'a watch::Sender<Held>,
}

impl<'a> Hold<'a> {
    pub(super) fn begin(held: &'a watch::Sender<Held>) -> Self {
        held.send_modify(|held| held.batches += 1);
        Self { held }
    }

    pub(super) fn set_reason(&self, reason: String) {
        self.held.send_modify(|held| held.reason = reason);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.held.send_modify(|held| held.batches -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intake_waits_for_the_last_held_batch() {
        let held = watch::Sender::new(Held::default());
        let first = Hold::begin(&held);
        let second = Hold::begin(&held);
        second.set_reason("table is gone".into());
        drop(second);
        assert_eq!(held.borrow().reason(), Some("table is gone"));
        drop(first);
        assert_eq!(held.borrow().reason(), None);
    }
}
