//! The durable pull consumer: what Ponix asks of it, and bringing the server's to that.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy};
use async_nats::jetstream::context::{ConsumerInfoError, ConsumerInfoErrorKind};
use async_nats::jetstream::stream::{ConsumerCreateStrictError, ConsumerUpdateError, Stream};

use crate::history::HistoryError;
use crate::position;
use crate::reconcile::{Comparison, Difference, display_differences};
use crate::stream::StreamSettings;

/// In a consumer's metadata: where its workers store.
const TARGET: &str = "ponix-target";
/// In a consumer's metadata: a file declares it.
pub(crate) const DECLARED: &str = "ponix-declared";
/// Pause between two looks at a position that lies beyond the end of the stream.
const POSITION_PAUSE: Duration = Duration::from_millis(500);

/// What a durable consumer must be. The rest is the same for every consumer of Ponix: explicit
/// acks, deliver all, no limit of deliveries (the server's giving up is a silent skip), no backoff
/// (it does not apply to naks and shortens `ack_wait`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// The durable name; workers with the same name share the work.
    pub name: String,
    /// Which subjects of the stream it reads; empty for all.
    pub filter_subject: String,
    /// Time after which the server delivers an unsettled message again.
    pub ack_wait: Duration,
    /// Unsettled messages over all workers before the server stops delivering.
    pub ack_pending_max: i64,
    /// Where the workers store, such as `clickhouse ponix.processed_envelopes`: kept in the
    /// consumer's metadata, so that two with different targets do not share its messages.
    pub target: Option<String>,
}

/// Why a consumer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// The filter asks for subjects that the stream does not take in: nothing would ever come.
    #[error(
        "consumer filter {filter} is not covered by the subjects of stream {stream} ({subjects}): set the filter to a part of them"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// The stream's name.
        stream: String,
        /// The stream's subjects, separated by commas.
        subjects: String,
    },
    /// The consumer is there with settings that cannot be changed without losing its place.
    #[error(
        "consumer {consumer} of stream {stream} has other settings than configured ({}): change the configuration, or use another consumer name",
        display_differences(differences)
    )]
    Differs {
        /// The consumer's name.
        consumer: String,
        /// The stream's name.
        stream: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// The server refused to create the consumer.
    #[error(
        "consumer {consumer} of stream {stream} cannot be created: may the user use $JS.API.CONSUMER.CREATE.{stream}.>?"
    )]
    Create {
        /// The consumer's name.
        consumer: String,
        /// The stream's name.
        stream: String,
        /// The server's answer.
        #[source]
        source: ConsumerCreateStrictError,
    },
    /// The server refused to change the consumer.
    #[error(
        "consumer {consumer} of stream {stream} cannot be updated ({}): may the user use $JS.API.CONSUMER.CREATE.{stream}.>?",
        display_differences(differences)
    )]
    Update {
        /// The consumer's name.
        consumer: String,
        /// The stream's name.
        stream: String,
        /// What was to change.
        differences: Vec<Difference>,
        /// The server's answer.
        #[source]
        source: ConsumerUpdateError,
    },
    /// The consumer's position lies beyond the end of the stream, and it cannot be set back.
    #[error(
        "consumer {consumer} would skip messages: its position lies beyond the end of stream {stream}, whose tail the server has lost (nats consumer rm {stream} {consumer} and a restart read again all that the stream holds; copies are absorbed)"
    )]
    Position {
        /// The consumer's name.
        consumer: String,
        /// The stream's name.
        stream: String,
        /// Why it cannot be set back.
        #[source]
        source: HistoryError,
    },
    /// The server did not tell about the consumer.
    #[error(
        "consumer {consumer} of stream {stream} cannot be looked up: may the user use $JS.API.CONSUMER.INFO.{stream}.{consumer}?"
    )]
    Lookup {
        /// The consumer's name.
        consumer: String,
        /// The stream's name.
        stream: String,
        /// The server's answer.
        #[source]
        source: ConsumerInfoError,
    },
}

impl ConsumerError {
    /// Tells whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lookup { source, .. } => {
                !matches!(source.kind(), ConsumerInfoErrorKind::InvalidName)
            }
            Self::Create { source, .. } => source.to_string().contains("timed out"),
            Self::Position { .. } => true,
            Self::Filter { .. } | Self::Differs { .. } | Self::Update { .. } => false,
        }
    }
}

impl ConsumerSettings {
    /// Creates the consumer on `stream`, or brings the one that is there to these settings.
    ///
    /// # Errors
    /// A filter outside the stream's subjects, settings that cannot be changed, or the server's
    /// refusal.
    ///
    /// # Cancel safety
    /// Cancel safe: each step is one request that may be repeated.
    pub async fn reconcile(
        &self,
        stream: &Stream,
        stream_settings: &StreamSettings,
    ) -> Result<PullConsumer, ConsumerError> {
        if !self.filter_subject.is_empty() && !stream_settings.covers(&self.filter_subject) {
            return Err(ConsumerError::Filter {
                filter: self.filter_subject.clone(),
                stream: stream_settings.name.clone(),
                subjects: stream_settings.subjects.join(", "),
            });
        }
        let (consumer, stream_name) = (self.name.clone(), stream_settings.name.clone());
        match stream.consumer_info(&self.name).await {
            // Boxed: what is known of a consumer is large.
            Ok(info) => Box::pin(self.bring_up_to_date(stream, &stream_name, &info.config)).await,
            Err(err) if err.kind() == ConsumerInfoErrorKind::NotFound => {
                let created =
                    stream
                        .create_consumer_strict(self.config())
                        .await
                        .map_err(|source| ConsumerError::Create {
                            consumer,
                            stream: stream_name.clone(),
                            source,
                        })?;
                tracing::info!(
                    stream = stream_name,
                    consumer = self.name,
                    filter = self.filter_subject,
                    "consumer created"
                );
                Ok(created)
            }
            Err(source) => Err(ConsumerError::Lookup {
                consumer,
                stream: stream_name,
                source,
            }),
        }
    }

    async fn bring_up_to_date(
        &self,
        stream: &Stream,
        stream_name: &str,
        actual: &async_nats::jetstream::consumer::Config,
    ) -> Result<PullConsumer, ConsumerError> {
        let updated = self.update(stream, stream_name, actual).await?;
        let checked = check_position(stream, &updated).await;
        checked.map_err(|source| ConsumerError::Position {
            consumer: self.name.clone(),
            stream: stream_name.to_owned(),
            source,
        })?;
        Ok(updated)
    }

    async fn update(
        &self,
        stream: &Stream,
        stream_name: &str,
        actual: &async_nats::jetstream::consumer::Config,
    ) -> Result<PullConsumer, ConsumerError> {
        let comparison = self.compare(actual);
        let (consumer, stream_name) = (self.name.clone(), stream_name.to_owned());
        let refused = comparison.refused();
        if !refused.is_empty() {
            return Err(ConsumerError::Differs {
                consumer,
                stream: stream_name,
                differences: refused,
            });
        }
        let difference = display_differences(&comparison.differences);
        // A user who may not change consumers is not asked to.
        if comparison.differences.is_empty()
            && let Ok(found) = stream.get_consumer(&self.name).await
        {
            return Ok(found);
        }
        let updated = stream
            .update_consumer(self.updated(actual))
            .await
            .map_err(|source| ConsumerError::Update {
                consumer,
                stream: stream_name.clone(),
                differences: comparison.differences,
                source,
            })?;
        if !difference.is_empty() {
            tracing::warn!(
                stream = stream_name,
                consumer = self.name,
                difference,
                "consumer updated to the configuration"
            );
        }
        Ok(updated)
    }

    /// The one place that says what a consumer of Ponix is.
    fn config(&self) -> Config {
        Config {
            durable_name: Some(self.name.clone()),
            name: Some(self.name.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            max_deliver: -1,
            filter_subject: self.filter_subject.clone(),
            replay_policy: ReplayPolicy::Instant,
            max_ack_pending: self.ack_pending_max,
            metadata: self.target_entry().into_iter().collect(),
            ..Config::default()
        }
    }

    fn target_entry(&self) -> Option<(String, String)> {
        let target = self.target.as_ref()?;
        Some((TARGET.to_owned(), target.clone()))
    }

    fn compare(&self, actual: &async_nats::jetstream::consumer::Config) -> Comparison {
        let mut c = Comparison::default();
        c.fixed(
            "deliver_policy",
            &position::original_policy(actual),
            &DeliverPolicy::All,
        );
        c.fixed("ack_policy", &actual.ack_policy, &AckPolicy::Explicit);
        c.fixed("push consumer", &actual.deliver_subject.is_some(), &false);
        c.fixed("headers_only", &actual.headers_only, &false);
        c.fixed("mem_storage", &actual.memory_storage, &false);
        c.fixed("priority_groups", &actual.priority_groups, &Vec::new());
        let filter = if actual.filter_subjects.is_empty() {
            actual.filter_subject.clone()
        } else {
            actual.filter_subjects.join(", ")
        };
        c.fixed("filter_subject", &filter, &self.filter_subject);
        if let Some(target) = &self.target {
            let actual = actual.metadata.get(TARGET);
            // A consumer of an older version says nothing.
            c.note("target", &actual, &Some(target), actual.is_none());
        }
        c.safe("ack_wait", &actual.ack_wait, &self.ack_wait);
        if !is_declared(actual) {
            c.safe("max_deliver", &actual.max_deliver, &-1);
        }
        c.safe(
            "max_ack_pending",
            &actual.max_ack_pending,
            &self.ack_pending_max,
        );
        c.safe("backoff", &actual.backoff, &Vec::new());
        // Limits that would refuse our requests.
        c.safe("max_batch", &actual.max_batch, &0);
        c.safe("max_bytes", &actual.max_bytes, &0);
        c.safe("max_expires", &actual.max_expires, &Duration::ZERO);
        c.safe(
            "inactive_threshold",
            &actual.inactive_threshold,
            &Duration::ZERO,
        );
        c
    }

    fn updated(&self, actual: &async_nats::jetstream::consumer::Config) -> Config {
        Config {
            deliver_policy: actual.deliver_policy,
            description: actual.description.clone(),
            metadata: {
                let mut metadata = actual.metadata.clone();
                metadata.extend(self.target_entry());
                metadata
            },
            num_replicas: actual.num_replicas,
            max_deliver: if is_declared(actual) {
                actual.max_deliver
            } else {
                -1
            },
            sample_frequency: actual.sample_frequency,
            max_waiting: actual.max_waiting,
            ..self.config()
        }
    }
}

/// Tells whether a file declares the consumer: what that says of deliveries is meant, and `ponix
/// streams check` has told what is lost by it.
fn is_declared(actual: &async_nats::jetstream::consumer::Config) -> bool {
    actual.metadata.contains_key(DECLARED)
}

/// Sets the consumer back where it would skip messages.
async fn check_position(stream: &Stream, consumer: &PullConsumer) -> Result<(), HistoryError> {
    let mut info = consumer.cached_info().clone();
    for look in 1.. {
        let Some(first_skipped) = position::first_skipped(stream, &info, None).await? else {
            break;
        };
        if look >= position::LOOKS {
            position::set_back(stream, &info, first_skipped).await?;
            break;
        }
        tokio::time::sleep(POSITION_PAUSE).await;
        info = consumer
            .get_info()
            .await
            .map_err(|err| HistoryError::new(stream, "no consumer info", err))?;
    }
    Ok(())
}
