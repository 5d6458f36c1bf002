//! Streams: what Ponix asks of them, and bringing the server's to that.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};

use crate::reconcile::{Comparison, Difference, display_differences};
use ponix_wire::covers;

/// What a stream must be. The rest is the same for every stream of Ponix: file storage, limits
/// retention, discard new (a full stream refuses publishes, it never drops unread messages), no
/// maximum age, direct gets, no rollups and no per-message TTL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// The stream's name.
    pub name: String,
    /// Subjects it takes in.
    pub subjects: Vec<String>,
    /// Bytes it may hold before it refuses publishes.
    pub bytes_max: u64,
    /// Copies in a cluster, 1 to 5.
    pub replicas: usize,
    /// Messages with an id seen within this time are stored once.
    pub duplicate_window: Duration,
    /// At most one message per subject; a second one is refused. For dead letters.
    pub one_per_subject: bool,
    /// Time for which messages stay at most, read or not; zero is for ever. For dead letters alone:
    /// a source loses nothing that is unread.
    pub age_max: Duration,
}

/// A stream that somebody may have made otherwise.
#[derive(Debug)]
pub struct AdoptedStream {
    /// The stream.
    pub stream: Stream,
    /// The settings it was asked for with, and the subjects that it has.
    pub settings: StreamSettings,
    /// Whether it keeps messages until they are purged, so that a [`Janitor`](crate::Janitor) has
    /// work to do; it must leave others alone.
    pub drops_nothing: bool,
}

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream is there with settings that cannot be changed without losing something.
    #[error(
        "stream {stream} has other settings than configured ({}): change the configuration, or the stream by hand",
        display_differences(differences)
    )]
    Differs {
        /// The stream's name.
        stream: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// The server refused to create the stream.
    #[error("stream {stream} cannot be created{}", advice(source))]
    Create {
        /// The stream's name.
        stream: String,
        /// The server's answer.
        #[source]
        source: CreateStreamError,
    },
    /// The server refused to change the stream.
    #[error(
        "stream {stream} cannot be updated ({}){}",
        display_differences(differences),
        advice(source)
    )]
    Update {
        /// The stream's name.
        stream: String,
        /// What was to change.
        differences: Vec<Difference>,
        /// The server's answer.
        #[source]
        source: CreateStreamError,
    },
    /// The server did not tell about the stream.
    #[error(
        "stream {stream} cannot be looked up: is JetStream enabled, and may the user use $JS.API.STREAM.INFO.{stream}?"
    )]
    Lookup {
        /// The stream's name.
        stream: String,
        /// The server's answer.
        #[source]
        source: async_nats::jetstream::context::GetStreamError,
    },
}

impl StreamError {
    /// Tells whether trying again may help: the server did not answer, or is electing a leader.
    pub fn is_transient(&self) -> bool {
        use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
        match self {
            Self::Lookup { source, .. } => !matches!(
                source.kind(),
                GetStreamErrorKind::InvalidStreamName | GetStreamErrorKind::EmptyName
            ),
            Self::Create { source, .. } | Self::Update { source, .. } => match source.kind() {
                Kind::TimedOut | Kind::JetStreamUnavailable => true,
                Kind::JetStream(error) => matches!(
                    error.error_code(),
                    ErrorCode::CLUSTER_NOT_AVAILABLE | ErrorCode::INSUFFICIENT_RESOURCES
                ),
                _ => false,
            },
            Self::Differs { .. } => false,
        }
    }
}

fn advice(error: &CreateStreamError) -> &'static str {
    use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
    let error = match error.kind() {
        Kind::JetStream(error) => error,
        // A server does not answer a request that the user may not send.
        Kind::TimedOut => {
            return ": may the user use $JS.API.STREAM.CREATE.> and $JS.API.STREAM.UPDATE.>?";
        }
        _ => return "",
    };
    advice_on(error.error_code())
}

/// What to do about an answer of the server.
pub(crate) fn advice_on(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::STREAM_SUBJECT_OVERLAP => {
            ": another stream already takes its subjects (nats stream ls tells which)"
        }
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::INSUFFICIENT_RESOURCES => {
            ": the server has less store space than its size limit asks for; lower the limit or give the server more"
        }
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED => {
            ": the server is not part of a cluster with that many nodes; lower the replicas"
        }
        _ => "",
    }
}

impl StreamSettings {
    /// Returns settings with the defaults of the design: 10 GiB, one replica, two minutes.
    pub fn new(name: impl Into<String>, subjects: Vec<String>) -> Self {
        Self {
            name: name.into(),
            subjects,
            bytes_max: 10 << 30,
            replicas: 1,
            duplicate_window: Duration::from_mins(2),
            one_per_subject: false,
            age_max: Duration::ZERO,
        }
    }

    /// Tells whether every message that `filter` asks for is one the stream can hold.
    pub fn covers(&self, filter: &str) -> bool {
        self.subjects.iter().any(|subject| covers(subject, filter))
    }

    /// Creates the stream, or brings the one that is there to these settings.
    ///
    /// # Errors
    /// Settings that cannot be changed, or the server's refusal.
    ///
    /// # Cancel safety
    /// Cancel safe: each step is one request that may be repeated.
    pub async fn reconcile(&self, context: &Context) -> Result<Stream, StreamError> {
        match context.get_stream(&self.name).await {
            Ok(stream) => {
                self.update(context, stream.cached_info().config.clone())
                    .await?;
                Ok(stream)
            }
            Err(err) if is_missing(&err) => self.create(context).await,
            Err(source) => Err(StreamError::Lookup {
                stream: self.name.clone(),
                source,
            }),
        }
    }

    /// Creates the stream, or takes the one that is there as it is.
    ///
    /// # Errors
    /// The server's refusal.
    ///
    /// # Cancel safety
    /// Cancel safe: each step is one request that may be repeated.
    pub async fn adopt(&self, context: &Context) -> Result<AdoptedStream, StreamError> {
        match context.get_stream(&self.name).await {
            Ok(stream) => {
                let actual = stream.cached_info().config.clone();
                Ok(AdoptedStream {
                    drops_nothing: self.drops_nothing(&actual),
                    settings: Self {
                        subjects: actual.subjects,
                        ..self.clone()
                    },
                    stream,
                })
            }
            Err(err) if is_missing(&err) => Ok(AdoptedStream {
                stream: self.create(context).await?,
                settings: self.clone(),
                drops_nothing: true,
            }),
            Err(source) => Err(StreamError::Lookup {
                stream: self.name.clone(),
                source,
            }),
        }
    }

    /// Tells whether a stream keeps every message until somebody purges it, as those of Ponix do.
    fn drops_nothing(&self, actual: &Config) -> bool {
        let wanted = self.config();
        actual.retention == wanted.retention
            && actual.discard == wanted.discard
            && actual.max_age == wanted.max_age
            && unlimited(actual.max_messages_per_subject) == -1
            && !actual.deny_purge
            && actual.mirror.is_none()
    }

    async fn create(&self, context: &Context) -> Result<Stream, StreamError> {
        let stream = context
            .create_stream(self.config())
            .await
            .map_err(|source| StreamError::Create {
                stream: self.name.clone(),
                source,
            })?;
        tracing::info!(stream = self.name, subjects = ?self.subjects, replicas = self.replicas, "stream created");
        Ok(stream)
    }

    async fn update(&self, context: &Context, actual: Config) -> Result<(), StreamError> {
        let comparison = self.compare(&actual);
        let refused = comparison.refused();
        if !refused.is_empty() {
            return Err(StreamError::Differs {
                stream: self.name.clone(),
                differences: refused,
            });
        }
        if comparison.differences.is_empty() {
            return Ok(());
        }
        let difference = display_differences(&comparison.differences);
        context
            .update_stream(self.updated(actual))
            .await
            .map_err(|source| StreamError::Update {
                stream: self.name.clone(),
                differences: comparison.differences,
                source,
            })?;
        tracing::warn!(
            stream = self.name,
            difference,
            "stream updated to the configuration"
        );
        Ok(())
    }

    /// The one place that says what a stream of Ponix is.
    fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            subjects: self.subjects.clone(),
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            discard_new_per_subject: self.one_per_subject,
            max_messages_per_subject: if self.one_per_subject { 1 } else { -1 },
            max_messages: -1,
            max_bytes: i64::try_from(self.bytes_max).unwrap_or(i64::MAX),
            max_age: self.age_max,
            max_message_size: -1,
            max_consumers: -1,
            num_replicas: self.replicas,
            duplicate_window: self.duplicate_window,
            allow_direct: true,
            ..Config::default()
        }
    }

    fn compare(&self, actual: &Config) -> Comparison {
        let wanted = self.config();
        let mut c = Comparison::default();
        c.fixed("storage", &actual.storage, &wanted.storage);
        c.fixed("retention", &actual.retention, &wanted.retention);
        c.fixed("sealed", &actual.sealed, &false);
        c.fixed("no_ack", &actual.no_ack, &false);
        c.fixed("mirror", &actual.mirror.is_some(), &false);
        c.fixed("allow_msg_ttl", &actual.allow_message_ttl, &false);
        c.fixed("deny_purge", &actual.deny_purge, &false);
        // Its PubAck comes before the message is stored.
        let persisted_later = actual.persist_mode == Some(PersistenceMode::Async);
        c.fixed("persist_mode async", &persisted_later, &false);
        let subjects_kept = actual
            .subjects
            .iter()
            .all(|s| wanted.subjects.iter().any(|w| covers(w, s)));
        c.note(
            "subjects",
            &actual.subjects,
            &wanted.subjects,
            subjects_kept,
        );
        // Less room makes a stream with discard new refuse publishes; it drops nothing.
        c.safe(
            "max_bytes",
            &unlimited(actual.max_bytes),
            &unlimited(wanted.max_bytes),
        );
        c.safe("max_msgs", &unlimited(actual.max_messages), &-1);
        c.safe("max_age", &actual.max_age, &wanted.max_age);
        c.safe("discard", &actual.discard, &wanted.discard);
        c.safe(
            "duplicate_window",
            &actual.duplicate_window,
            &wanted.duplicate_window,
        );
        c.safe("allow_direct", &actual.allow_direct, &wanted.allow_direct);
        c.safe("allow_rollup_hdrs", &actual.allow_rollup, &false);
        // Fewer copies lose what was promised to those who published.
        c.note(
            "num_replicas",
            &actual.num_replicas,
            &wanted.num_replicas,
            actual.num_replicas < wanted.num_replicas,
        );
        // One per subject drops the older messages of a subject that has several.
        c.note(
            "max_msgs_per_subject",
            &unlimited(actual.max_messages_per_subject),
            &wanted.max_messages_per_subject,
            !self.one_per_subject,
        );
        c.safe(
            "discard_new_per_subject",
            &actual.discard_new_per_subject,
            &self.one_per_subject,
        );
        c
    }

    /// What is there, with only the compared settings changed.
    fn updated(&self, actual: Config) -> Config {
        let wanted = self.config();
        Config {
            subjects: wanted.subjects,
            max_bytes: wanted.max_bytes,
            max_messages: wanted.max_messages,
            max_age: wanted.max_age,
            discard: wanted.discard,
            duplicate_window: wanted.duplicate_window,
            allow_direct: wanted.allow_direct,
            allow_rollup: false,
            num_replicas: wanted.num_replicas,
            max_messages_per_subject: wanted.max_messages_per_subject,
            discard_new_per_subject: wanted.discard_new_per_subject,
            ..actual
        }
    }
}

/// The server says both 0 and −1 for "no limit".
const fn unlimited(value: i64) -> i64 {
    if value <= 0 { -1 } else { value }
}

fn is_missing(err: &async_nats::jetstream::context::GetStreamError) -> bool {
    matches!(err.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StreamSettings {
        StreamSettings::new("events", vec!["events.>".into()])
    }

    fn names(differences: &[Difference]) -> Vec<&str> {
        differences.iter().map(|d| d.setting).collect()
    }

    #[test]
    fn what_it_would_create_needs_no_change() {
        for one_per_subject in [false, true] {
            let settings = StreamSettings {
                one_per_subject,
                ..settings()
            };
            assert_eq!(settings.compare(&settings.config()).differences, vec![]);
        }
    }

    #[test]
    fn a_stream_that_drops_old_messages_is_changed() {
        let actual = Config {
            discard: DiscardPolicy::Old,
            max_age: Duration::from_hours(1),
            allow_rollup: true,
            ..settings().config()
        };
        let comparison = settings().compare(&actual);
        assert_eq!(
            names(&comparison.differences),
            ["max_age", "discard", "allow_rollup_hdrs"]
        );
        assert!(comparison.refused().is_empty());
        let updated = settings().updated(actual);
        assert_eq!(settings().compare(&updated).differences, vec![]);
    }

    #[test]
    fn what_would_lose_messages_is_refused() {
        let cases = [
            (
                "storage",
                Config {
                    storage: StorageType::Memory,
                    ..settings().config()
                },
            ),
            (
                "retention",
                Config {
                    retention: RetentionPolicy::WorkQueue,
                    ..settings().config()
                },
            ),
            (
                "sealed",
                Config {
                    sealed: true,
                    ..settings().config()
                },
            ),
            (
                "num_replicas",
                Config {
                    num_replicas: 3,
                    ..settings().config()
                },
            ),
            (
                "persist_mode async",
                Config {
                    persist_mode: Some(PersistenceMode::Async),
                    ..settings().config()
                },
            ),
            (
                "subjects",
                Config {
                    subjects: vec!["events.>".into(), "more.>".into()],
                    ..settings().config()
                },
            ),
        ];
        for (setting, actual) in cases {
            assert_eq!(names(&settings().compare(&actual).refused()), [setting]);
        }
    }

    #[test]
    fn subjects_may_grow() {
        let actual = Config {
            subjects: vec!["events.a".into()],
            ..settings().config()
        };
        let comparison = settings().compare(&actual);
        assert_eq!(names(&comparison.differences), ["subjects"]);
        assert!(comparison.refused().is_empty());
    }

    #[test]
    fn unknown_settings_survive_an_update() {
        let actual = Config {
            description: Some("ours".into()),
            max_age: Duration::from_secs(9),
            ..settings().config()
        };
        assert_eq!(
            settings().updated(actual).description.as_deref(),
            Some("ours")
        );
    }
}
