//! Writing rows: the sink once, and once more with what lies around them in the stream.

use ponix_nats::ProcessError;
use ponix_sink::{Around, Attempt, Control, ErrorClass, RejectGuard, RowOutcome, Sink, WriteError};
use tokio_util::sync::CancellationToken;

use crate::stream_window::{StreamWindow, Stretch};

/// Writes rows. When too many of them are refused alike and none is stored, they are judged
/// together with what lies around them in the stream, and written once more.
pub(super) async fn write<S: Sink>(
    sink: &S,
    guard: &RejectGuard,
    window: &StreamWindow,
    rows: &S::Encoded,
    stretch: Option<&Stretch>,
    give_up: &CancellationToken,
) -> Result<Vec<RowOutcome>, WriteError> {
    let attempt = Attempt {
        guard,
        around: Around::default(),
        give_up,
    };
    let written = sink.write(rows, attempt).await;
    let (Err(WriteError::RefusedAlike { stored, source }), Some(stretch)) = (&written, stretch)
    else {
        return written;
    };
    // What is stored would be stored once more; the consumer comes back with the rest alone.
    if stored.count() > 0 || source.control == Control::Refused {
        return written;
    }
    match window.around(sink, stretch).await {
        Some(around) => {
            let attempt = Attempt { around, ..attempt };
            sink.write(rows, attempt).await
        }
        None => written,
    }
}

/// Nothing is dead-lettered for what may be the store's fault. `stored` are the positions of the
/// messages that need no more.
pub(super) fn process_error(err: WriteError, stored: Vec<usize>) -> ProcessError {
    match err {
        WriteError::GaveUp { .. } => ProcessError::GaveUp { stored },
        WriteError::Unusable { class, source, .. } => ProcessError::StoreUnusable {
            stored,
            waiting_helps: class == ErrorClass::Transient,
            source,
        },
        err => ProcessError::StoreUnusable {
            stored,
            waiting_helps: false,
            source: err.into(),
        },
    }
}
