//! What lies around a batch in its stream, for a judgement over more than one batch.
//!
//! Rows that a store refuses may come back without the good ones they came with: the dead letters
//! had no room, or the worker ended before they were kept. A batch of nothing but bad rows looks
//! like a store at fault. So the messages around them are looked at too.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ponix_nats::Delivery;
use ponix_sink::{Around, Sink};

/// Messages before and behind a batch that are looked at.
const AROUND: u64 = 500;
/// How far away in time they may have been published.
const AROUND_NS: i64 = 3_600 * 1_000_000_000;
/// Rejected rows that are remembered: all that may be rejected in a few windows, of packed messages
/// also.
const REJECTED_MAX: usize = 100_000;

/// Sequence of a rejected row's message, and the row's place in it if it is packed.
type Place = (u64, Option<u32>);

/// Remembers what was rejected lately, by its place.
#[derive(Debug, Default)]
pub(crate) struct StreamWindow {
    rejected: Mutex<Rejected>,
}

#[derive(Debug, Default)]
struct Rejected {
    oldest_first: VecDeque<Place>,
    all: HashSet<Place>,
    /// The highest sequence of what was forgotten.
    forgotten: Option<u64>,
}

/// Where the messages of a batch lie in their stream and in time.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    own: HashSet<u64>,
    sequences: (u64, u64),
    published_at_ns: (i64, i64),
}

impl Stretch {
    /// Returns the stretch of some messages, with what is around them; `None` when there are none.
    pub(crate) fn around<'a>(deliveries: impl Iterator<Item = &'a Delivery>) -> Option<Self> {
        let places = deliveries.map(|one| (one.stream_sequence(), one.published_at_ns()));
        Self::of(places.collect())
    }

    fn of(places: Vec<(u64, i64)>) -> Option<Self> {
        let (own, times): (HashSet<u64>, Vec<i64>) = places.into_iter().unzip();
        Some(Self {
            sequences: (
                own.iter().min()?.saturating_sub(AROUND),
                own.iter().max()?.saturating_add(AROUND),
            ),
            published_at_ns: (
                times.iter().min()?.saturating_sub(AROUND_NS),
                times.iter().max()?.saturating_add(AROUND_NS),
            ),
            own,
        })
    }
}

impl StreamWindow {
    /// Returns what is known of the messages around, `None` when the store cannot tell: nothing is
    /// rejected on a guess.
    pub(crate) async fn around<S: Sink>(&self, sink: &S, stretch: &Stretch) -> Option<Around> {
        let (first, last) = stretch.sequences;
        let (from, to) = stretch.published_at_ns;
        let stored = sink.stored_between(first..=last, from..=to).await.ok()??;
        let rejected = self.rejected_in(stretch)?;
        Some(Around {
            rows: stored as usize + rejected,
            rejected,
        })
    }

    /// Remembers rows that were rejected.
    pub(crate) fn note_rejected(&self, places: impl IntoIterator<Item = Place>) {
        let mut rejected = self.rejected();
        for place in places {
            // They come again for as long as the dead letters have no room.
            if rejected.all.insert(place) {
                rejected.oldest_first.push_back(place);
            }
        }
        while rejected.oldest_first.len() > REJECTED_MAX {
            let Some(oldest) = rejected.oldest_first.pop_front() else {
                break;
            };
            rejected.all.remove(&oldest);
            rejected.forgotten = rejected.forgotten.max(Some(oldest.0));
        }
    }

    /// Counts what was rejected in the stretch; `None` when some of it may be forgotten. Messages of the
    /// batch itself may be back from an earlier attempt: they are judged now.
    fn rejected_in(&self, stretch: &Stretch) -> Option<usize> {
        let (first, last) = stretch.sequences;
        let rejected = self.rejected();
        if rejected
            .forgotten
            .is_some_and(|forgotten| first <= forgotten)
        {
            return None;
        }
        let elsewhere = |(sequence, _): &&Place| {
            (first..=last).contains(sequence) && !stretch.own.contains(sequence)
        };
        Some(rejected.all.iter().filter(elsewhere).count())
    }

    fn rejected(&self) -> MutexGuard<'_, Rejected> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_count_where_they_lie() {
        let window = StreamWindow::default();
        let single = [10, 20, 20, 5_000].map(|sequence| (sequence, None));
        let packed = [0, 1, 1].map(|index| (30, Some(index)));
        window.note_rejected(single.into_iter().chain(packed));
        let stretch = Stretch::of(vec![(20, 0), (400, 0)]).expect("two messages");
        assert_eq!(stretch.sequences, (0, 900));
        assert_eq!(
            window.rejected_in(&stretch),
            Some(3),
            "10 and two events of 30; 20 is judged now, 5,000 is far away"
        );
    }

    #[test]
    fn only_so_many_are_remembered_and_nothing_is_judged_by_what_was_forgotten() {
        let window = StreamWindow::default();
        let most = REJECTED_MAX as u64;
        window.note_rejected((0..most + 2_000).map(|sequence| (sequence, None)));
        assert_eq!(window.rejected().all.len(), REJECTED_MAX);
        assert_eq!(window.rejected().oldest_first.front(), Some(&(2_000, None)));
        let at = |sequence| Stretch::of(vec![(sequence, 0)]).expect("a message");
        assert_eq!(window.rejected_in(&at(2_400)), None);
        assert_eq!(window.rejected_in(&at(2_600)), Some(1_000));
    }

    #[test]
    fn no_messages_have_no_stretch() {
        assert!(Stretch::of(Vec::new()).is_none());
    }
}
