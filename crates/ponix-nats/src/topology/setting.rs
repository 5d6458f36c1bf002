//! Every setting that is compared: its name in files and in the API, what it is when nobody says,
//! how it is written, and whether it can be changed.

use std::time::Duration;

use ponix_wire::quantity::{shown_bytes, shown_duration};
use serde_json::{Map, Value as Json, json};

use super::ServerConfig;
use crate::position::SET_BACK_TO;

/// One setting of a stream or a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in files.
    pub name: &'static str,
    /// Its name in the server's API.
    pub api: &'static str,
    /// What it holds.
    pub kind: SettingKind,
    pub(super) change: Changing,
}

/// What a setting holds; with a value, what it is when nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// A text.
    Text,
    /// Several texts.
    Texts,
    /// One of several words.
    Word(&'static str),
    /// True or false. A server that says nothing means false.
    Flag(bool),
    /// A number; −1 is no limit.
    Count(i64),
    /// Bytes; −1 is no limit.
    Bytes,
    /// A time in seconds; 0 is no limit.
    Time(u64),
    /// Texts by name.
    Metadata,
    /// Another stream that this one copies.
    Origin,
    /// Other streams whose messages this one takes.
    Origins,
    /// From a subject to another.
    Transform,
    /// Which subjects a consumer reads.
    Filters,
    /// Where a consumer begins.
    Start,
}

/// Whether a setting can be changed on a stream or consumer that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changing {
    /// At any time, and no message is lost by it.
    Free,
    /// Never.
    Fixed,
    /// From false to true alone.
    OnceOn,
    /// What lies beyond a lower limit is dropped.
    MayDrop,
}

use Changing::{Fixed, Free, MayDrop, OnceOn};
use SettingKind::{
    Bytes, Count, Filters, Flag, Metadata, Origin, Origins, Start, Text, Texts, Time, Transform,
    Word,
};

const fn setting(
    name: &'static str,
    api: &'static str,
    kind: SettingKind,
    change: Changing,
) -> Setting {
    Setting {
        name,
        api,
        kind,
        change,
    }
}

/// The settings of a stream besides its name, in the order of files.
pub const STREAM_SETTINGS: &[Setting] = &[
    setting("description", "description", Text, Free),
    setting("subjects", "subjects", Texts, Free),
    setting("retention", "retention", Word("limits"), MayDrop),
    setting("storage", "storage", Word("file"), Fixed),
    setting("replicas", "num_replicas", Count(1), Free),
    setting("max_age", "max_age", Time(0), MayDrop),
    setting("max_bytes", "max_bytes", Bytes, MayDrop),
    setting("max_msgs", "max_msgs", Count(-1), MayDrop),
    setting(
        "max_msgs_per_subject",
        "max_msgs_per_subject",
        Count(-1),
        MayDrop,
    ),
    setting("max_msg_size", "max_msg_size", Bytes, Free),
    setting("discard", "discard", Word("old"), Free),
    setting(
        "discard_per_subject",
        "discard_new_per_subject",
        Flag(false),
        Free,
    ),
    setting("duplicate_window", "duplicate_window", Time(120), Free),
    setting("compression", "compression", Word("none"), Free),
    setting("allow_direct", "allow_direct", Flag(true), Free),
    setting("allow_rollup", "allow_rollup_hdrs", Flag(false), Free),
    setting("deny_delete", "deny_delete", Flag(false), OnceOn),
    setting("deny_purge", "deny_purge", Flag(false), OnceOn),
    setting("mirror", "mirror", Origin, Fixed),
    setting("sources", "sources", Origins, Free),
    setting("subject_transform", "subject_transform", Transform, Free),
    setting("metadata", "metadata", Metadata, Free),
];

/// The settings of a consumer besides its name, in the order of files.
pub const CONSUMER_SETTINGS: &[Setting] = &[
    setting("description", "description", Text, Free),
    setting("filters", "filter_subjects", Filters, Free),
    setting("deliver", "deliver_policy", Start, Fixed),
    setting("ack", "ack_policy", Word("explicit"), Fixed),
    setting("ack_wait", "ack_wait", Time(30), Free),
    setting("max_deliver", "max_deliver", Count(-1), Free),
    setting("max_ack_pending", "max_ack_pending", Count(1_000), Free),
    setting("inactive_threshold", "inactive_threshold", Time(0), Free),
    // 0 is as many as the stream has.
    setting("replicas", "num_replicas", Count(0), Free),
    setting("metadata", "metadata", Metadata, Free),
];

impl Setting {
    /// What the setting is in a configuration, so that equal ones are equal.
    pub fn of(&self, config: &ServerConfig) -> Json {
        let value = config.get(self.api).unwrap_or(&Json::Null);
        match self.kind {
            Text => value.as_str().unwrap_or_default().into(),
            Texts | Origins => value.as_array().cloned().unwrap_or_default().into(),
            Word(default) => value.as_str().unwrap_or(default).into(),
            Flag(_) => value.as_bool().unwrap_or_default().into(),
            Count(default) => limit(value, default).into(),
            Bytes => limit(value, -1).into(),
            Time(default) => match value.as_u64() {
                None | Some(0) => (default * 1_000_000_000).into(),
                Some(nanoseconds) => nanoseconds.into(),
            },
            Metadata => {
                let members = value.as_object().into_iter().flatten();
                let own = members.filter(|(key, _)| !is_reserved(key));
                let own = own.map(|(key, value)| (key.clone(), value.clone()));
                own.collect::<Map<_, _>>().into()
            }
            Origin | Transform => value.clone(),
            Filters => filters(config).into(),
            Start => start(config),
        }
    }

    /// What the setting is when a file does not say.
    pub fn unsaid(&self) -> Json {
        match self.kind {
            Flag(default) => default.into(),
            _ => self.of(&ServerConfig::new()),
        }
    }

    /// Puts a value, as [`of`](Self::of) returns it, into a configuration.
    pub fn put(&self, value: Json, config: &mut ServerConfig) {
        match (self.kind, value) {
            (Filters, Json::Array(filters)) => {
                config.remove("filter_subject");
                config.remove("filter_subjects");
                match &filters[..] {
                    [] => {}
                    [only] => drop(config.insert("filter_subject".to_owned(), only.clone())),
                    _ => drop(config.insert("filter_subjects".to_owned(), filters.into())),
                }
            }
            (Start, Json::Object(start)) => config.extend(start),
            (Metadata, Json::Object(metadata)) => {
                let kept = config.remove(self.api);
                let kept = kept.as_ref().and_then(Json::as_object);
                let kept = kept.into_iter().flatten();
                let mut all: Map<_, _> = kept
                    .filter(|(key, _)| is_reserved(key))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                all.extend(metadata);
                config.insert(self.api.to_owned(), all.into());
            }
            (_, Json::Null) => drop(config.remove(self.api)),
            (_, value) => drop(config.insert(self.api.to_owned(), value)),
        }
    }

    /// Writes a value, as [`of`](Self::of) returns it, as it stands in a file.
    pub fn shown(&self, value: &Json) -> String {
        let nanoseconds = || value.as_u64().unwrap_or_default();
        match self.kind {
            Word("limits") if value == "workqueue" => "work".to_owned(),
            Count(_) | Bytes if value == -1 => "none".to_owned(),
            Time(_) if nanoseconds() == 0 => "none".to_owned(),
            Bytes => shown_bytes(value.as_u64().unwrap_or_default()),
            Time(_) => shown_duration(Duration::from_nanos(nanoseconds())),
            Origin => flow(&origin_in_file(value)),
            Origins => {
                let origins = value.as_array().into_iter().flatten();
                flow(&origins.map(origin_in_file).collect())
            }
            Transform => flow(&transform_in_file(value)),
            Start => match value["deliver_policy"].as_str().unwrap_or_default() {
                "by_start_sequence" => flow(&json!({ "start_seq": value["opt_start_seq"] })),
                "by_start_time" => flow(&json!({ "start_time": value["opt_start_time"] })),
                word => word.to_owned(),
            },
            _ => flow(value),
        }
    }
}

/// Tells whether a key of metadata is the server's or a worker's, and nobody else's.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with("_nats.") || key.starts_with("ponix-")
}

/// A limit: the server says both 0 and nothing for the default, and any negative number for none.
fn limit(value: &Json, default: i64) -> i64 {
    match value.as_i64().unwrap_or_default() {
        0 => default,
        number => number.max(-1),
    }
}

fn filters(config: &ServerConfig) -> Vec<Json> {
    let many = config.get("filter_subjects").and_then(Json::as_array);
    let one = config.get("filter_subject").and_then(Json::as_str);
    let mut filters: Vec<String> = match (many, one) {
        (Some(many), _) => {
            let texts = many.iter().filter_map(Json::as_str);
            texts.map(str::to_owned).collect()
        }
        (None, Some(one)) if !one.is_empty() => vec![one.to_owned()],
        _ => Vec::new(),
    };
    filters.sort();
    filters.into_iter().map(Json::from).collect()
}

/// Where a consumer began when it was made, whether it was set back since or not.
fn start(config: &ServerConfig) -> Json {
    let policy = config.get("deliver_policy").and_then(Json::as_str);
    let sequence = config.get("opt_start_seq").unwrap_or(&Json::Null);
    let set_back_to = config.get("metadata").map(|all| &all[SET_BACK_TO]);
    match policy.unwrap_or("all") {
        "by_start_sequence"
            if set_back_to.and_then(Json::as_str) == Some(&sequence.to_string()) =>
        {
            json!({ "deliver_policy": "all" })
        }
        "by_start_sequence" => {
            json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": sequence })
        }
        "by_start_time" => {
            let time = config.get("opt_start_time").unwrap_or(&Json::Null);
            json!({ "deliver_policy": "by_start_time", "opt_start_time": time })
        }
        word => json!({ "deliver_policy": word }),
    }
}

/// An origin of messages with the names of files.
fn origin_in_file(origin: &Json) -> Json {
    const NAMES: [(&str, &str); 4] = [
        ("stream", "name"),
        ("filter", "filter_subject"),
        ("start_seq", "opt_start_seq"),
        ("start_time", "opt_start_time"),
    ];
    if origin.is_null() {
        return Json::Null;
    }
    let mut members = Map::new();
    for (name, api) in NAMES {
        if let Some(value) = origin.get(api) {
            members.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(transforms) = origin["subject_transforms"].as_array() {
        let transforms: Vec<_> = transforms.iter().map(transform_in_file).collect();
        members.insert("subject_transforms".to_owned(), transforms.into());
    }
    if let Some(external) = origin.get("external") {
        members.insert("external".to_owned(), external.clone());
    }
    members.into()
}

fn transform_in_file(transform: &Json) -> Json {
    if transform.is_null() {
        return Json::Null;
    }
    json!({ "from": transform["src"], "to": transform["dest"] })
}

/// Writes a value as YAML on one line.
fn flow(value: &Json) -> String {
    match value {
        Json::Null => "none".to_owned(),
        Json::String(text) if is_plain(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(members) => {
            let key = |key: &str| flow(&key.into());
            let members = members
                .iter()
                .map(|(k, v)| format!("{}: {}", key(k), flow(v)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// Whether a text can stand without quotes and is still a text.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-$/>".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: &Json) -> ServerConfig {
        value.as_object().cloned().expect("a configuration")
    }

    fn shown(name: &str, settings: &[Setting], value: &Json) -> String {
        let setting = settings.iter().find(|setting| setting.name == name);
        let setting = setting.expect("a setting");
        setting.shown(&setting.of(&config(value)))
    }

    #[test]
    fn what_the_server_leaves_out_is_what_a_file_leaves_out() {
        let left_out = json!({ "max_msgs": 0, "max_bytes": -1, "num_replicas": 0 });
        for setting in STREAM_SETTINGS.iter().chain(CONSUMER_SETTINGS) {
            // A file that says nothing asks for direct gets.
            let expected = if setting.name == "allow_direct" {
                false.into()
            } else {
                setting.unsaid()
            };
            assert_eq!(setting.of(&config(&left_out)), expected, "{}", setting.name);
        }
    }

    #[test]
    fn settings_are_written_as_in_files() {
        for (name, value, expected) in [
            ("retention", json!({ "retention": "workqueue" }), "work"),
            ("max_age", json!({ "max_age": 3_600_000_000_000_u64 }), "1h"),
            ("max_age", json!({}), "none"),
            ("max_bytes", json!({ "max_bytes": 1 << 28 }), "256MiB"),
            (
                "subjects",
                json!({ "subjects": ["a.>", "*.b"] }),
                "[a.>, \"*.b\"]",
            ),
            (
                "mirror",
                json!({ "mirror": { "name": "A", "opt_start_seq": 7 } }),
                "{start_seq: 7, stream: A}",
            ),
            (
                "metadata",
                json!({ "metadata": { "_nats.level": "1", "team": "on" } }),
                "{team: \"on\"}",
            ),
        ] {
            assert_eq!(shown(name, STREAM_SETTINGS, &value), expected);
        }
        let start = json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": 7 });
        assert_eq!(
            shown("deliver", CONSUMER_SETTINGS, &start),
            "{start_seq: 7}"
        );
        let filters = json!({ "filter_subjects": ["b", "a"] });
        assert_eq!(shown("filters", CONSUMER_SETTINGS, &filters), "[a, b]");
    }

    #[test]
    fn a_consumer_that_was_set_back_begins_where_it_was_made_to() {
        let set_back = json!({
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": 7,
            "metadata": { SET_BACK_TO: "7" },
        });
        assert_eq!(shown("deliver", CONSUMER_SETTINGS, &set_back), "all");
    }
}
