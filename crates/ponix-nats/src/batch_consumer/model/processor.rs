//! A processor as those of the services are, and the store behind it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::world::{PANICS, REFUSED, UNDECODABLE, World};
use crate::batch_consumer::{BatchProcessor, ProcessError};
use crate::delivery::Batch;
use crate::processing_result::{DeadLetter, ProcessingResult};
use ponix_wire::DeadLetterReason;

/// Decodes, stores, and says what became of each message.
pub(super) struct ModelProcessor {
    world: Arc<World>,
}

/// How an INSERT ended.
enum Insert {
    Stored,
    /// No answer; stored or not.
    Unknown,
    /// Nothing can be stored.
    Broken,
}

impl ModelProcessor {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    async fn insert(&self, rows: &[Uuid]) -> Insert {
        self.pause(30).await;
        {
            let state = &mut *self.world.state();
            if !state.store_is_up {
                return Insert::Unknown;
            }
            if state.schema_is_broken {
                return Insert::Broken;
            }
            if state.token_bug && !state.tokens.insert(rows.to_vec()) {
                return Insert::Stored; // the token says so
            }
            if !state.is_healed && state.rng.random_bool(0.05) {
                return Insert::Unknown; // killed before the part was written
            }
            for row in rows {
                *state.table.entry(*row).or_default() += 1;
            }
            if !state.is_healed && state.rng.random_bool(0.1) {
                return Insert::Unknown; // committed, and the answer lost
            }
        }
        self.pause(30).await;
        Insert::Stored
    }

    async fn pause(&self, max_ms: u64) {
        let pause_ms = self.world.state().rng.random_range(0..max_ms);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

impl BatchProcessor for ModelProcessor {
    async fn process(
        &self,
        batch: &Batch,
        give_up: &CancellationToken,
    ) -> Result<ProcessingResult, ProcessError> {
        let mut result = ProcessingResult::ack_all(batch.len());
        let (mut rows, mut positions) = (Vec::new(), Vec::new());
        for (position, delivery) in batch.messages().iter().enumerate() {
            let reason = match delivery.payload()[0] {
                UNDECODABLE => DeadLetterReason::Decode,
                REFUSED => DeadLetterReason::RejectedByStore,
                // A panic without the hook, which would print each of them.
                PANICS => std::panic::resume_unwind(Box::new("a payload it cannot stand")),
                _ => {
                    rows.push(delivery.identity());
                    positions.push(position);
                    continue;
                }
            };
            let dead_letter = DeadLetter {
                reason,
                error: "bad".to_owned(),
                event_id: None,
            };
            result = result.with_dead_letter(position, dead_letter);
        }
        // Two INSERTs, as a batch of many months has, so that a batch can be stored in part.
        let half = rows.len() / 2;
        let mut stored = 0;
        for part in [&rows[..half], &rows[half..]] {
            while !part.is_empty() {
                match self.insert(part).await {
                    Insert::Stored => break,
                    Insert::Unknown => self.pause(500).await,
                    Insert::Broken => {
                        let stored = positions[..stored].to_vec();
                        return Err(ProcessError::StoreUnusable {
                            waiting_helps: false,
                            stored,
                            source: "broken".into(),
                        });
                    }
                }
                if give_up.is_cancelled() {
                    return Err(ProcessError::GaveUp {
                        stored: positions[..stored].to_vec(),
                    });
                }
            }
            stored += part.len();
        }
        Ok(result)
    }
}
