//! The messages of a batch that have no disposition yet, over several attempts at the store.

use crate::delivery::Batch;
use crate::processing_result::Disposition;

/// A batch and the dispositions it has so far.
#[derive(Debug)]
pub(super) struct Open<'a> {
    whole: &'a Batch,
    dispositions: Vec<Option<Disposition>>,
    /// Where the messages of `rest` stand in the whole batch.
    positions: Vec<usize>,
    /// What is left once something is stored; the whole until then, which need not be copied.
    rest: Option<Batch>,
}

impl<'a> Open<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self {
            whole: batch,
            dispositions: vec![None; batch.len()],
            positions: (0..batch.len()).collect(),
            rest: None,
        }
    }

    /// Returns the messages without a disposition.
    pub(super) fn rest(&self) -> &Batch {
        self.rest.as_ref().unwrap_or(self.whole)
    }

    /// Notes that some messages of the rest, by their position in it, are stored.
    pub(super) fn stored(&mut self, stored: &[usize]) {
        if stored.is_empty() {
            return;
        }
        for position in stored.iter().filter_map(|index| self.positions.get(*index)) {
            self.dispositions[*position] = Some(Disposition::Ack);
        }
        let open = |position: &usize| self.dispositions[*position].is_none();
        let kept: Vec<usize> = (0..self.positions.len())
            .filter(|i| open(&self.positions[*i]))
            .collect();
        self.positions.retain(open);
        self.rest = Some(self.rest().part(kept));
    }

    /// Closes the batch with a disposition for each message of the rest.
    pub(super) fn close(
        mut self,
        dispositions: impl IntoIterator<Item = Disposition>,
    ) -> Vec<Disposition> {
        for (position, disposition) in self.positions.into_iter().zip(dispositions) {
            self.dispositions[position] = Some(disposition);
        }
        // One disposition per message was checked; should one be missing, the message comes again.
        let missing = || Disposition::Nak { delay: None };
        self.dispositions
            .into_iter()
            .map(|disposition| disposition.unwrap_or_else(missing))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use crate::delivery::tests::batch;

    #[test]
    fn dispositions_of_several_attempts_end_where_they_belong() {
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
        let nak = Disposition::Nak { delay: None };
        let dispositions = open.close([Disposition::Ack, nak.clone()]);
        assert_eq!(
            dispositions,
            [
                Disposition::Ack,
                Disposition::Ack,
                Disposition::Ack,
                Disposition::Ack,
                nak
            ]
        );
    }

    #[test]
    fn a_message_without_a_disposition_is_never_acked() {
        assert_eq!(
            Open::new(&batch(1)).close([]),
            [Disposition::Nak { delay: None }]
        );
    }
}
