//! The messages of a batch that have no verdict yet, over several attempts at the store.

use crate::delivery::Batch;
use crate::processing_result::Verdict;

/// A batch and the verdicts it has so far.
#[derive(Debug)]
pub(super) struct Open<'a> {
    whole: &'a Batch,
    verdicts: Vec<Option<Verdict>>,
    /// Where the messages of `rest` stand in the whole batch.
    positions: Vec<usize>,
    /// What is left once something is stored; the whole until then, which need not be copied.
    rest: Option<Batch>,
}

impl<'a> Open<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self {
            whole: batch,
            verdicts: vec![None; batch.len()],
            positions: (0..batch.len()).collect(),
            rest: None,
        }
    }

    /// Returns the messages without a verdict.
    pub(super) fn rest(&self) -> &Batch {
        self.rest.as_ref().unwrap_or(self.whole)
    }

    /// Notes that some messages of the rest, by their position in it, are stored.
    pub(super) fn stored(&mut self, stored: &[usize]) {
        if stored.is_empty() {
            return;
        }
        for position in stored.iter().filter_map(|index| self.positions.get(*index)) {
            self.verdicts[*position] = Some(Verdict::Ack);
        }
        let open = |position: &usize| self.verdicts[*position].is_none();
        let kept: Vec<usize> = (0..self.positions.len())
            .filter(|i| open(&self.positions[*i]))
            .collect();
        self.positions.retain(open);
        self.rest = Some(self.rest().part(kept));
    }

    /// Closes the batch with a verdict for each message of the rest.
    pub(super) fn close(mut self, verdicts: impl IntoIterator<Item = Verdict>) -> Vec<Verdict> {
        for (position, verdict) in self.positions.into_iter().zip(verdicts) {
            self.verdicts[position] = Some(verdict);
        }
        // One verdict per message was checked; should one be missing, the message comes again.
        let missing = || Verdict::Nak { delay: None };
        self.verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or_else(missing))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use crate::delivery::tests::batch;

    #[test]
    fn verdicts_of_several_attempts_end_where_they_belong() {
        let batch = batch(5);
        let mut open = Open::new(&batch);
        open.stored(&[1, 3]);
        assert_eq!(open.rest().len(), 3);
        open.stored(&[0]);
        let sequences: Vec<_> = open
            .rest()
            .messages()
            .iter()
            .map(Delivery::stream_sequence)
            .collect();
        assert_eq!(sequences, [2, 4]);
        let nak = Verdict::Nak { delay: None };
        let verdicts = open.close([Verdict::Ack, nak.clone()]);
        assert_eq!(
            verdicts,
            [Verdict::Ack, Verdict::Ack, Verdict::Ack, Verdict::Ack, nak]
        );
    }

    #[test]
    fn a_message_without_a_verdict_is_never_acked() {
        assert_eq!(
            Open::new(&batch(1)).close([]),
            [Verdict::Nak { delay: None }]
        );
    }
}
