//! From the messages of a batch to rows.

use std::sync::atomic::{AtomicU64, Ordering};

use ponix_nats::{Batch, Disposition};
use uuid::Uuid;

use super::disposition::dead_letter;
use crate::crash_isolation::CrashIsolation;
use crate::decode::{Decode, Decoded};

/// The rows of a batch, and what is settled already.
pub(super) struct DecodedBatch<R> {
    pub(super) rows: Vec<R>,
    pub(super) identities: Vec<Uuid>,
    /// Where the message of each row stands in the batch.
    pub(super) positions: Vec<usize>,
    /// Of every message of the batch.
    pub(super) dispositions: Vec<Disposition>,
}

impl<R> DecodedBatch<R> {
    /// Reads the messages of a batch; those that may end the process in a child first.
    pub(super) async fn decode<D: Decode<Row = R>>(
        batch: &Batch,
        decoder: &D,
        isolation: &CrashIsolation,
        dropped: &AtomicU64,
    ) -> Self {
        let poison = isolation.find_poison(batch).await;
        let mut rows = Self::with_capacity(batch.len());
        for (position, (delivery, poison)) in batch.messages().iter().zip(poison).enumerate() {
            let disposition = match poison {
                Some(dead_letter) => Disposition::DeadLetter(dead_letter),
                None => match decoder.decode(&delivery.into()) {
                    Ok(Decoded::Row { row, identity }) => {
                        rows.push(row, identity, position);
                        Disposition::Ack
                    }
                    Ok(Decoded::Dropped) => {
                        dropped.fetch_add(1, Ordering::Relaxed);
                        Disposition::Ack
                    }
                    Err(err) => dead_letter(err.reason, err.text, None),
                },
            };
            rows.dispositions.push(disposition);
        }
        rows
    }

    fn with_capacity(messages: usize) -> Self {
        Self {
            rows: Vec::with_capacity(messages),
            identities: Vec::with_capacity(messages),
            positions: Vec::with_capacity(messages),
            dispositions: Vec::with_capacity(messages),
        }
    }

    fn push(&mut self, row: R, identity: Uuid, position: usize) {
        self.rows.push(row);
        self.identities.push(identity);
        self.positions.push(position);
    }
}
