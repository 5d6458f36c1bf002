//! From the messages of a batch to rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use ponix_nats::{Batch, DeadLetter, Delivery};
use ponix_sink::StoredRows;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::disposition::{Settling, dead_letter};
use crate::crash_isolation::{CrashIsolation, Poison};
use crate::decode::{Decode, Decoded, Message};
use crate::unpacked::Unpacked;

/// The rows of a batch, and what is settled already.
pub(super) struct DecodedBatch<R> {
    pub(super) rows: Vec<R>,
    /// Of every row, in their order: messages as in the batch, and in each by the index.
    pub(super) origins: Vec<Origin>,
    /// Of every message of the batch.
    pub(super) messages: Vec<Settling>,
}

/// Where a row comes from.
#[derive(Debug)]
pub(super) struct Origin {
    /// Where its message stands in the batch.
    pub(super) position: usize,
    pub(super) identity: Uuid,
    /// Its place in a packed message.
    pub(super) event: Option<EventPlace>,
}

/// Where an event lies in its packed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventPlace {
    pub(super) index: u32,
    pub(super) bytes: Range<usize>,
}

impl EventPlace {
    fn of(delivery: &Delivery, index: Option<u32>, event: &Message<'_>) -> Option<Self> {
        let start = event.payload.as_ptr() as usize - delivery.payload().as_ptr() as usize;
        index.map(|index| Self {
            index,
            bytes: start..start + event.payload.len(),
        })
    }
}

impl<R> DecodedBatch<R> {
    /// Reads the messages of a batch; those that may end the process in a child first, which `give_up`
    /// ends: `None`, and nothing was read.
    pub(super) async fn decode<D: Decode<Row = R>>(
        batch: &Batch,
        decoder: &D,
        isolation: &CrashIsolation,
        dropped: &AtomicU64,
        events_max: usize,
        give_up: &CancellationToken,
    ) -> Option<Self> {
        let format = decoder.pack_format();
        let poison = isolation.find_poison(batch, format, events_max, give_up);
        let poison = poison.await?;
        let mut rows = Self::with_capacity(batch.len());
        for (delivery, poison) in batch.messages().iter().zip(poison) {
            let poison = match poison {
                Poison::Message(letter) => {
                    rows.messages.push(Settling::whole(letter));
                    continue;
                }
                Poison::Events(letters) => letters,
                Poison::None => HashMap::new(),
            };
            match Unpacked::new(delivery.into(), format, events_max) {
                Ok(events) => rows.decode_events(delivery, &events, decoder, poison, dropped),
                Err(err) => {
                    let letter = dead_letter(err.reason, err.text, None);
                    rows.messages.push(Settling::whole(letter));
                }
            }
        }
        Some(rows)
    }

    fn decode_events<D: Decode<Row = R>>(
        &mut self,
        delivery: &Delivery,
        events: &Unpacked<'_>,
        decoder: &D,
        mut poison: HashMap<u32, DeadLetter>,
        dropped: &AtomicU64,
    ) {
        let position = self.messages.len();
        let mut message = Settling::new(events.is_packed().then_some(events.len()));
        for (index, event) in events.events() {
            let place = EventPlace::of(delivery, index, &event);
            let poison = index.and_then(|index| poison.remove(&index));
            let letter = match poison {
                Some(letter) => letter,
                None => match decoder.decode(&event) {
                    Ok(Decoded::Row { row, identity }) => {
                        self.rows.push(row);
                        self.origins.push(Origin {
                            position,
                            identity,
                            event: place,
                        });
                        continue;
                    }
                    Ok(Decoded::Dropped) => {
                        dropped.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Err(err) => dead_letter(err.reason, err.text, None),
                },
            };
            message.add_dead(delivery, place.as_ref(), letter);
        }
        self.messages.push(message);
    }

    fn with_capacity(messages: usize) -> Self {
        Self {
            rows: Vec::with_capacity(messages),
            origins: Vec::with_capacity(messages),
            messages: Vec::with_capacity(messages),
        }
    }
}

/// Returns the positions of the messages that need no more when these of the rows are stored: all of
/// their rows are, and nothing of them is dead.
pub(super) fn wholly_stored(
    origins: &[Origin],
    messages: &[Settling],
    stored: &StoredRows,
) -> Vec<usize> {
    let of_one = origins.chunk_by(|a, b| a.position == b.position);
    let mut row = 0;
    let mut positions = Vec::new();
    for origins in of_one {
        let rows = row..row + origins.len();
        row = rows.end;
        let position = origins[0].position;
        if rows.into_iter().all(|row| stored.contains(row)) && !messages[position].has_dead() {
            positions.push(position);
        }
    }
    positions
}
