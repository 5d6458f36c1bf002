//! Where the events of a pipeline are looked up, and what makes an event one there.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context as _, bail};
use ponix_clickhouse::{
    ClickHouseMetrics, Client as ClickHouseClient, EventKey, Presence, TableConfig, TableSink,
    table,
};
use ponix_nats::decode_message;
use ponix_pipeline::{Decode as _, Decoded, Message, Pipeline, RecordDecoder};
use uuid::Uuid;

use crate::pipelines::{Writer, table_config};

/// How the messages of a pipeline are read, and where they are looked up.
#[derive(Debug)]
pub(super) enum Store {
    Envelopes(Box<ClickHouseClient>),
    Table(Box<RecordDecoder>, Box<table::Identities>),
}

/// An event as its table knows it, or a message that cannot be stored.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Envelope(EventKey),
    Row(RowKey),
    /// Its identity, and a hash of its body.
    Undecodable(Uuid, u64),
}

/// The identity of a row of a declared pipeline.
#[derive(Debug)]
pub(super) struct RowKey {
    bytes: Vec<u8>,
    shown: String,
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for RowKey {}

impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Envelope(key) => write!(
                f,
                "{} organization {:?}, device {:?}",
                key.event_id, key.organization_id, key.end_device_id
            ),
            Self::Row(key) => f.write_str(&key.shown),
            Self::Undecodable(event_id, _) => write!(f, "{event_id} that cannot be stored"),
        }
    }
}

/// Whether an event may be in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// Not by the table as it is now.
    Misfit,
}

impl Store {
    /// Looks at the table of a pipeline; creates none.
    pub(super) async fn of(
        pipeline: &Pipeline,
        clickhouse: ClickHouseClient,
    ) -> anyhow::Result<Self> {
        let sink = match Writer::of(pipeline)? {
            Writer::Envelopes => return Ok(Self::Envelopes(Box::new(clickhouse))),
            Writer::Table(sink) => sink,
            Writer::Entities(_) | Writer::PostgresTable => {
                bail!("its rows are in PostgreSQL, and only tables of ClickHouse are looked into")
            }
        };
        let config = TableConfig {
            schema: table::Schema::Require,
            ..table_config(pipeline, sink)
        };
        let sink = TableSink::prepare(&clickhouse, config, ClickHouseMetrics::default());
        let identities = sink.await?.identities();
        if let Some(column) = identities.defaulted() {
            bail!(
                "column {column} of the identity may come from a default, which only the table knows"
            );
        }
        let decoder = RecordDecoder::new(pipeline)?;
        Ok(Self::Table(decoder.into(), identities.into()))
    }

    /// Reads a message; `None` for one that the transform drops.
    pub(super) fn read(&self, message: &Message<'_>) -> Option<(Event, Fit)> {
        match self {
            Self::Envelopes(_) => {
                let (published_at_ns, identity) = (message.published_at_ns, message.identity);
                let decoded = decode_message(message.payload, published_at_ns, identity);
                let event = match decoded {
                    Ok((envelope, event_id)) => Event::Envelope(EventKey {
                        organization_id: envelope.organization_id,
                        end_device_id: envelope.end_device_id,
                        occurred_at_ns: envelope.occurred_at_ns,
                        event_id,
                    }),
                    Err(letter) => undecodable(letter.event_id.unwrap_or(identity), message),
                };
                Some((event, Fit::Fits))
            }
            Self::Table(decoder, identities) => {
                let record = match decoder.decode(message) {
                    Ok(Decoded::Row { row, .. }) => row,
                    Ok(Decoded::Dropped) => return None,
                    Err(_) => return Some((undecodable(message.identity, message), Fit::Misfit)),
                };
                let fit = if identities.fits(&record) {
                    Fit::Fits
                } else {
                    Fit::Misfit
                };
                let event = identities.of(&record).map(|bytes| {
                    let shown = identities.shown(&record);
                    Event::Row(RowKey { bytes, shown })
                });
                let event = event.unwrap_or_else(|| undecodable(message.identity, message));
                Some((event, fit))
            }
        }
    }

    /// Looks events up; the answers are in their order.
    pub(super) async fn presence(&self, events: &[Event]) -> anyhow::Result<Vec<Presence>> {
        match self {
            Self::Envelopes(clickhouse) => {
                let ids: Vec<Uuid> = events
                    .iter()
                    .filter_map(|event| match event {
                        Event::Envelope(key) => Some(key.event_id),
                        _ => None,
                    })
                    .collect();
                let found = clickhouse.presence(&ids).await;
                let found = found.context("clickhouse cannot be asked")?;
                let found = events.iter().map(|event| match event {
                    Event::Envelope(key) => found.get(key).copied().unwrap_or_default(),
                    _ => Presence::default(),
                });
                Ok(found.collect())
            }
            Self::Table(_, identities) => {
                let keys: Vec<(usize, &[u8])> = events
                    .iter()
                    .enumerate()
                    .filter_map(|(n, event)| match event {
                        Event::Row(key) => Some((n, key.bytes.as_slice())),
                        _ => None,
                    })
                    .collect();
                let wanted: Vec<&[u8]> = keys.iter().map(|(_, key)| *key).collect();
                let answers = identities.presence(&wanted).await;
                let answers = answers.context("clickhouse cannot be asked")?;
                let mut found = vec![Presence::default(); events.len()];
                for ((n, _), presence) in keys.into_iter().zip(answers) {
                    found[n] = presence;
                }
                Ok(found)
            }
        }
    }
}

/// Returns what a message is that the table does not take: itself alone, for another event with
/// its identity may be stored.
pub(super) fn undecodable(identity: Uuid, message: &Message<'_>) -> Event {
    let mut hasher = DefaultHasher::new();
    message.payload.hash(&mut hasher);
    Event::Undecodable(identity, hasher.finish())
}
