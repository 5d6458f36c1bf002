#![doc = include_str!("../README.md")]

mod guard;
mod outcome;
mod record;

use std::ops::RangeInclusive;

use tokio_util::sync::CancellationToken;

pub use crate::guard::{Control, RefusedAlike, RejectGuard, RejectLimit};
pub use crate::outcome::{
    BoxError, ErrorClass, RejectedBy, Rejection, RowOutcome, StoredRows, WriteError,
};
pub use crate::record::Record;

/// A store that takes rows.
pub trait Sink: Send + Sync + 'static {
    /// What it stores.
    type Row: Send + Sync + 'static;

    /// Rows as they go to the store. For many stores that is what they take on the wire, so that the
    /// rows themselves need no memory while the store is at work.
    type Encoded: Send + Sync + 'static;

    /// Makes rows ready to be written, as often as need be. Nothing is stored yet.
    ///
    /// # Errors
    /// [`WriteError::Unusable`]: the store had to be asked, and cannot be used.
    ///
    /// # Cancel safety
    /// Safe: no row is touched.
    fn encode(
        &self,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Self::Encoded, WriteError>> + Send;

    /// Writes rows, once, and answers for each in the order they were encoded in.
    ///
    /// A row that is refused does not keep its neighbours from being stored. Rows that were stored
    /// before are [`RowOutcome::Stored`]: copies become one in the store.
    ///
    /// # Errors
    /// [`WriteError`], which says which rows are stored all the same. Writing all rows again is
    /// right in every case.
    ///
    /// # Cancel safety
    /// Not safe to drop if the caller needs to know what is stored; cancel [`Attempt::give_up`]
    /// instead. After a drop, write all rows again.
    fn write(
        &self,
        rows: &Self::Encoded,
        attempt: Attempt<'_>,
    ) -> impl Future<Output = Result<Vec<RowOutcome>, WriteError>> + Send;

    /// Asks the store whether it is there.
    ///
    /// # Errors
    /// What it answered, or that it did not.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    fn ping(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Counts the events of a part of the stream that are stored, each once, where the store can
    /// tell: by the sequence of their message, which may carry many, and by its publish time in
    /// nanoseconds since 1970, as sequences may be used again after a loss.
    ///
    /// # Errors
    /// The store does not answer.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    fn stored_between(
        &self,
        sequences: RangeInclusive<u64>,
        published_at_ns: RangeInclusive<i64>,
    ) -> impl Future<Output = Result<Option<u64>, BoxError>> + Send {
        let _ = (sequences, published_at_ns);
        async { Ok(None) }
    }
}

/// What one write goes by.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Must admit every rejection that is the store's word alone.
    pub guard: &'a RejectGuard,
    /// Rows and rejections known from around this write, see [`RejectGuard::admit`].
    pub around: Around,
    /// Looked at between two requests to the store: when cancelled, the write ends with
    /// [`WriteError::GaveUp`].
    pub give_up: &'a CancellationToken,
}

/// What is known of the messages around those of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// Rows that are stored, or were rejected.
    pub rows: usize,
    /// Those of them that were rejected.
    pub rejected: usize,
}
