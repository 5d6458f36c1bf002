//! What became of the rows of one write.

use super::search::RejectedRow;
use crate::error::{ErrorKind, InsertError};

/// How many rows of one write may be refused with the same code before the store, not the rows, is
/// to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RejectLimit {
    /// The largest share of the rows, from 0 to 1, default 0.05. With 1 every row may be condemned.
    pub share_max: f64,
    /// The fewest refused rows that can be too many, default 3: of one or two rows nothing can be
    /// concluded, so a write of them never ends in [`WriteError::RefusedAlike`].
    pub rows_min: usize,
}

impl Default for RejectLimit {
    fn default() -> Self {
        Self {
            share_max: 0.05,
            rows_min: 3,
        }
    }
}

impl RejectLimit {
    /// Returns how many of so many rows may be refused alike.
    pub(crate) fn allowed(self, rows: usize) -> usize {
        let share = (self.share_max.clamp(0.0, 1.0) * rows as f64) as usize;
        share.max(self.rows_min.saturating_sub(1))
    }
}

/// A write that came to its end: every row is stored or condemned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOutcome {
    pub(crate) rows: usize,
    pub(crate) rejected: Vec<RejectedRow>,
}

impl WriteOutcome {
    /// Returns the number of rows written, condemned ones included.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the condemned rows in the order of the slice; all others are stored.
    pub fn rejected(&self) -> &[RejectedRow] {
        &self.rejected
    }

    /// Gives out the condemned rows in the order of the slice.
    pub fn into_rejected(self) -> Vec<RejectedRow> {
        self.rejected
    }

    /// Returns why a row was condemned, `None` if it is stored.
    pub fn rejection(&self, index: usize) -> Option<&RejectedRow> {
        let at = self
            .rejected
            .binary_search_by_key(&index, |row| row.index)
            .ok()?;
        Some(&self.rejected[at])
    }
}

/// Which rows of a slice are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRows(Vec<bool>);

impl StoredRows {
    pub(crate) fn none(rows: usize) -> Self {
        Self(vec![false; rows])
    }

    pub(crate) fn extend(&mut self, indexes: &[usize]) {
        for &index in indexes {
            self.0[index] = true;
        }
    }

    /// Tells whether the row at this position is stored.
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or(false)
    }

    /// Returns how many rows are stored.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|stored| **stored).count()
    }
}

/// A write that ended before every row was stored or condemned.
///
/// Rows that [`WriteError::stored`] does not name are to be written again, none is to be
/// dead-lettered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The caller gave up.
    #[error("gave up with {} rows stored", stored.count())]
    GaveUp {
        /// The rows that are stored.
        stored: StoredRows,
        /// The last failure, if there was one.
        #[source]
        source: Option<InsertError>,
    },
    /// Nothing can be stored until somebody mends the table, the user or the settings.
    #[error("nothing can be stored until clickhouse is mended")]
    Fatal {
        /// The rows that are stored.
        stored: StoredRows,
        /// Why.
        #[source]
        source: InsertError,
    },
    /// So many rows are refused for one reason that the store may be at fault.
    #[error("about {refused} rows are refused alike, with code {code}")]
    RefusedAlike {
        /// The rows that are stored.
        stored: StoredRows,
        /// The number of ClickHouse's exception.
        code: u32,
        /// How many rows are refused with it, counted or estimated from a sample.
        refused: usize,
    },
}

impl WriteError {
    /// Returns the rows that are stored all the same.
    pub fn stored(&self) -> &StoredRows {
        match self {
            Self::GaveUp { stored, .. }
            | Self::Fatal { stored, .. }
            | Self::RefusedAlike { stored, .. } => stored,
        }
    }

    /// Tells what the failure asks for: [`ErrorKind::Transient`] after giving up,
    /// [`ErrorKind::Rejected`] for rows refused alike.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::GaveUp { .. } => ErrorKind::Transient,
            Self::Fatal { .. } => ErrorKind::Fatal,
            Self::RefusedAlike { .. } => ErrorKind::Rejected,
        }
    }

    /// Returns the number of ClickHouse's exception, if there was one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::GaveUp { source, .. } => source.as_ref().and_then(InsertError::code),
            Self::Fatal { source, .. } => source.code(),
            Self::RefusedAlike { code, .. } => Some(*code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_share_but_never_one_or_two_rows() {
        let limit = RejectLimit::default();
        assert_eq!([1, 20, 5_000].map(|rows| limit.allowed(rows)), [2, 2, 250]);
        let every = RejectLimit {
            share_max: 1.0,
            rows_min: 0,
        };
        assert_eq!(every.allowed(10), 10);
        let none = RejectLimit {
            share_max: 0.0,
            rows_min: 1,
        };
        assert_eq!(none.allowed(5_000), 0);
    }

    #[test]
    fn a_rejection_is_found_by_its_row() {
        let row = |index| RejectedRow {
            index,
            code: 117,
            message: "bad".into(),
        };
        let outcome = WriteOutcome {
            rows: 9,
            rejected: vec![row(2), row(7)],
        };
        assert_eq!(outcome.rejection(7), Some(&row(7)));
        assert_eq!(outcome.rejection(3), None);
    }
}
