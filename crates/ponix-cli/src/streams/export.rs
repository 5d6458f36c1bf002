//! `ponix streams export`: what a server has, as a file that declares it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use ponix_entities::loader::API_VERSION;
use ponix_nats::topology::{
    CONSUMER_SETTINGS, STREAM_SETTINGS, ServerConfig, Setting, StreamOnServer, is_durable_pull,
};
use serde_json::Value as Json;

use super::document::KIND;
use crate::{End, print};

/// Settings that every stream or consumer has and no file needs.
const ELSEWHERE: [&str; 12] = [
    "name",
    "durable_name",
    "filter_subject",
    "opt_start_seq",
    "opt_start_time",
    "consumer_limits",
    "max_consumers",
    "sealed",
    "mirror_direct",
    "replay_policy",
    "max_waiting",
    "template_owner",
];

/// Writes the file; one that is there already is left alone.
pub(super) fn run(streams: &[StreamOnServer], file: &Path) -> anyhow::Result<End> {
    let text = text(streams);
    if file == Path::new("-") {
        print::text(&text);
        return Ok(End::Done);
    }
    let written = std::fs::File::create_new(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.with_context(|| file.display().to_string())?;
    Ok(End::Done)
}

fn text(streams: &[StreamOnServer]) -> String {
    let mut text = format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: exported\nspec:\n  streams:"
    );
    let (internal, streams): (Vec<_>, Vec<_>) =
        streams.iter().partition(|stream| stream.is_internal());
    for stream in &internal {
        let name = stream.layout.name();
        print::note(&format!(
            "stream {name} is left out: it is the store of something else"
        ));
    }
    text.push_str(if streams.is_empty() { " []\n" } else { "\n" });
    for stream in streams {
        let config = &stream.layout.config;
        let name = stream.layout.name();
        let _ = writeln!(text, "    - name: {}", scalar(name));
        settings(config, STREAM_SETTINGS, "      ", &mut text);
        let is = |key: &str, value: &str| config.get(key).and_then(Json::as_str) == Some(value);
        if is("retention", "workqueue") && !is("discard", "new") {
            text.push_str("      drops_unread: true\n");
        }
        left_out(&format!("stream {name}"), config, STREAM_SETTINGS);
        let (pulled, others): (Vec<_>, Vec<_>) = stream
            .layout
            .consumers
            .iter()
            .partition(|consumer| is_durable_pull(consumer));
        for other in others.iter().filter(|one| one.contains_key("durable_name")) {
            let consumer = consumer_name(other);
            print::note(&format!(
                "consumer {name}/{consumer} is left out: it is pushed to"
            ));
        }
        if !pulled.is_empty() {
            text.push_str("      consumers:\n");
        }
        for consumer in pulled {
            let durable = consumer_name(consumer);
            let _ = writeln!(text, "        - durable: {}", scalar(durable));
            settings(consumer, CONSUMER_SETTINGS, "          ", &mut text);
            left_out(
                &format!("consumer {name}/{durable}"),
                consumer,
                CONSUMER_SETTINGS,
            );
        }
    }
    text
}

/// Writes what is not as it is when nobody says.
fn settings(config: &ServerConfig, settings: &[Setting], indent: &str, text: &mut String) {
    for setting in settings {
        let value = setting.of(config);
        if value != setting.unsaid() {
            let _ = writeln!(text, "{indent}{}: {}", setting.name, setting.shown(&value));
        }
    }
}

/// Says which settings a file cannot hold; `apply` leaves them as they are.
fn left_out(what: &str, config: &ServerConfig, settings: &[Setting]) {
    let is_known =
        |key: &str| ELSEWHERE.contains(&key) || settings.iter().any(|setting| setting.api == key);
    let says_nothing = |value: &Json| {
        [Json::Null, false.into(), 0.into(), (-1).into(), "".into()].contains(value)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    let left: Vec<_> = config
        .iter()
        .filter(|(key, value)| !is_known(key) && !says_nothing(value))
        .map(|(key, _)| key.as_str())
        .collect();
    if !left.is_empty() {
        print::note(&format!("{what} is exported without {}", left.join(", ")));
    }
}

fn consumer_name(consumer: &ServerConfig) -> &str {
    consumer
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default()
}

/// A name that is a text whatever it looks like: JSON's texts are YAML's.
fn scalar(text: &str) -> String {
    Json::from(text).to_string()
}
