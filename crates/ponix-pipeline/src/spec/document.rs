//! A pipeline as it stands in its YAML file.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use ponix_entities::loader::{API_VERSION, Quantity};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::Spanned;

use super::{CsvType, Delivery, Schema, TextEncoding, UnknownFields};

/// The only `kind` there is.
const KIND: &str = "Pipeline";

/// A file that declares one pipeline: from a stream to a table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Ponix pipeline")]
pub(crate) struct Document {
    /// `ponix.dev/v1`.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(crate) api_version: Spanned<String>,
    /// `Pipeline`.
    #[schemars(with = "String", extend("const" = KIND))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(crate) kind: Spanned<String>,
    /// What the pipeline is called.
    pub(crate) metadata: Metadata,
    /// What it does.
    pub(crate) spec: Spec,
}

/// What the pipeline is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    /// Lower-case letters, digits and `-`, a letter first: `meter-readings`. Labels its metrics.
    #[schemars(with = "String", regex(pattern = "^[a-z][a-z0-9-]{0,62}$"))]
    pub(crate) name: Spanned<String>,
    /// What it is for.
    #[serde(default)]
    pub(crate) doc: Option<String>,
}

/// What a pipeline does, in the order of an event's way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Where the messages are.
    pub(crate) source: Source,
    /// Takes events over HTTP as well.
    #[serde(default)]
    pub(crate) http: Option<Http>,
    /// How the fields of an event are read from a message.
    pub(crate) decode: Decode,
    /// What is done to the fields.
    #[serde(default)]
    #[schemars(with = "Option<Transform>")]
    pub(crate) transform: Option<Spanned<Transform>>,
    /// Where the rows go: one of them.
    pub(crate) sink: Sink,
    /// What is promised when a message is delivered more than once.
    #[serde(default)]
    pub(crate) delivery: Delivery,
    /// How much is in work at a time.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Where messages go that cannot be stored.
    #[serde(default)]
    pub(crate) dead_letters: DeadLetters,
    /// What becomes of some messages, for `pipelines test`.
    #[serde(default)]
    pub(crate) tests: Vec<Test>,
}

/// A stream of JetStream and the consumer that reads it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// The stream. It is made if it is missing, and used as it is if it is there.
    #[schemars(with = "String")]
    pub(crate) stream: Spanned<String>,
    /// The subjects of the stream.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub(crate) subjects: Spanned<Vec<Spanned<String>>>,
    /// Which of the subjects this pipeline reads; all of them without.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) filter: Option<Spanned<String>>,
    /// Durable name of the consumer, `ponix-<name of the pipeline>` without. Services with the same
    /// one share the work.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) consumer: Option<Spanned<String>>,
    /// Bytes that the stream may hold before it refuses publishes, when it is made: `10GiB`.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) max_bytes: Option<Spanned<String>>,
    /// Time for which settled messages stay in the stream, where it drops nothing by itself;
    /// `PONIX_NATS_REPLAY_WINDOW_SECS` without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) replay_window: Option<Spanned<String>>,
}

/// A way in over HTTP: `POST` of one JSON object, or of NDJSON with one on each line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// The path, `/v1/meter-readings`.
    #[schemars(with = "String")]
    pub(crate) path: Spanned<String>,
    /// First tokens of the subjects that are published on, behind which stands the organization;
    /// without, those before the source's last wildcard, and `http`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) subject_prefix: Option<Spanned<String>>,
}

/// How the fields of an event are read from a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decode {
    /// What a message holds.
    #[schemars(with = "Format")]
    pub(crate) format: Spanned<Format>,
    /// For `json` and `protobuf`: members of an event at most, all levels together; 1000 without.
    #[serde(default)]
    #[schemars(with = "Option<u32>")]
    pub(crate) max_members: Option<Spanned<u32>>,
    /// For `csv`: the columns of a line, in order, each with what it holds.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, CsvType>>")]
    pub(crate) columns: Option<Spanned<Ordered<CsvType>>>,
    /// For `csv`: what stands between two values, a comma without.
    #[serde(default)]
    #[schemars(with = "Option<String>", length(equal = 1))]
    pub(crate) delimiter: Option<Spanned<String>>,
    /// For `csv`: what a value with the delimiter in it stands in, `"` without.
    #[serde(default)]
    #[schemars(with = "Option<String>", length(equal = 1))]
    pub(crate) quote: Option<Spanned<String>>,
    /// For `protobuf`: a file with the descriptors, as `protoc --include_imports -o FILE` and `buf
    /// build -o FILE` write it; relative to the document.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) descriptor: Option<Spanned<String>>,
    /// For `protobuf`: the full name of the message, `meters.v1.Reading`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) message: Option<Spanned<String>>,
    /// For `entity`: the folder of the entities, relative to the document.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) entities: Option<Spanned<String>>,
    /// For `entity`: the only entity there is; without, each message says.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) entity: Option<Spanned<String>>,
    /// For `bytes`: how the field `payload` holds the bytes, `base64` without.
    #[serde(default)]
    #[schemars(with = "Option<TextEncoding>")]
    pub(crate) encoding: Option<Spanned<TextEncoding>>,
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// A JSON object.
    Json,
    /// An `envelope.v1.ProcessedEnvelope`.
    Envelope,
    /// A protobuf message.
    Protobuf,
    /// One line of values.
    Csv,
    /// A message of a declared entity, a text line or a JSON object.
    Entity,
    /// Anything: it becomes the field `payload`, its subject the field `subject`.
    Bytes,
}

/// What is done to the fields of an event: a program in VRL, the language of Vector's `remap`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transform {
    /// The program.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) vrl: Option<Spanned<String>>,
    /// A file with the program instead, relative to the document.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) vrl_file: Option<Spanned<String>>,
    /// Bytes of a transformed event at most; without, four times its message and 1 MiB.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) max_output: Option<Spanned<String>>,
}

/// Where the rows go: one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    /// A table of ClickHouse.
    #[serde(default)]
    #[schemars(with = "Option<Clickhouse>")]
    pub(crate) clickhouse: Option<Spanned<Clickhouse>>,
    /// Tables of PostgreSQL.
    #[serde(default)]
    #[schemars(with = "Option<Postgres>")]
    pub(crate) postgres: Option<Spanned<Postgres>>,
}

/// A table of ClickHouse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clickhouse {
    /// Its database, that of the connection without.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) database: Option<Spanned<String>>,
    /// Its name.
    #[schemars(with = "String")]
    pub(crate) table: Spanned<String>,
    /// Its columns, each with its type as ClickHouse writes it. With `schema: require` they are the
    /// table's, and need not be said.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(crate) columns: Option<Spanned<Ordered<Spanned<String>>>>,
    /// Columns that together are an event's identity; without, the message's own is used.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) identity: Vec<Spanned<String>>,
    /// The table's partitions when it is made, an expression: `toYYYYMM(read_at)`. None without.
    #[serde(default)]
    pub(crate) partition_by: Option<String>,
    /// What becomes of fields that no column takes.
    #[serde(default)]
    pub(crate) unknown_fields: UnknownFields,
    /// Whose the table is.
    #[serde(default)]
    #[schemars(with = "Schema")]
    pub(crate) schema: Option<Spanned<Schema>>,
}

/// Tables of PostgreSQL: those of declared entities, or one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Postgres {
    /// The folder of the entities, relative to the document.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) entities: Option<Spanned<String>>,
    /// The table, perhaps behind its schema and a dot.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) table: Option<Spanned<String>>,
    /// Its columns, each with its type as PostgreSQL writes it. With `schema: require` they are the
    /// table's, and must not be said.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(crate) columns: Option<Spanned<Ordered<Spanned<String>>>>,
    /// What becomes of fields that no column takes; `json_column` is one of type json or jsonb.
    #[serde(default)]
    pub(crate) unknown_fields: UnknownFields,
    /// Whose the table is: `require` or `create`.
    #[serde(default)]
    #[schemars(with = "Schema")]
    pub(crate) schema: Option<Spanned<Schema>>,
}

/// How much is in work at a time.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Messages in a batch at most; 10000 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 100_000))]
    pub(crate) batch_messages: Option<Spanned<u64>>,
    /// Bytes in a batch at most; `6MiB` without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) batch_bytes: Option<Spanned<String>>,
    /// Time a message waits for its batch to fill at most; `1s` without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) linger: Option<Spanned<String>>,
    /// Batches pulled and not yet settled at most; 3 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 64))]
    pub(crate) in_flight: Option<Spanned<u64>>,
    /// Time after which an unsettled message is delivered to another worker; `60s` without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) ack_wait: Option<Spanned<String>>,
    /// Unsettled messages over all workers before the server stops delivering; 200000 without. At
    /// least twice the batches in flight times the messages in a batch.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 10_000_000))]
    pub(crate) max_ack_pending: Option<Spanned<u64>>,
    /// From this delivery on, a message that fails alone goes to the dead letters; 8 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 3, max = 1_000_000))]
    pub(crate) max_deliveries: Option<Spanned<u64>>,
    /// Time until a message that was given back is delivered again; `PONIX_NATS_NAK_DELAY_SECS`
    /// without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) nak_delay: Option<Spanned<String>>,
}

/// Where messages go that cannot be stored.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetters {
    /// Their stream, `<source's stream>_dlq` without.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) stream: Option<Spanned<String>>,
    /// First tokens of their subjects, `<first token of the source's>_dlq` without; each dead letter
    /// has a subject of its own below.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) subject_prefix: Option<Spanned<String>>,
    /// Bytes that they may hold before messages stay in the source instead: `1GiB`.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(crate) max_bytes: Option<Spanned<String>>,
}

/// What becomes of one message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    /// What is shown.
    #[schemars(with = "String")]
    pub(crate) name: Spanned<String>,
    /// The message: a text as it is, anything else as its format writes it.
    #[schemars(with = "Json")]
    pub(crate) input: Spanned<Json>,
    /// The subject it comes on; the stream's first with `test` for its wildcards without.
    #[serde(default)]
    pub(crate) subject: Option<String>,
    /// Its headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// When it was published, RFC 3339; `2026-01-01T00:00:00Z` without.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) published_at: Option<Spanned<String>>,
    /// What it becomes.
    #[schemars(with = "Expect")]
    pub(crate) expect: Spanned<Expect>,
}

/// What a message becomes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    /// A row of these fields and no others.
    Row(BTreeMap<String, Json>),
    /// A dead letter: its reason, or a part of its error text.
    DeadLetter(String),
    /// Nothing: the transform drops it.
    Dropped,
}

/// A mapping in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Ordered<T>(pub(crate) Vec<(Spanned<String>, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrderedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OrderedVisitor<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Ordered(members))
            }
        }

        deserializer.deserialize_map(OrderedVisitor(PhantomData))
    }
}
