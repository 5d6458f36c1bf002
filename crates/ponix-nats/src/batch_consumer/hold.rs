//! Batches that wait for their store, and the intake that waits for them.

use ponix_wire::now_ns;
use tokio::sync::watch;

/// How many batches are held, and why the last of them.
#[derive(Debug, Default)]
pub(super) struct Held {
    batches: usize,
    reason: String,
    since_ns: i64,
    successes: u64,
}

impl Held {
    /// Returns the reason while at least one batch is held.
    pub(super) fn reason(&self) -> Option<&str> {
        (self.batches > 0).then_some(self.reason.as_str())
    }

    /// Returns since when there is always one that is held, nanoseconds since 1970.
    pub(super) fn since_ns(&self) -> i64 {
        self.since_ns
    }

    /// Returns how often the store has taken a batch while another one was held.
    pub(super) fn successes(&self) -> u64 {
        self.successes
    }
}

/// Tells the batches that are held, if there are any, that the store has just taken one.
pub(super) fn note_success(held: &watch::Sender<Held>) {
    held.send_if_modified(|held| {
        let somebody_waits = held.batches > 0;
        held.successes += u64::from(somebody_waits);
        somebody_waits
    });
}

/// Waits until the store has taken one batch more than `seen`.
pub(super) async fn next_success(held: &mut watch::Receiver<Held>, seen: u64) {
    // An error would mean that the consumer is gone, and the waiting batch with it.
    let _ = held.wait_for(|held| held.successes != seen).await;
}

/// One held batch; dropping it lets the intake go on, unless others are held.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    held: &'a watch::Sender<Held>,
}

impl<'a> Hold<'a> {
    pub(super) fn begin(held: &'a watch::Sender<Held>) -> Self {
        held.send_modify(|held| {
            if held.batches == 0 {
                held.since_ns = now_ns();
            }
            held.batches += 1;
        });
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
        let since = held.borrow().since_ns();
        assert!(since > 0);
        let second = Hold::begin(&held);
        second.set_reason("table is gone".into());
        drop(second);
        assert_eq!(held.borrow().reason(), Some("table is gone"));
        assert_eq!(held.borrow().since_ns(), since);
        drop(first);
        assert_eq!(held.borrow().reason(), None);
    }
}
