//! From a folder of YAML documents to [`Pipeline`]s, with everything that is wrong told at once.

mod check;
mod document;
mod together;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ponix_entities::loader::{self, LoadError, LoadErrors, Sources};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::decode::RecordDecoder;
use document::Document;
pub use together::clashes;

/// Line and column of a document, counted from 1, where they are known.
pub(crate) type Place = Option<(u64, u64)>;

/// One declared pipeline, checked, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its name, which labels its metrics.
    pub name: String,
    /// What it is for.
    pub doc: Option<String>,
    /// The document; what it names lies beside it.
    pub path: PathBuf,
    /// Where its messages are.
    pub source: Source,
    /// Its way in over HTTP.
    pub http: Option<Http>,
    /// What its messages hold.
    pub decode: DecodeFormat,
    /// What is done to the fields.
    pub transform: Option<Transform>,
    /// Where its rows go.
    pub sink: Sink,
    /// What is promised when a message is delivered more than once.
    pub delivery: Delivery,
    /// How much is in work at a time.
    pub limits: Limits,
    /// Where messages go that cannot be stored.
    pub dead_letters: DeadLetters,
    /// What becomes of some messages.
    pub tests: Vec<TestCase>,
    pub(crate) places: Places,
}

impl Pipeline {
    /// Whether it is one of those that every service has.
    pub fn is_built_in(&self) -> bool {
        check::is_built_in(&self.path)
    }

    /// Says of the sink that it cannot be as declared, at its place in the document.
    pub fn sink_error(&self, message: impl Into<String>) -> LoadError {
        LoadError {
            path: self.path.clone(),
            place: self.places.sink,
            message: message.into(),
        }
    }
}

/// Where things stand in the document, for what concerns several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Places {
    pub(crate) name: Place,
    pub(crate) stream: Place,
    pub(crate) consumer: Place,
    pub(crate) dead_letters: Place,
    pub(crate) path: Place,
    pub(crate) decode: Place,
    pub(crate) sink: Place,
}

/// A stream and the consumer that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The stream: made if it is missing, used as it is if it is there.
    pub stream: String,
    /// The subjects of the stream; at least one.
    pub subjects: Vec<String>,
    /// Which subjects are read; `None` for all, where the stream has several.
    pub filter: Option<String>,
    /// Durable name of the consumer.
    pub consumer: String,
    /// Bytes the stream may hold.
    pub bytes_max: u64,
    /// Time for which settled messages stay in the stream; `None` for the service's own.
    pub replay_window: Option<Duration>,
}

/// A way in over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The path.
    pub path: String,
    /// First tokens of the subjects that are published on; the organization is the last one.
    pub subject_prefix: String,
}

/// What a message holds, and how its fields are read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeFormat {
    /// A JSON object.
    Json {
        /// Members of an event at most, all levels together.
        members_max: usize,
    },
    /// An `envelope.v1.ProcessedEnvelope`, its fields beside its `data`.
    Envelope,
    /// A protobuf message.
    Protobuf {
        /// The file with its descriptors.
        descriptor: PathBuf,
        /// Its full name.
        message: String,
        /// Members of an event at most, all levels together.
        members_max: usize,
    },
    /// One line of values.
    Csv {
        /// Its columns, in order.
        columns: Vec<CsvColumn>,
        /// What stands between two values.
        delimiter: u8,
        /// What a value with the delimiter in it stands in.
        quote: u8,
    },
    /// A message of a declared entity.
    Entity {
        /// The folder of the entities; `None` for the service's own.
        dir: Option<PathBuf>,
        /// The only entity there is; without, each message says.
        entity: Option<String>,
    },
    /// Anything: the fields `payload` and `subject`.
    Bytes {
        /// How `payload` holds the bytes.
        encoding: TextEncoding,
    },
}

/// A value of a CSV line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvColumn {
    /// The field it becomes.
    pub name: String,
    /// What it holds.
    pub csv_type: CsvType,
}

/// What a value of a CSV line holds. An empty one is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CsvType {
    /// Text.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A finite number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// JSON.
    Json,
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoding {
    /// Base64, padded.
    #[default]
    Base64,
    /// As they are; they must be UTF-8.
    Text,
}

/// A program that is run on the fields of each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    /// The program, in VRL.
    pub program: String,
    /// Bytes of a transformed event at most; without, four times its message and 1 MiB.
    pub output_bytes_max: Option<usize>,
    pub(crate) origin: Origin,
}

/// Where a program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The document: where its first line stands, and by how much it is indented.
    Document { line: u64, indent: u64 },
    /// A file of its own.
    File(PathBuf),
}

impl Origin {
    /// The file and the place in it of a place in the program.
    pub(crate) fn locate(&self, document: &Path, place: Place) -> (PathBuf, Place) {
        match self {
            Self::Document {
                line: first,
                indent,
            } => {
                let (line, column) = place.unwrap_or((1, 1));
                (
                    document.to_owned(),
                    Some((first + line - 1, indent + column)),
                )
            }
            Self::File(path) => (path.clone(), place),
        }
    }
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sink {
    /// A table of ClickHouse.
    Clickhouse(ClickhouseSink),
    /// Tables of PostgreSQL.
    Postgres(PostgresSink),
}

/// A table of ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickhouseSink {
    /// Its database, that of the connection without.
    pub database: Option<String>,
    /// Its name.
    pub table: String,
    /// Its columns in order, name and type; `None` for those that the table has.
    pub columns: Option<Vec<(String, String)>>,
    /// Columns that together are an event's identity; none for the message's own.
    pub identity: Vec<String>,
    /// Its partitions, where it is made.
    pub partition_by: Option<String>,
    /// What becomes of fields that no column takes.
    pub unknown_fields: UnknownFields,
    /// Whose the table is.
    pub schema: Schema,
}

/// Tables of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostgresSink {
    /// Those of declared entities.
    Entities {
        /// Their folder; `None` for the service's own.
        dir: Option<PathBuf>,
    },
    /// One.
    Table {
        /// Its name, perhaps behind that of its schema and a dot.
        table: String,
        /// Columns, name and type, where it is to be made or extended; `None` for those that it has.
        columns: Option<Vec<(String, String)>>,
        /// What becomes of fields that no column takes.
        unknown_fields: UnknownFields,
    },
}

/// What becomes of fields that no column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// The event is a dead letter.
    #[default]
    Reject,
    /// They go into the column `data` of type `JSON`.
    JsonColumn,
    /// They are left out.
    Ignore,
}

/// Whose a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// It must be there.
    #[default]
    Require,
    /// It is made from `columns` if it is missing.
    Create,
    /// It is made from `columns`, and new fields get columns; none is dropped or narrowed.
    Evolve,
}

/// What is promised when a message is delivered more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Copies of an event become one row; a table that cannot do so is refused.
    #[default]
    ExactlyOnce,
    /// After a crash an event may be there more than once.
    AtLeastOnce,
}

/// How much is in work at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Messages in a batch at most.
    pub batch_messages: usize,
    /// Bytes in a batch at most.
    pub batch_bytes: usize,
    /// Time a message waits for its batch to fill at most.
    pub linger: Duration,
    /// Batches pulled and not yet settled at most.
    pub in_flight: usize,
    /// Time after which an unsettled message is delivered to another worker.
    pub ack_wait: Duration,
    /// Unsettled messages over all workers at most.
    pub ack_pending_max: u64,
    /// From this delivery on, a message that fails alone goes to the dead letters.
    pub deliveries_max: u32,
    /// Time until a message that was given back is delivered again; `None` for the service's own.
    pub nak_delay: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_messages: 10_000,
            batch_bytes: 6 << 20,
            linger: Duration::from_secs(1),
            in_flight: 3,
            ack_wait: Duration::from_mins(1),
            ack_pending_max: 200_000,
            deliveries_max: 8,
            nak_delay: None,
        }
    }
}

/// Where messages go that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// Their stream.
    pub stream: String,
    /// What their subjects begin with; the stream's are `<prefix>.>`.
    pub subject_prefix: String,
    /// Bytes they may hold.
    pub bytes_max: u64,
}

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// What is shown.
    pub name: String,
    /// The message.
    pub input: TestInput,
    /// The subject it comes on.
    pub subject: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// When it was published, nanoseconds since 1970.
    pub published_at_ns: i64,
    /// What it becomes.
    pub expect: Expect,
    pub(crate) place: Place,
}

/// The message of a test.
#[derive(Debug, Clone, PartialEq)]
pub enum TestInput {
    /// A payload as it is.
    Payload(Vec<u8>),
    /// Fields that the format writes.
    Fields(Json),
}

/// What a message becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// A row of these fields and no others.
    Row(Map<String, Json>),
    /// A dead letter: its reason, or a part of its error text.
    DeadLetter(String),
    /// Nothing: the transform drops it.
    Dropped,
}

/// Reads every `*.yaml` and `*.yml` of a folder, not of the folders in it, in the order of their
/// names.
///
/// # Errors
/// Everything that is wrong, each with file, line and column.
pub fn load(dir: &Path) -> Result<Vec<Pipeline>, LoadErrors> {
    checked(Sources::of_folder(dir))
}

/// Reads documents that are in memory already, each with the path that errors name and that what
/// it names lies beside.
///
/// # Errors
/// Everything that is wrong, each with file, line and column.
pub fn from_files(
    files: impl IntoIterator<Item = (PathBuf, String)>,
) -> Result<Vec<Pipeline>, LoadErrors> {
    checked(Sources::of_files(files))
}

fn checked(mut sources: Sources<Document>) -> Result<Vec<Pipeline>, LoadErrors> {
    let mut errors = std::mem::take(&mut sources.errors);
    let pipelines = sources.documents.iter();
    let pipelines: Vec<Pipeline> = pipelines
        .map(|source| {
            let before = errors.len();
            let pipeline = check::pipeline(source, &mut errors);
            // What the document names is looked at when the document itself is right.
            if errors.len() == before && !check::is_built_in(&source.path) {
                let decoder = RecordDecoder::new(&pipeline);
                errors.extend(decoder.err().into_iter().flat_map(|errors| errors.0));
            }
            pipeline
        })
        .collect();
    errors.extend(clashes(&pipelines));
    if errors.is_empty() {
        Ok(pipelines)
    } else {
        errors.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
        Err(LoadErrors(errors))
    }
}

/// Returns the JSON schema of a document, for editors.
pub fn schema() -> String {
    loader::schema::<Document>()
}
