//! Where the events of a pipeline are looked up, and what makes an event one there.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context as _, bail};
use ponix_clickhouse::{
    ClickHouseMetrics, Client as ClickHouseClient, EventKey, Presence, TableConfig, TableSink,
    table,
};
use ponix_nats::{CONTENT_TYPE, decode_message};
use ponix_pipeline::{Decode as _, Decoded, Message, PackFormat, Pipeline, RecordDecoder};
use ponix_postgres::table::TableConfig as TableConfigOfPostgres;
use ponix_postgres::{Postgres, PostgresMetrics};
use uuid::Uuid;

use crate::config::Config;
use crate::pipelines::{
    self, MessageDecoder, Writer, catalog, postgres_table_config, table_config,
};

/// How the messages of a pipeline are read, and where they are looked up.
#[derive(Debug)]
pub(super) enum Store {
    Envelopes(Box<ClickHouseClient>),
    Table(Box<RecordDecoder>, Box<table::Identities>),
    /// Statuses in PostgreSQL, each committed with what it tells of.
    Statuses(Box<Reader>, Postgres),
}

/// How the messages of a pipeline into PostgreSQL are read.
#[derive(Debug)]
pub(super) enum Reader {
    /// Into a table, whose claims are by its name.
    Records(RecordDecoder, TableConfigOfPostgres),
    /// Into the tables of entities.
    Messages(MessageDecoder),
}

/// An event as its table knows it, or a message that cannot be stored.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Envelope(EventKey),
    Row(RowKey),
    /// Its id among the statuses, and whose it is.
    Message(Uuid, Option<String>),
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
            Self::Message(id, None) => write!(f, "{id}"),
            Self::Message(id, Some(organization)) => {
                write!(f, "{id} organization {organization:?}")
            }
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
    pub(super) async fn of(config: &Config, pipeline: &Pipeline) -> anyhow::Result<Self> {
        let sink = match Writer::of(pipeline)? {
            Writer::Envelopes => return Ok(Self::Envelopes(clickhouse(config).await?.into())),
            Writer::Table(sink) => sink,
            Writer::Entities(dir) => {
                let decoder = pipelines::message_decoder(config, &catalog(config, dir)?.into());
                let reader = Reader::Messages(decoder).into();
                return Ok(Self::Statuses(reader, postgres(config).await?));
            }
            Writer::PostgresTable => {
                let table = postgres_table_config(&pipeline.sink).context("no table")?;
                let reader = Reader::Records(RecordDecoder::new(pipeline)?, table).into();
                return Ok(Self::Statuses(reader, postgres(config).await?));
            }
        };
        let clickhouse = clickhouse(config).await?;
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

    /// Returns how events are packed in a message.
    pub(super) fn pack_format(&self) -> PackFormat {
        match self {
            Self::Envelopes(_) => PackFormat::Envelopes,
            Self::Table(decoder, _) => decoder.pack_format(),
            Self::Statuses(reader, _) => match &**reader {
                Reader::Records(decoder, _) => decoder.pack_format(),
                Reader::Messages(decoder) => decoder.pack_format(),
            },
        }
    }

    /// Reads a message, or one event of a packed one; `None` for one that the transform drops.
    pub(super) fn read(&self, message: &Message<'_>) -> Option<(Event, Fit)> {
        match self {
            Self::Envelopes(_) => {
                let (published_at_ns, identity) = (message.published_at_ns, message.identity);
                let content_type = message.header(CONTENT_TYPE);
                let decoded =
                    decode_message(message.payload, content_type, published_at_ns, identity);
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
            Self::Statuses(reader, _) => reader.read(message),
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
            Self::Statuses(_, postgres) => {
                let ids: Vec<Uuid> = events
                    .iter()
                    .filter_map(|event| match event {
                        Event::Message(id, _) => Some(*id),
                        _ => None,
                    })
                    .collect();
                let found = postgres.processed(&ids).await;
                let found = found.context("postgresql cannot be asked")?;
                let is_stored = |event: &Event| {
                    let Event::Message(id, organization) = event else {
                        return false;
                    };
                    // One id is one organization's: another's message with it is a dead letter.
                    found.get(id).is_some_and(|owner| {
                        owner.is_none() || organization.is_none() || owner == organization
                    })
                };
                let presence = events.iter().map(|event| {
                    let rows = u64::from(is_stored(event));
                    Presence {
                        copies: rows,
                        readable: rows,
                    }
                });
                Ok(presence.collect())
            }
        }
    }
}

impl Reader {
    fn read(&self, message: &Message<'_>) -> Option<(Event, Fit)> {
        match self {
            Self::Records(decoder, table) => match decoder.decode(message) {
                Ok(Decoded::Row { identity, .. }) => {
                    let event = Event::Message(table.claim_id(identity), None);
                    Some((event, Fit::Fits))
                }
                Ok(Decoded::Dropped) => None,
                Err(_) => Some((undecodable(message.identity, message), Fit::Misfit)),
            },
            Self::Messages(decoder) => {
                let row = decoder.row(message);
                // By the entities as they are now.
                let fit = if row.parsed.is_ok() {
                    Fit::Fits
                } else {
                    Fit::Misfit
                };
                Some((Event::Message(row.message_id, row.organization), fit))
            }
        }
    }
}

async fn clickhouse(config: &Config) -> anyhow::Result<ClickHouseClient> {
    let clickhouse = ClickHouseClient::new(&config.clickhouse.client())?;
    let answer = clickhouse.ping().await;
    answer.context("clickhouse cannot be asked")?;
    Ok(clickhouse)
}

async fn postgres(config: &Config) -> anyhow::Result<Postgres> {
    let client = config.postgres.client();
    let client = client.context("PONIX_POSTGRES_URL is not set")?;
    let postgres = Postgres::connect(client, PostgresMetrics::default())?;
    let answer = postgres.ping().await;
    answer.context("postgresql cannot be asked")?;
    Ok(postgres)
}

/// Returns what a message is that the table does not take: itself alone, for another event with
/// its identity may be stored.
pub(super) fn undecodable(identity: Uuid, message: &Message<'_>) -> Event {
    let mut hasher = DefaultHasher::new();
    message.payload.hash(&mut hasher);
    Event::Undecodable(identity, hasher.finish())
}
