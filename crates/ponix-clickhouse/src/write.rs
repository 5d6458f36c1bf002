//! Writes encoded batches: stored, rejected, or the store is to blame.

pub(crate) mod search;

use std::collections::HashMap;

use ponix_sink::{
    Attempt, Control, ErrorClass, RefusedAlike, RejectedBy, Rejection, RowOutcome, StoredRows,
    WriteError,
};

use self::search::{Alike, Refused, Search};
use crate::RetryReason;
use crate::classify::ExceptionClass;
use crate::encode::EncodedBatch;
use crate::error::{ErrorKind, InsertError, RequestError};
use crate::insert::Inserter;

/// Writes the batches of one slice of rows, once, and answers for each row.
///
/// An INSERT that is refused for its data is bisected down to the bad rows, at most 2·⌈log₂ n⌉ more
/// INSERTs for each of them, and one for the first that is refused alone; a lack of memory on the server halves it. Any other failure ends the
/// write. Rejections are given out when the guard admits them.
///
/// # Errors
/// [`WriteError`], which says which rows are stored all the same.
///
/// # Cancel safety
/// See [`Sink::write`](ponix_sink::Sink::write).
pub(crate) async fn write(
    inserter: &Inserter,
    batches: &[EncodedBatch],
    attempt: Attempt<'_>,
) -> Result<Vec<RowOutcome>, WriteError> {
    let rows = batches.iter().map(EncodedBatch::rows).sum();
    let mut write = Write {
        inserter,
        attempt,
        allowed: attempt.guard.allowance(rows, attempt.around),
        outcomes: vec![None; rows],
        refused: Refused::new(),
        sent: false,
        control: None,
    };
    for batch in batches {
        if let Err(stop) = write.batch(batch).await {
            return Err(write.stopped(stop).await);
        }
    }
    write.finish().await
}

/// How far a write has come.
struct Write<'a> {
    inserter: &'a Inserter,
    attempt: Attempt<'a>,
    /// Rows that may be refused with one code before the search is given up.
    allowed: usize,
    outcomes: Vec<Option<RowOutcome>>,
    refused: Refused,
    /// Whether the first INSERT went out, which happens even if the caller has given up.
    sent: bool,
    /// What became of a row of before, asked when the first row was refused alone.
    control: Option<Control>,
}

enum Sent {
    Stored,
    TooLarge,
    Refused { code: u32, message: String },
}

enum Stop {
    GaveUp,
    Unusable(InsertError),
    Alike(Alike),
}

impl Write<'_> {
    async fn batch(&mut self, batch: &EncodedBatch) -> Result<(), Stop> {
        let metrics = self.inserter.metrics();
        let mut search = Search::new(batch.rows(), self.allowed);
        loop {
            let next = search
                .next(&self.refused, &mut rand::rng())
                .map_err(Stop::Alike)?;
            let Some(range) = next else { return Ok(()) };
            let mut part = batch.part(range);
            let mut sent = self.insert(&part).await;
            // As text, before a row is looked for or the store is given up: it may be the block that is
            // refused.
            if let (Some(_), Some(code)) = (part.block(), refusal(&sent)) {
                part = part.without_block();
                sent = self.insert(&part).await;
                if matches!(sent, Ok(Sent::Stored)) {
                    self.inserter.blocks().note(false);
                    let rows = part.rows();
                    tracing::warn!(code, rows, "refused as columns, stored as text");
                }
            }
            match sent? {
                Sent::Stored => {
                    search.stored();
                    for &index in part.indexes() {
                        self.outcomes[index] = Some(RowOutcome::Stored);
                    }
                }
                Sent::TooLarge => {
                    search.halve();
                    metrics.retry(RetryReason::Halved);
                }
                Sent::Refused { code, message } => {
                    if part.rows() > 1 {
                        metrics.retry(RetryReason::Bisected);
                    }
                    if let Some(row) = search.refused(code) {
                        *self.refused.entry(code).or_default() += 1;
                        self.outcomes[batch.indexes()[row]] =
                            Some(RowOutcome::Rejected(Rejection {
                                by: RejectedBy::Store,
                                text: format!("Code: {code}. {message}"),
                            }));
                    }
                }
            }
        }
    }

    /// Sends one part; a lone row twice before it is refused, if nobody listed the code, or if it is
    /// the first: then a row of before is sent in between, so that what is refused is refused by a
    /// store that takes others. One that was mended just now takes both.
    async fn insert(&mut self, part: &EncodedBatch) -> Result<Sent, Stop> {
        let mut confirmed = false;
        loop {
            if self.sent && self.attempt.give_up.is_cancelled() {
                return Err(Stop::GaveUp);
            }
            self.sent = true;
            let Err(error) = self.inserter.insert(part).await else {
                return Ok(Sent::Stored);
            };
            let lone = part.rows() == 1;
            match error.kind() {
                ErrorKind::Transient if error.is_too_large() && !lone => return Ok(Sent::TooLarge),
                ErrorKind::Transient | ErrorKind::Fatal => return Err(Stop::Unusable(error)),
                ErrorKind::Rejected => {}
            }
            let asked = self.control.is_some();
            let again = !asked || error.class() == Some(ExceptionClass::Unlisted);
            if !lone || confirmed || !again {
                return Ok(Sent::refused(error));
            }
            if !asked {
                let control = self.inserter.control().await;
                self.control = Some(control.map_err(Stop::Unusable)?);
            }
            confirmed = true;
            self.inserter.metrics().retry(RetryReason::Confirmed);
        }
    }

    /// Has the guard judge what was refused.
    async fn finish(self) -> Result<Vec<RowOutcome>, WriteError> {
        let control = match self.control {
            _ if self.refused.is_empty() => Ok(Control::Unknown),
            Some(Control::Refused) => Ok(Control::Refused),
            // Again: the store may have come to be at fault since.
            _ => self.inserter.control().await,
        };
        let control = match control {
            Ok(control) => control,
            Err(error) => return Err(self.stopped(Stop::Unusable(error)).await),
        };
        let refused: HashMap<String, usize> = self
            .refused
            .iter()
            .map(|(code, rows)| (code.to_string(), *rows))
            .collect();
        let rejected = refused.values().sum();
        let rows = self.outcomes.len();
        let admitted = self
            .attempt
            .guard
            .admit(rows, refused, self.attempt.around, control);
        if let Err(source) = admitted {
            let stored = self.stored();
            return Err(WriteError::RefusedAlike { stored, source });
        }
        self.inserter.metrics().rows_rejected(rejected);
        if rejected > 0 {
            tracing::warn!(rows, rejected, codes = ?self.refused, "rows refused");
        }
        Ok(self.outcomes.into_iter().flatten().collect())
    }

    async fn stopped(self, stop: Stop) -> WriteError {
        let stored = self.stored();
        match stop {
            Stop::GaveUp => WriteError::GaveUp { stored },
            Stop::Unusable(error) => {
                let class = if error.kind() == ErrorKind::Transient {
                    self.inserter.metrics().retry(RetryReason::Transient);
                    ErrorClass::Transient
                } else {
                    ErrorClass::Fatal
                };
                WriteError::Unusable {
                    stored,
                    class,
                    source: error.into(),
                }
            }
            Stop::Alike(Alike { code, rows }) => WriteError::RefusedAlike {
                stored,
                source: RefusedAlike {
                    code: code.to_string(),
                    refused: rows,
                    rows: self.outcomes.len(),
                    // Asked for the operator's eyes; the refusals are too many in any case.
                    control: self.inserter.control().await.unwrap_or(Control::Unknown),
                },
            },
        }
    }

    fn stored(&self) -> StoredRows {
        let mut stored = StoredRows::none(self.outcomes.len());
        for (index, outcome) in self.outcomes.iter().enumerate() {
            if matches!(outcome, Some(RowOutcome::Stored)) {
                stored.extend(&[index]);
            }
        }
        stored
    }
}

/// What a server says that does not know the format of a block, or a type in it: ILLEGAL_COLUMN,
/// NOT_IMPLEMENTED, UNKNOWN_TYPE, UNKNOWN_FORMAT, SUPPORT_IS_DISABLED.
const UNKNOWN_FORM: [u32; 5] = [44, 48, 50, 73, 344];

/// Returns the code with which rows, or the form they were sent in, are refused.
fn refusal(sent: &Result<Sent, Stop>) -> Option<u32> {
    match sent {
        Ok(Sent::Refused { code, .. }) => Some(*code),
        Err(Stop::Unusable(error)) => error.code().filter(|code| UNKNOWN_FORM.contains(code)),
        _ => None,
    }
}

impl Sent {
    fn refused(error: InsertError) -> Self {
        match error {
            RequestError::Server { code, message } => Self::Refused { code, message },
            other => Self::Refused {
                code: 0,
                message: other.to_string(),
            },
        }
    }
}
