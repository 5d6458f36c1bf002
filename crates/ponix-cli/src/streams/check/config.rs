//! A declared stream in the names and units of the server's API.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use ponix_nats::topology::{ServerConfig, StreamLayout};
use ponix_wire::quantity;
use serde_json::{Map, Value as Json, json};
use serde_saphyr::Spanned;

use super::super::document::{
    Ack, Compression, Consumer, Deliver, Discard, Origin, Retention, Storage, Stream, Transform,
};

/// The server's own window for ids.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// Returns a stream as it is declared; what is wrong in it has some value or other.
pub(super) fn stream(stream: &Stream) -> StreamLayout {
    let age = time(stream.max_age.as_ref());
    let window = time(stream.duplicate_window.as_ref());
    let window = window.unwrap_or(age.unwrap_or(DUPLICATE_WINDOW).min(DUPLICATE_WINDOW));
    let count = |number: &Option<Spanned<u64>>| number.as_ref().map_or(-1, |n| n.value as i64);
    let retention = match super::retention(stream) {
        Retention::Limits => "limits",
        Retention::Work => "workqueue",
        Retention::Interest => "interest",
    };
    let config = json!({
        "name": stream.name.value,
        "description": stream.description,
        "subjects": stream.subjects.iter().map(|subject| &subject.value).collect::<Vec<_>>(),
        "retention": retention,
        "storage": match stream.storage {
            Storage::File => "file",
            Storage::Memory => "memory",
        },
        "num_replicas": stream.replicas.as_ref().map_or(1, |replicas| replicas.value),
        "max_age": nanoseconds(age),
        "max_bytes": bytes(stream.max_bytes.as_ref()),
        "max_msgs": count(&stream.max_msgs),
        "max_msgs_per_subject": count(&stream.max_msgs_per_subject),
        "max_msg_size": bytes(stream.max_msg_size.as_ref()),
        "discard": match super::discard(stream) {
            Discard::Old => "old",
            Discard::New => "new",
        },
        "discard_new_per_subject": stream.discard_per_subject.as_ref().map(|said| said.value),
        "duplicate_window": nanoseconds(Some(window)),
        "compression": match stream.compression {
            Compression::None => "none",
            Compression::S2 => "s2",
        },
        "allow_direct": stream.allow_direct,
        "allow_rollup_hdrs": stream.allow_rollup,
        "deny_delete": stream.deny_delete,
        "deny_purge": stream.deny_purge,
        "mirror": stream.mirror.as_ref().map(|mirror| origin(&mirror.value)),
        "sources": list(stream.sources.iter().map(origin)),
        "subject_transform": stream.subject_transform.as_ref().map(transform),
        "metadata": metadata(&stream.metadata),
    });
    StreamLayout {
        config: said(config),
        consumers: stream.consumers.iter().map(consumer).collect(),
    }
}

fn consumer(consumer: &Consumer) -> ServerConfig {
    let filters: Vec<_> = consumer
        .filters
        .iter()
        .map(|filter| &filter.value)
        .collect();
    let (filter, filters) = match &filters[..] {
        [only] => (Some(only), None),
        [] => (None, None),
        _ => (None, Some(&filters)),
    };
    let count = |number: &Option<Spanned<u64>>| number.as_ref().map(|number| number.value);
    let mut config = json!({
        "name": consumer.durable.value,
        "durable_name": consumer.durable.value,
        "description": consumer.description,
        "filter_subject": filter,
        "filter_subjects": filters,
        "ack_policy": match super::ack(consumer) {
            Ack::Explicit => "explicit",
            Ack::All => "all",
            Ack::None => "none",
        },
        "ack_wait": time(consumer.ack_wait.as_ref()).map(|time| nanoseconds(Some(time))),
        "max_deliver": count(&consumer.max_deliver),
        "max_ack_pending": count(&consumer.max_ack_pending),
        "inactive_threshold": time(consumer.inactive_threshold.as_ref())
            .map(|time| nanoseconds(Some(time))),
        "num_replicas": count(&consumer.replicas).unwrap_or_default(),
        "replay_policy": "instant",
        "metadata": metadata(&consumer.metadata),
    });
    let deliver = consumer.deliver.as_ref().map(|deliver| &deliver.value);
    config["deliver_policy"] = match deliver.unwrap_or(&Deliver::All) {
        Deliver::All => "all",
        Deliver::Last => "last",
        Deliver::New => "new",
        Deliver::LastPerSubject => "last_per_subject",
        Deliver::StartSeq(sequence) => {
            config["opt_start_seq"] = (*sequence).into();
            "by_start_sequence"
        }
        Deliver::StartTime(time) => {
            config["opt_start_time"] = as_the_server_writes(time).into();
            "by_start_time"
        }
    }
    .into();
    said(config)
}

fn origin(origin: &Origin) -> Json {
    let external = origin.external.as_ref().map(|external| {
        json!({ "api": external.api, "deliver": external.deliver.as_deref().unwrap_or_default() })
    });
    said(json!({
        "name": origin.stream.value,
        "filter_subject": origin.filter.as_ref().map(|filter| &filter.value),
        "opt_start_seq": origin.start_seq,
        "opt_start_time": origin.start_time.as_ref().map(|time| as_the_server_writes(&time.value)),
        "subject_transforms": list(origin.subject_transforms.iter().map(transform)),
        "external": external,
    }))
    .into()
}

fn transform(transform: &Transform) -> Json {
    json!({ "src": transform.from.value, "dest": transform.to.value })
}

fn as_the_server_writes(time: &str) -> String {
    let parsed = time.parse::<Timestamp>();
    parsed.map_or_else(|_| time.to_owned(), |time| time.to_string())
}

fn metadata(metadata: &BTreeMap<String, Spanned<String>>) -> Option<Map<String, Json>> {
    let members = metadata.iter();
    let members = members.map(|(key, value)| (key.clone(), value.value.clone().into()));
    let members: Map<_, _> = members.collect();
    (!members.is_empty()).then_some(members)
}

fn list(items: impl Iterator<Item = Json>) -> Option<Vec<Json>> {
    let items: Vec<_> = items.collect();
    (!items.is_empty()).then_some(items)
}

/// What is said; the server takes nothing for what it has when nobody says.
fn said(config: Json) -> ServerConfig {
    let Json::Object(mut members) = config else {
        return ServerConfig::new();
    };
    members.retain(|_, value| !value.is_null());
    members
}

fn bytes(text: Option<&Spanned<String>>) -> i64 {
    let bytes = text.and_then(|text| quantity::bytes(&text.value));
    bytes.map_or(-1, |bytes| bytes as i64)
}

fn time(text: Option<&Spanned<String>>) -> Option<Duration> {
    text.and_then(|text| quantity::duration(&text.value))
}

fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
