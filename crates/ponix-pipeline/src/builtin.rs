//! The pipelines that every service has, as documents.

use std::path::PathBuf;

use crate::spec::{Pipeline, from_files};

/// The document of [`envelopes`].
pub const ENVELOPES: &str = include_str!("spec/builtin/envelopes.yaml");
/// The document of [`messages`].
pub const MESSAGES: &str = include_str!("spec/builtin/messages.yaml");

/// Returns the pipeline of events: `processed_envelopes` into ClickHouse.
pub fn envelopes() -> Pipeline {
    built_in("envelopes.yaml", ENVELOPES)
}

/// Returns the pipeline of raw messages: `MESSAGES` into the tables of entities in PostgreSQL.
pub fn messages() -> Pipeline {
    built_in("messages.yaml", MESSAGES)
}

fn built_in(name: &str, text: &str) -> Pipeline {
    let path = PathBuf::from(format!("(built in) {name}"));
    let pipelines = from_files([(path, text.to_owned())]);
    let pipelines = pipelines.expect("a built-in document is right: a test loads it");
    pipelines
        .into_iter()
        .next()
        .expect("one document is one pipeline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeFormat, Limits, clashes};

    #[test]
    fn both_load_and_go_together() {
        let both = [envelopes(), messages()];
        assert_eq!(clashes(&both), []);
        assert_eq!(both[0].decode, DecodeFormat::Envelope);
        assert_eq!(both[0].limits, Limits::default());
        assert_eq!(both[1].limits.batch_messages, 5_000);
        assert_eq!(both[1].dead_letters.subject_prefix, "messages_dlq");
    }
}
