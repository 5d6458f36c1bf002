//! Which rows to send next in order to find those that ClickHouse refuses.
//!
//! Pure: it hands out ranges of a batch, is told how the INSERT of each ended, and in the end
//! every row is stored or rejected. A row is only rejected by an INSERT of itself alone.
//!
//! A refused range is cut in two. If its left half is stored, the right one must hold the bad row
//! and is cut without being sent, so one bad row costs between 1 and 2 INSERTs per level: at most
//! 2·⌈log₂ n⌉ more than the one that was refused. The ranges of one level are finished before the
//! next level begins, so that a batch that is bad throughout is noticed near the top: by counting,
//! since each refused range holds at least one bad row, and by a sample of one random row from
//! each of them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use rand::Rng;

/// How many refused ranges of one level call for a sample of them.
const SAMPLE_MIN: usize = 16;

/// From how many ranges of a level a row is taken at most.
const SAMPLE_MAX: usize = 32;

/// How far a sample must be above what is allowed before it counts. At 16 samples and 5 % allowed,
/// a batch with 4 % bad rows is then misjudged about once in 40, and noticing one with 30 % fails
/// once in 10.
const SAMPLE_MARGIN: f64 = 3.0;

/// Too large a share is refused for the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alike {
    pub(crate) code: u32,
    /// Rows that are refused, counted or estimated from a sample.
    pub(crate) rows: usize,
}

/// Rows refused so far, by code.
pub(crate) type Refused = HashMap<u32, usize>;

#[derive(Debug, Clone)]
enum Step {
    /// Send it. `sibling` is the other half of a refused range, not sent yet.
    Try {
        range: Range<usize>,
        sibling: Option<Range<usize>>,
    },
    /// It holds a bad row: cut it.
    Cut { range: Range<usize> },
    /// It holds a bad row: send the one at `at` alone.
    Sample { range: Range<usize>, at: usize },
}

/// The search through one batch.
#[derive(Debug)]
pub(crate) struct Search {
    /// Refused rows of one code above which the search ends.
    allowed: usize,
    level: VecDeque<Step>,
    sent: Option<Step>,
    /// Refused ranges for the next level, with the code they were refused with.
    dirty: Vec<(Range<usize>, u32)>,
    /// What follows the samples of this level.
    after_sample: VecDeque<Step>,
    sample: Sample,
    last_code: u32,
}

#[derive(Debug, Default)]
struct Sample {
    taken: usize,
    bad: Refused,
    /// The rows of the ranges that it stands for.
    rows: usize,
}

impl Search {
    /// Begins with the whole of a batch.
    pub(crate) fn new(rows: usize, allowed: usize) -> Self {
        let whole = Step::Try {
            range: 0..rows,
            sibling: None,
        };
        Self {
            allowed,
            level: VecDeque::from([whole]),
            sent: None,
            dirty: Vec::new(),
            after_sample: VecDeque::new(),
            sample: Sample::default(),
            last_code: 0,
        }
    }

    /// Returns the rows to send next, `None` when all are stored or rejected.
    ///
    /// Fails if more rows than allowed are refused with one code; `rejected` are those so far.
    /// The answer must be reported before the next call.
    pub(crate) fn next(
        &mut self,
        rejected: &Refused,
        rng: &mut impl Rng,
    ) -> Result<Option<Range<usize>>, Alike> {
        self.check(rejected)?;
        loop {
            match self.level.pop_front() {
                Some(Step::Cut { range }) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    self.level.push_front(Step::Try {
                        range: range.start..middle,
                        sibling: Some(middle..range.end),
                    });
                }
                Some(Step::Cut { range }) => {
                    self.level.push_front(Step::Try {
                        range,
                        sibling: None,
                    });
                }
                Some(step) => {
                    let range = match &step {
                        Step::Sample { at, .. } => *at..at + 1,
                        Step::Try { range, .. } | Step::Cut { range } => range.clone(),
                    };
                    self.sent = Some(step);
                    return Ok(Some(range));
                }
                None if !self.after_sample.is_empty() => {
                    self.judge_sample(rejected)?;
                    self.level = std::mem::take(&mut self.after_sample);
                }
                None if self.dirty.is_empty() => return Ok(None),
                None => self.begin_level(rng),
            }
        }
    }

    /// The rows were stored.
    pub(crate) fn stored(&mut self) {
        match self.sent.take() {
            Some(Step::Try {
                sibling: Some(range),
                ..
            }) => {
                self.dirty.push((range, self.last_code));
            }
            Some(Step::Sample { range, at }) => self.plan_around(&range, at, None),
            _ => {}
        }
    }

    /// The rows were refused. Returns the row if it was sent alone and is thereby rejected.
    pub(crate) fn refused(&mut self, code: u32) -> Option<usize> {
        self.last_code = code;
        match self.sent.take()? {
            Step::Try { range, sibling } => {
                if let Some(range) = sibling {
                    self.level.push_front(Step::Try {
                        range,
                        sibling: None,
                    });
                }
                if range.len() == 1 {
                    return Some(range.start);
                }
                self.dirty.push((range, code));
                None
            }
            Step::Sample { range, at } => {
                self.plan_around(&range, at, Some(code));
                Some(at)
            }
            Step::Cut { .. } => None,
        }
    }

    /// The rows are too many for the server's memory: send each half, nothing is known of them.
    ///
    /// Returns false for a single row, which stays to be sent.
    pub(crate) fn halve(&mut self) -> bool {
        match self.sent.take() {
            Some(Step::Try { range, sibling }) if range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                let parts = [Some(range.start..middle), Some(middle..range.end), sibling];
                for range in parts.into_iter().flatten().rev() {
                    self.level.push_front(Step::Try {
                        range,
                        sibling: None,
                    });
                }
                true
            }
            sent => {
                self.sent = sent;
                false
            }
        }
    }

    fn begin_level(&mut self, rng: &mut impl Rng) {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.len() < SAMPLE_MIN {
            self.level
                .extend(dirty.into_iter().map(|(range, _)| Step::Cut { range }));
            return;
        }
        let every = dirty.len().div_ceil(SAMPLE_MAX);
        self.sample = Sample::default();
        for (n, (range, _)) in dirty.into_iter().enumerate() {
            self.sample.rows += range.len();
            if n % every == 0 {
                let at = rng.random_range(range.clone());
                self.level.push_back(Step::Sample { range, at });
            } else {
                self.after_sample.push_back(Step::Cut { range });
            }
        }
    }

    /// Plans what is left of a range around its sample.
    fn plan_around(&mut self, range: &Range<usize>, at: usize, refused: Option<u32>) {
        self.sample.taken += 1;
        let left = range.start..at;
        let right = at + 1..range.end;
        if let Some(code) = refused {
            *self.sample.bad.entry(code).or_default() += 1;
        }
        let rest = [left, right].into_iter().filter(|part| !part.is_empty());
        match (refused, rest.collect::<Vec<_>>().as_slice()) {
            // The bad row is in the only part that is left.
            (None, [range]) => self.after_sample.push_back(Step::Cut {
                range: range.clone(),
            }),
            (None, [left, right]) => self.after_sample.push_back(Step::Try {
                range: left.clone(),
                sibling: Some(right.clone()),
            }),
            (_, rest) => {
                let steps = rest.iter().cloned();
                self.after_sample.extend(steps.map(|range| Step::Try {
                    range,
                    sibling: None,
                }));
            }
        }
    }

    /// Every refused range holds at least one refused row.
    fn check(&self, rejected: &Refused) -> Result<(), Alike> {
        let mut refused = rejected.clone();
        for (_, code) in &self.dirty {
            *refused.entry(*code).or_default() += 1;
        }
        match refused.into_iter().max_by_key(|(_, rows)| *rows) {
            Some((code, rows)) if rows > self.allowed => Err(Alike { code, rows }),
            _ => Ok(()),
        }
    }

    fn judge_sample(&self, rejected: &Refused) -> Result<(), Alike> {
        let Some((&code, &bad)) = self.sample.bad.iter().max_by_key(|(_, rows)| **rows) else {
            return Ok(());
        };
        let share = bad as f64 / self.sample.taken as f64;
        let before = rejected
            .get(&code)
            .copied()
            .unwrap_or(0)
            .saturating_sub(bad);
        let estimate = before + (share * self.sample.rows as f64) as usize;
        if estimate as f64 > SAMPLE_MARGIN * self.allowed as f64 {
            return Err(Alike {
                code,
                rows: estimate,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
