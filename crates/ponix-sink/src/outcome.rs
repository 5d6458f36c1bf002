//! What became of the rows of one write.

use crate::guard::RefusedAlike;

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is in the store, by this write or an earlier one.
    Stored,
    /// It cannot be stored for what it holds.
    Rejected(Rejection),
    /// It may be stored later, when what it refers to is there.
    Later {
        /// What it waits for.
        reason: String,
    },
}

/// Why a row is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Who says so.
    pub by: RejectedBy,
    /// The reason in words. It may quote the row: keep it out of the logs.
    pub text: String,
}

/// Who says that a row cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectedBy {
    /// Our own reading of the message, whatever the store may say.
    Decoder,
    /// The identity belongs to another message; it must not be used for this one's dead letter.
    Identity,
    /// The store.
    Store,
}

/// Which rows of a slice are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRows(Vec<bool>);

impl StoredRows {
    /// Says of so many rows that none is stored.
    pub fn none(rows: usize) -> Self {
        Self(vec![false; rows])
    }

    /// Adds rows by their positions.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn extend(&mut self, indexes: &[usize]) {
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

/// Whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The same write can succeed later: the network, the server's load, a replica.
    Transient,
    /// Nothing passes until somebody mends the table, the user or the configuration.
    Fatal,
}

/// A write that ended before every row was stored, rejected or put off.
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
    },
    /// The store takes nothing now.
    #[error("the store cannot be used")]
    Unusable {
        /// The rows that are stored.
        stored: StoredRows,
        /// Whether waiting helps.
        class: ErrorClass,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// So many rows are refused for one reason that the store may be at fault.
    #[error("the store refuses too much")]
    RefusedAlike {
        /// The rows that are stored.
        stored: StoredRows,
        /// What was refused.
        #[source]
        source: RefusedAlike,
    },
}

impl WriteError {
    /// Returns the rows that are stored all the same.
    pub fn stored(&self) -> &StoredRows {
        match self {
            Self::GaveUp { stored }
            | Self::Unusable { stored, .. }
            | Self::RefusedAlike { stored, .. } => stored,
        }
    }
}
