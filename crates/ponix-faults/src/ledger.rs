//! What was published, and what the stream has acknowledged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::Pipeline;
use crate::event::{Event, Fate, IdentifiedBy};

/// One event as the publisher knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose event it is.
    pub pipeline: Pipeline,
    /// What has to become of it, if it was accepted.
    pub fate: Fate,
    /// Where its identity comes from.
    pub identified_by: IdentifiedBy,
    /// Its sequence in the stream, once a PubAck told it.
    pub acknowledged: Option<u64>,
}

/// Every event that was attempted, by its key. Clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Arc<Mutex<HashMap<Uuid, Entry>>>,
}

/// How many events there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Events that were attempted.
    pub attempted: u64,
    /// Events with a PubAck.
    pub acknowledged: u64,
    /// Poison among the attempted.
    pub poison: u64,
}

impl Ledger {
    /// Notes that an event is about to be published. Before, not after: what is stored without
    /// having been noted counts as invented.
    pub fn attempt(&self, event: &Event) {
        self.entries().insert(
            event.key,
            Entry {
                pipeline: event.pipeline,
                fate: event.fate,
                identified_by: event.identified_by,
                acknowledged: None,
            },
        );
    }

    /// Notes that the stream has the event.
    pub fn acknowledge(&self, key: Uuid, sequence: u64) {
        if let Some(entry) = self.entries().get_mut(&key) {
            entry.acknowledged.get_or_insert(sequence);
        }
    }

    /// Says that these events, although accepted, are lost by what was done to the stream.
    pub fn forget_acknowledgements(&self, keys: impl IntoIterator<Item = Uuid>) {
        let mut entries = self.entries();
        for key in keys {
            if let Some(entry) = entries.get_mut(&key) {
                entry.acknowledged = None;
            }
        }
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for entry in self.entries().values() {
            totals.attempted += 1;
            totals.acknowledged += u64::from(entry.acknowledged.is_some());
            totals.poison += u64::from(entry.fate == Fate::DeadLetter);
        }
        totals
    }

    /// A copy of a pipeline's entries.
    pub fn of(&self, pipeline: Pipeline) -> HashMap<Uuid, Entry> {
        let entries = self.entries();
        let of_pipeline = entries.iter().filter(|(_, e)| e.pipeline == pipeline);
        of_pipeline.map(|(key, entry)| (*key, *entry)).collect()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
