//! What the servers say of each pipeline.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use ponix_nats::async_nats::jetstream::consumer::Info;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{RangeReader, held_range};
use ponix_wire::{PACK_EVENTS_MAX, unpack};
use uuid::Uuid;

use crate::event::key_in;
use crate::oracle::{Findings, Found, Judgement, judge};
use crate::world::World;
use crate::{IdentifiedBy, Pipeline};

impl World {
    /// Asks the servers for everything about the envelopes and judges it.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn judge(&self) -> Result<Judgement> {
        self.judge_pipeline(Pipeline::Envelopes).await
    }

    /// As [`judge`](Self::judge), of another pipeline.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn judge_pipeline(&self, pipeline: Pipeline) -> Result<Judgement> {
        let findings = self.findings(pipeline).await?;
        Ok(judge(&self.ledger().of(pipeline), &findings))
    }

    /// What the servers say of a pipeline.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn findings(&self, pipeline: Pipeline) -> Result<Findings> {
        let entries = self.ledger().of(pipeline);
        let info = self.consumer_of(pipeline).await?;
        let anonymous = entries
            .values()
            .any(|entry| entry.identified_by == IdentifiedBy::Position);
        let readable = self.readable_events(pipeline).await?;
        Ok(Findings {
            rows: self.rows_of(pipeline).await?,
            readable,
            viewed: match pipeline {
                Pipeline::Envelopes if self.view => Some(self.viewed_events().await?),
                _ => None,
            },
            dead: self.dead_letters(pipeline).await?,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending as u64,
            position_identities: if anonymous {
                self.position_identities(pipeline).await?
            } else {
                HashMap::new()
            },
        })
    }

    /// Keys of the messages that a pipeline's stream holds.
    ///
    /// # Errors
    /// NATS does not answer.
    pub async fn keys_in_stream(&self, pipeline: Pipeline) -> Result<HashSet<Uuid>> {
        let identities = self.position_identities(pipeline).await?;
        Ok(identities.into_keys().collect())
    }

    /// Rows in a pipeline's table, copies included.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn rows_of(&self, pipeline: Pipeline) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", pipeline.table());
        if pipeline != Pipeline::Messages {
            return self.number(&sql).await;
        }
        let row = self.postgres_client().await?.query_one(&sql, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }

    /// A pipeline's stream.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn stream_of(&self, pipeline: Pipeline) -> Result<Stream> {
        self.stream_named(pipeline.stream()).await
    }

    /// The stream of a pipeline's dead letters.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn dead_letters_of(&self, pipeline: Pipeline) -> Result<Stream> {
        let name = format!("{}_dlq", pipeline.stream());
        self.stream_named(&name).await
    }

    async fn stream_named(&self, name: &str) -> Result<Stream> {
        let stream = self.publishing().context().get_stream(name).await;
        stream.with_context(|| format!("stream {name}"))
    }

    /// The workers' consumer on a pipeline's stream.
    ///
    /// # Errors
    /// NATS does not answer, or there is none.
    pub async fn consumer_of(&self, pipeline: Pipeline) -> Result<Info> {
        let stream = self.stream_of(pipeline).await?;
        let info = stream.consumer_info(pipeline.consumer()).await;
        info.with_context(|| format!("the consumer of {pipeline}"))
    }

    async fn readable_events(&self, pipeline: Pipeline) -> Result<Vec<Found>> {
        let rows = match pipeline {
            Pipeline::Envelopes => {
                self.pairs("SELECT toString(event_id), toString(data.key) FROM envelopes")
                    .await?
            }
            Pipeline::Readings => {
                self.pairs("SELECT toString(id), key FROM readings FINAL")
                    .await?
            }
            // The row has no other identity than the key in it.
            Pipeline::Messages => {
                let client = self.postgres_client().await?;
                let rows = client.query("SELECT key FROM raw_readings", &[]).await?;
                let key = |row: &tokio_postgres::Row| row.get::<_, String>(0);
                let identified = |key: String| {
                    let identity = key_in(key.as_bytes()).unwrap_or_default();
                    (identity.to_string(), key)
                };
                rows.iter().map(key).map(identified).collect()
            }
        };
        rows.into_iter().map(found).collect()
    }

    /// What has come through the view of a world that has one.
    async fn viewed_events(&self) -> Result<Vec<Found>> {
        let rows = self.pairs("SELECT toString(event_id), key FROM seen FINAL");
        rows.await?.into_iter().map(found).collect()
    }

    async fn dead_letters(&self, pipeline: Pipeline) -> Result<Vec<Found>> {
        let stream = self.dead_letters_of(pipeline).await?;
        let mut found = Vec::new();
        let mut reader = RangeReader::open(&stream, held_range(&stream).await?).await?;
        while let Some(letter) = reader.next().await? {
            let identity = letter.subject().rsplit('.').next().unwrap_or_default();
            found.push(Found {
                identity: identity.parse()?,
                key: key_in(letter.payload()),
            });
        }
        let messages = stream.get_info().await?.state.messages;
        ensure!(
            found.len() as u64 == messages,
            "{} of {messages} dead letters read",
            found.len()
        );
        Ok(found)
    }

    /// Identities that follow from the places in the stream, by the key of the message there.
    async fn position_identities(&self, pipeline: Pipeline) -> Result<HashMap<Uuid, Uuid>> {
        let stream = self.stream_of(pipeline).await?;
        let mut identities = HashMap::new();
        let mut reader = RangeReader::open(&stream, held_range(&stream).await?).await?;
        while let Some(delivery) = reader.next().await? {
            let (format, whole) = (pipeline.pack_format(), delivery.identity());
            let payload = delivery.payload();
            let events = unpack(format, delivery.packed(), payload, whole, PACK_EVENTS_MAX);
            for event in events?.iter() {
                if let Some(key) = key_in(event.bytes) {
                    identities.insert(key, event.identity);
                }
            }
        }
        Ok(identities)
    }
}

fn found((identity, key): (String, String)) -> Result<Found> {
    Ok(Found {
        identity: identity.parse()?,
        key: key_in(key.as_bytes()),
    })
}
