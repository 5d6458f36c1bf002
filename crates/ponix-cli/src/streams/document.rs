//! Streams and consumers as they stand in a YAML file.

use std::collections::BTreeMap;

use ponix_entities::loader::{API_VERSION, Quantity};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// The only `kind` there is.
pub(super) const KIND: &str = "Streams";

/// A file that declares streams of JetStream and their consumers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Ponix streams")]
pub(crate) struct Document {
    /// `ponix.dev/v1`.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(super) api_version: Spanned<String>,
    /// `Streams`.
    #[schemars(with = "String", extend("const" = KIND))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(super) kind: Spanned<String>,
    /// What the streams are of.
    #[expect(dead_code, reason = "for people")]
    pub(super) metadata: Metadata,
    /// What there is.
    pub(super) spec: Spec,
}

/// What the streams are of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    /// A name for all of it.
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "for people")]
    pub(super) name: Spanned<String>,
    /// What it is for.
    #[serde(default)]
    #[expect(dead_code, reason = "for people")]
    pub(super) doc: Option<String>,
}

/// What there is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// What the server is known to have, to be checked against.
    #[serde(default)]
    pub(super) server: Server,
    /// The streams.
    pub(super) streams: Vec<Stream>,
}

/// What the server is known to have; nothing of it is changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// `max_file_store` of its configuration, of each server of a cluster.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) max_file_store: Option<Spanned<String>>,
    /// `max_memory_store` of its configuration, of each server of a cluster.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) max_memory_store: Option<Spanned<String>>,
    /// Servers of the cluster; 1 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 1000))]
    pub(super) servers: Option<Spanned<u64>>,
}

/// A stream. What is not said is as the server has it when nobody says, but for `allow_direct`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    /// Its name: no white space, dots, wildcards or slashes.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// What it is for.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// The subjects that it takes in; `*` and `>` as in NATS.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) subjects: Vec<Spanned<String>>,
    /// How long messages are kept.
    #[serde(default)]
    #[schemars(with = "Retention")]
    pub(super) retention: Option<Spanned<Retention>>,
    /// Where messages are kept.
    #[serde(default)]
    pub(super) storage: Storage,
    /// Copies of each message in a cluster, 1 to 5; 1 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 5))]
    pub(super) replicas: Option<Spanned<u64>>,
    /// Time after which a message is dropped, read or not: `1h`.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) max_age: Option<Spanned<String>>,
    /// Bytes that it may hold: `1GB`.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) max_bytes: Option<Spanned<String>>,
    /// Messages that it may hold.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1))]
    pub(super) max_msgs: Option<Spanned<u64>>,
    /// Messages of each subject that it may hold.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1))]
    pub(super) max_msgs_per_subject: Option<Spanned<u64>>,
    /// Bytes of a message at most.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) max_msg_size: Option<Spanned<String>>,
    /// What happens when it is full.
    #[serde(default)]
    #[schemars(with = "Discard")]
    pub(super) discard: Option<Spanned<Discard>>,
    /// With `discard: new`: refuses a message of a subject that has `max_msgs_per_subject`.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub(super) discard_per_subject: Option<Spanned<bool>>,
    /// Says again that a work queue may drop jobs that nobody has read: needed with `retention:
    /// work` and `discard: old`.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub(super) drops_unread: Option<Spanned<bool>>,
    /// Time within which a second message with the same id is not stored; `2m` without, or
    /// `max_age` where that is shorter.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) duplicate_window: Option<Spanned<String>>,
    /// How messages are compressed on the disk.
    #[serde(default)]
    pub(super) compression: Compression,
    /// Lets every server of a cluster read messages by their sequence; true without.
    #[serde(default = "yes")]
    pub(super) allow_direct: bool,
    /// Lets a publisher drop all older messages of a subject.
    #[serde(default)]
    pub(super) allow_rollup: bool,
    /// Forbids to delete single messages; cannot be taken back.
    #[serde(default)]
    pub(super) deny_delete: bool,
    /// Forbids to purge; cannot be taken back.
    #[serde(default)]
    pub(super) deny_purge: bool,
    /// Another stream that it is a copy of.
    #[serde(default)]
    #[schemars(with = "Option<Origin>")]
    pub(super) mirror: Option<Spanned<Origin>>,
    /// Other streams whose messages it takes as well.
    #[serde(default)]
    pub(super) sources: Vec<Origin>,
    /// Stores messages under another subject.
    #[serde(default)]
    pub(super) subject_transform: Option<Transform>,
    /// What else is to be known of it, texts by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) metadata: BTreeMap<String, Spanned<String>>,
    /// First tokens of the subjects that its dead letters are published on: they must not come
    /// back into it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) dead_letters: Option<Spanned<String>>,
    /// Its consumers.
    #[serde(default)]
    pub(super) consumers: Vec<Consumer>,
}

/// How long messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Retention {
    /// Until a limit is reached.
    #[default]
    Limits,
    /// Until a worker has acked it.
    Work,
    /// Until every consumer there is has acked it.
    Interest,
}

/// Where messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Storage {
    /// On the disk.
    #[default]
    File,
    /// In memory: gone with the server.
    Memory,
}

/// What happens when a stream is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Discard {
    /// It drops its oldest messages, read or not.
    #[default]
    Old,
    /// It refuses what is published.
    New,
}

/// How messages are compressed on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With S2.
    S2,
}

/// A stream that messages are copied from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    /// Its name.
    #[schemars(with = "String")]
    pub(super) stream: Spanned<String>,
    /// Which of its subjects.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) filter: Option<Spanned<String>>,
    /// From this sequence on.
    #[serde(default)]
    pub(super) start_seq: Option<u64>,
    /// From this time on, RFC 3339.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) start_time: Option<Spanned<String>>,
    /// Stores its messages under other subjects.
    #[serde(default)]
    pub(super) subject_transforms: Vec<Transform>,
    /// Where it is in another account or domain.
    #[serde(default)]
    pub(super) external: Option<External>,
}

/// Where a stream of another account or domain is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct External {
    /// Prefix of its API: `$JS.hub.API`.
    pub(super) api: String,
    /// Prefix of the subjects that its messages come on.
    #[serde(default)]
    pub(super) deliver: Option<String>,
}

/// From a subject to another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Transform {
    /// The subjects, with wildcards.
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// What they become: `telemetry.{{wildcard(1)}}`.
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
}

/// A durable consumer that is pulled from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Consumer {
    /// Its name.
    #[schemars(with = "String")]
    pub(super) durable: Spanned<String>,
    /// What it is for.
    #[serde(default)]
    pub(super) description: Option<String>,
    /// Which of the stream's subjects it reads; all without.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) filters: Vec<Spanned<String>>,
    /// Where it begins.
    #[serde(default)]
    #[schemars(with = "Deliver")]
    pub(super) deliver: Option<Spanned<Deliver>>,
    /// How messages are acked.
    #[serde(default)]
    #[schemars(with = "Ack")]
    pub(super) ack: Option<Spanned<Ack>>,
    /// Time after which a message that is not acked is delivered again; `30s` without.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) ack_wait: Option<Spanned<String>>,
    /// Deliveries after which the server gives a message up; without, it never does.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1))]
    pub(super) max_deliver: Option<Spanned<u64>>,
    /// Messages that are delivered and not acked at most; 1000 without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1))]
    pub(super) max_ack_pending: Option<Spanned<u64>>,
    /// Time without a request after which the server removes it, and its place with it; without,
    /// it never does.
    #[serde(default)]
    #[schemars(with = "Option<Quantity>")]
    pub(super) inactive_threshold: Option<Spanned<String>>,
    /// Copies of its place in a cluster; as many as the stream has without.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 5))]
    pub(super) replicas: Option<Spanned<u64>>,
    /// What else is to be known of it, texts by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) metadata: BTreeMap<String, Spanned<String>>,
}

/// Where a consumer begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deliver {
    /// With all that the stream holds.
    #[default]
    All,
    /// With the last message.
    Last,
    /// With what comes after it was made.
    New,
    /// With the last message of each subject.
    LastPerSubject,
    /// With this sequence.
    StartSeq(u64),
    /// With this time, RFC 3339.
    StartTime(String),
}

/// How messages are acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ack {
    /// Each one.
    #[default]
    Explicit,
    /// Each one, and with it all before it.
    All,
    /// Not at all.
    None,
}

const fn yes() -> bool {
    true
}
