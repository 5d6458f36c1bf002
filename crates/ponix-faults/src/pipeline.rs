//! The pipelines of the service, each under the same oracle.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use ponix_wire::PackFormat;

/// A pipeline that the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pipeline {
    /// Envelopes into ClickHouse.
    Envelopes,
    /// Raw messages into PostgreSQL.
    Messages,
    /// A declared one: JSON into a ClickHouse table of its own.
    Readings,
}

/// Where a declared pipeline reads and writes; `{ack_wait}` is filled in.
const DOCUMENT: &str = "apiVersion: ponix.dev/v1
kind: Pipeline
metadata: {name: readings}
spec:
  source: {stream: READINGS, subjects: [readings.>], max_bytes: 1GiB}
  decode: {format: json}
  sink:
    clickhouse:
      table: readings
      columns: {id: UUID, key: String, meter: String, read_at: \"DateTime64(3, 'UTC')\", value: Float64}
      identity: [meter, read_at, id]
      schema: create
  limits: {batch_messages: 100, linger: 200ms, ack_wait: {ack_wait}}
  dead_letters: {stream: READINGS_dlq, max_bytes: 256MiB}
";

/// No column is unique, so that a row that is stored twice is there twice.
const ENTITY: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Reading}
spec:
  type: reference
  prefix: R
  fields:
    - {name: key, type: String, constraints: {max_length: 60}}
    - {name: device, type: String, constraints: {max_length: 40}}
    - {name: value, type: Decimal, precision: 16, scale: 3, constraints: {maximum: 1000000000}}
  persistence: {table: raw_readings}
";

impl Pipeline {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Envelopes, Self::Messages, Self::Readings];

    /// As it stands in logs, metrics and `/readyz`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Envelopes => "envelopes",
            Self::Messages => "messages",
            Self::Readings => "readings",
        }
    }

    /// Its stream.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Envelopes => "processed_envelopes",
            Self::Messages => "MESSAGES",
            Self::Readings => "READINGS",
        }
    }

    /// The workers' consumer on its stream.
    pub const fn consumer(self) -> &'static str {
        match self {
            Self::Envelopes => "ponix-all-in-one",
            Self::Messages => "workers",
            Self::Readings => "ponix-readings",
        }
    }

    /// What the subjects of its messages begin with.
    pub(crate) const fn subject_prefix(self) -> &'static str {
        match self {
            Self::Envelopes => "processed_envelopes",
            Self::Messages => "messages.ingest",
            Self::Readings => "readings",
        }
    }

    /// How its events are packed in a message.
    pub(crate) const fn pack_format(self) -> PackFormat {
        match self {
            Self::Envelopes => PackFormat::Envelopes,
            Self::Messages | Self::Readings => PackFormat::Lines,
        }
    }

    /// Where its rows are.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Envelopes => "processed_envelopes",
            Self::Messages => "raw_readings",
            Self::Readings => "readings",
        }
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes the entity and the document of the pipelines beside the envelopes' into a folder each.
pub(crate) fn write_declarations(entities: &Path, pipelines: &Path, ack_wait: &str) -> Result<()> {
    for folder in [entities, pipelines] {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(entities.join("reading.yaml"), ENTITY)?;
    let document = DOCUMENT.replace("{ack_wait}", ack_wait);
    Ok(std::fs::write(pipelines.join("readings.yaml"), document)?)
}
