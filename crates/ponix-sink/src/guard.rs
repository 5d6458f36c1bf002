//! Whether rows or the store are to blame for what is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Around;

/// Rows over which refusals are counted, the newest writes that hold so many.
const WINDOW_ROWS: usize = 1_000;

/// How much may be refused for one reason before the store, not the rows, is to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RejectLimit {
    /// The largest share of the rows of the window, from 0 to 1, default 0.05.
    pub share_max: f64,
    /// Rows that may be refused whatever their share, while the store still takes a row like those
    /// it took before; default 5.
    pub rows_free: usize,
    /// As `rows_free`, when the store has taken no row that could be tried again; default 2.
    pub rows_free_unknown: usize,
}

impl Default for RejectLimit {
    fn default() -> Self {
        Self {
            share_max: 0.05,
            rows_free: 5,
            rows_free_unknown: 2,
        }
    }
}

/// The answer to the control question: is a row like those stored before still stored?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Yes.
    Stored,
    /// No: the store is at fault.
    Refused,
    /// No row is known to have been stored.
    Unknown,
}

/// The store refuses so much for one reason that it may be at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refused} of {rows} rows are refused with code {code}{}", remark(*.control))]
pub struct RefusedAlike {
    /// The store's code for the reason.
    pub code: String,
    /// How many rows are refused with it, counted or estimated from a sample.
    pub refused: usize,
    /// Out of how many.
    pub rows: usize,
    /// What the control question was answered.
    pub control: Control,
}

fn remark(control: Control) -> &'static str {
    match control {
        Control::Stored => ", which is too many; a row stored before is still taken",
        Control::Refused => {
            ", and so is a row that was stored before: look at the table's constraints and triggers"
        }
        Control::Unknown => ", which is too many; no row was stored before",
    }
}

/// Counts what is refused over writes, and admits rejections or blames the store.
///
/// However slowly events come, at most [`RejectLimit::rows_free`] rows in a window of 1,000, or
/// the share of it if that is more, are rejected for one reason before the store is blamed; none
/// when the control row is refused as well.
#[derive(Debug, Default)]
pub struct RejectGuard {
    limit: RejectLimit,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    writes: VecDeque<Counts>,
    rows: usize,
    refused: HashMap<String, usize>,
}

#[derive(Debug)]
struct Counts {
    rows: usize,
    refused: HashMap<String, usize>,
}

impl RejectGuard {
    /// Makes a guard that has seen nothing.
    pub fn new(limit: RejectLimit) -> Self {
        Self {
            limit,
            window: Mutex::default(),
        }
    }

    /// Returns how many of so many rows may be refused with any one code at most, should the control
    /// row be taken. A sink may stop looking for bad rows above it.
    pub fn allowance(&self, rows: usize, around: Around) -> usize {
        self.allowed(rows, around, Control::Stored)
    }

    /// Admits the refusals of a write, by code, or blames the store.
    ///
    /// Admitted refusals count in the window from then on, as do the rows of the write. What is
    /// not admitted does not count: it comes again.
    ///
    /// # Errors
    /// [`RefusedAlike`]: nothing of the write is to be rejected.
    pub fn admit(
        &self,
        rows: usize,
        refused: HashMap<String, usize>,
        around: Around,
        control: Control,
    ) -> Result<(), RefusedAlike> {
        let mut window = self.window();
        for (code, count) in &refused {
            let before = window.refused.get(code).copied().unwrap_or(0);
            let blamed = control == Control::Refused
                || before + count > limit(self.limit, window.rows + rows, around, control);
            if blamed {
                return Err(RefusedAlike {
                    code: code.clone(),
                    refused: before + count,
                    rows: window.rows + rows,
                    control,
                });
            }
        }
        window.add(Counts { rows, refused });
        Ok(())
    }

    fn allowed(&self, rows: usize, around: Around, control: Control) -> usize {
        let window = self.window();
        let before = window.refused.values().copied().max().unwrap_or(0);
        limit(self.limit, window.rows + rows, around, control).saturating_sub(before)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit(limit: RejectLimit, rows: usize, around: Around, control: Control) -> usize {
    let free = match control {
        Control::Stored => limit.rows_free,
        Control::Unknown => limit.rows_free_unknown,
        Control::Refused => 0,
    };
    let share = |rows: usize| (limit.share_max.clamp(0.0, 1.0) * rows as f64) as usize;
    // What was rejected around it has used up its part of the share there.
    let around = share(around.rows + rows).saturating_sub(around.rejected);
    free.max(share(rows)).max(around)
}

impl Window {
    fn add(&mut self, counts: Counts) {
        self.rows += counts.rows;
        for (code, count) in &counts.refused {
            *self.refused.entry(code.clone()).or_default() += count;
        }
        self.writes.push_back(counts);
        while let Some(oldest) = self.writes.front() {
            if self.rows - oldest.rows < WINDOW_ROWS {
                break;
            }
            let oldest = self.writes.pop_front().expect("there is one");
            self.rows -= oldest.rows;
            for (code, count) in oldest.refused {
                if let Some(left) = self.refused.get_mut(&code) {
                    *left -= count;
                }
            }
            self.refused.retain(|_, left| *left > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: usize) -> HashMap<String, usize> {
        if count == 0 {
            HashMap::new()
        } else {
            HashMap::from([("469".to_owned(), count)])
        }
    }

    fn admit(guard: &RejectGuard, rows: usize, count: usize, control: Control) -> bool {
        let admitted = guard.admit(rows, refused(count), Around::default(), control);
        admitted.is_ok()
    }

    #[test]
    fn a_share_of_a_large_write_is_admitted_and_more_is_not() {
        assert!(admit(&RejectGuard::default(), 5_000, 250, Control::Stored));
        assert!(!admit(&RejectGuard::default(), 5_000, 251, Control::Stored));
    }

    #[test]
    fn nothing_is_admitted_when_the_control_row_is_refused() {
        assert!(!admit(&RejectGuard::default(), 5_000, 1, Control::Refused));
    }

    #[test]
    fn one_row_at_a_time_only_a_handful_is_admitted() {
        for (control, most) in [(Control::Stored, 5), (Control::Unknown, 2)] {
            let guard = RejectGuard::default();
            let admitted = (0..100).filter(|_| admit(&guard, 1, 1, control)).count();
            assert_eq!(admitted, most, "{control:?}");
        }
    }

    #[test]
    fn good_rows_make_room_for_bad_ones() {
        let guard = RejectGuard::default();
        assert!(admit(&guard, 1_000, 0, Control::Stored));
        let admitted = (0..200).filter(|_| admit(&guard, 1, 1, Control::Stored));
        assert_eq!(admitted.count(), 52, "5 % of the rows seen");
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let guard = RejectGuard::default();
        assert!(admit(&guard, 5, 5, Control::Stored));
        assert!(!admit(&guard, 1, 1, Control::Stored));
        for _ in 0..1_000 {
            assert!(admit(&guard, 1, 0, Control::Stored));
        }
        assert_eq!(guard.allowance(1, Around::default()), 50);
    }

    #[test]
    fn what_still_lies_in_the_window_counts() {
        let guard = RejectGuard::default();
        assert!(admit(&guard, 1_000, 0, Control::Stored));
        assert!(admit(&guard, 5, 5, Control::Stored));
        // The first write leaves the window, the refusals do not.
        assert!(admit(&guard, 995, 0, Control::Stored));
        assert_eq!(guard.allowance(1_000, Around::default()), 100 - 5);
    }

    #[test]
    fn an_error_tells_how_many_of_how_many_and_what_to_look_at() {
        let guard = RejectGuard::default();
        assert!(admit(&guard, 5, 5, Control::Stored));
        for (control, told) in [
            (Control::Stored, "a row stored before is still taken"),
            (Control::Unknown, "no row was stored before"),
            (Control::Refused, "look at the table's constraints"),
        ] {
            let refused = guard.admit(2, refused(2), Around::default(), control);
            let text = refused.expect_err("7 of 7").to_string();
            assert!(
                text.starts_with("7 of 7 rows are refused with code 469"),
                "{text}"
            );
            assert!(text.contains(told), "{text}");
        }
    }

    #[test]
    fn codes_are_counted_apart() {
        let guard = RejectGuard::default();
        assert!(admit(&guard, 5, 5, Control::Stored));
        let other = HashMap::from([("117".to_owned(), 5)]);
        let admitted = guard.admit(5, other, Around::default(), Control::Stored);
        assert_eq!(admitted, Ok(()));
    }

    #[test]
    fn what_lies_around_widens_the_share() {
        let guard = RejectGuard::default();
        let around = |rows, rejected| Around { rows, rejected };
        assert!(
            guard
                .admit(50, refused(50), around(950, 0), Control::Stored)
                .is_ok()
        );
        let guard = RejectGuard::default();
        assert!(
            guard
                .admit(50, refused(50), around(950, 10), Control::Stored)
                .is_err()
        );
    }
}
