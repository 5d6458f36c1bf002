//! Variables of NATS: connection, stream, consumer, batches.

use std::path::PathBuf;
use std::time::Duration;

use ponix_nats::{ClientCertificate, ConnectError, NatsAuth, NatsConfig, NatsTls};
use ponix_pipeline::{DeadLetters, Limits, Pipeline, Source, builtin};
use ponix_wire::covers;
use secrecy::SecretString;

use super::environment::{Problem, without_url_password};
use super::value::Any;
use super::variables::variables;

const GIB: u64 = 1 << 30;

variables! {
    /// What the service is told about NATS.
    struct NatsVariables, "PONIX_NATS_" {
        /// Server URLs, separated by commas: `nats://host:4222`, `tls://host:4222`.
        plain url: String = "nats://localhost:4222", Any;
        /// User name; needs `PONIX_NATS_PASSWORD`.
        plain user: Option<String> = "", Any;
        /// Password of the user.
        secret password: Option<SecretString> = "", Any;
        /// Token, where the server asks for one.
        secret token: Option<SecretString> = "", Any;
        /// NKey seed (`SU…`).
        secret nkey: Option<SecretString> = "", Any;
        /// Credentials file (`.creds`): JWT and NKey seed.
        plain credentials: Option<PathBuf> = "", Any;
        /// CA certificates the server's must come from, a PEM file; otherwise the system's.
        plain tls_ca: Option<PathBuf> = "", Any;
        /// Certificate the client shows, a PEM file; needs `PONIX_NATS_TLS_KEY`.
        plain tls_cert: Option<PathBuf> = "", Any;
        /// Key of that certificate, a PEM file.
        plain tls_key: Option<PathBuf> = "", Any;
        /// Refuse a connection without TLS.
        plain tls_required: bool = "false", Any;
        /// Beginning of the subjects that answers come to; `docker/nats-roles.conf` gives each role its own.
        plain inbox_prefix: String = "_INBOX", Any;
        /// Time between keep-alive pings.
        plain ping_interval_secs: Duration = "5", 0.1..=600.0;
        /// Time a connect, a request to the JetStream API or a PubAck may take.
        plain request_timeout_secs: Duration = "5", 0.1..=600.0;
        /// Stream of the events; it takes in the subjects `<stream>.>`. Its dead letters are in
        /// `<stream>_dlq`.
        plain stream: String = "processed_envelopes", Any;
        /// Bytes the stream may hold before it refuses publishes.
        plain stream_bytes_max: u64 = "10737418240", (1 << 20)..=(1 << 50);
        /// Bytes the dead letters may hold before messages stay in the stream instead.
        plain dead_letter_bytes_max: u64 = "1073741824", (1 << 20)..=(1 << 50);
        /// Time for which dead letters of every pipeline are kept; 0 is for ever, or at least
        /// `PONIX_NATS_DUPLICATE_WINDOW_SECS`.
        plain dead_letter_keep_secs: Duration = "0", 0.0..=315_360_000.0;
        /// Copies of streams and consumer in a cluster.
        plain replicas: u64 = "1", 1..=5;
        /// Time in which a second publish with the same id is dropped.
        plain duplicate_window_secs: Duration = "120", 0.1..=86_400.0;
        /// Which subjects of the stream are consumed.
        plain subject: String = "processed_envelopes.>", Any;
        /// Durable name of the consumer; services with the same name share the work.
        plain consumer: String = "ponix-all-in-one", Any;
        /// Events in a batch at most, hence rows in an INSERT: each message that is not packed is one. The
        /// server is asked for as many messages as had so many events lately, and a packed message is never
        /// split, so there may be the events of one message more.
        plain batch_size: u64 = "20000", 1..=100_000;
        /// Events that a packed message of any pipeline may carry at most; one with more is a dead letter
        /// as a whole.
        plain pack_events_max: u64 = "10000", 1..=100_000;
        /// Bytes in a batch at most.
        plain batch_bytes_max: u64 = "6291456", (64 << 10)..=GIB;
        /// Time a message waits for its batch to fill at most (linger); fractions are allowed; at
        /// most half of `PONIX_NATS_ACK_WAIT_SECS`.
        plain batch_wait_secs: Duration = "1", 0.01..=3_600.0;
        /// Batches pulled and not yet settled at most; bounds the memory together with
        /// `PONIX_NATS_BATCH_BYTES_MAX`.
        plain batches_in_flight: u64 = "3", 1..=64;
        /// Time after which an unsettled message is delivered to another worker; messages in work
        /// report progress every third of it.
        plain ack_wait_secs: Duration = "60", 1.0..=3_600.0;
        /// Unsettled messages over all workers before the server stops delivering; at least twice
        /// the batches in flight times the batch size.
        plain max_ack_pending: u64 = "200000", 1..=10_000_000;
        /// From this delivery on, a message that fails alone goes to the dead letters.
        plain max_deliveries: u64 = "8", 3..=1_000_000;
        /// Time until a message that was given back is delivered again.
        plain nak_delay_secs: Duration = "5", 0.0..=3_600.0;
        /// With messages pending and none delivered for this time, the pull is set up again.
        plain stall_timeout_secs: Duration = "30", 1.0..=3_600.0;
        /// Time for which settled messages stay in the stream, to be replayed.
        plain replay_window_secs: Duration = "86400", 0.0..=315_360_000.0;
        /// Time between two purges of settled messages beyond the replay window.
        plain janitor_interval_secs: Duration = "60", 0.1..=86_400.0;
        /// Published messages that may wait for their PubAck at the same time.
        plain publish_in_flight: u64 = "1024", 1..=65_536;
    }
}

impl NatsVariables {
    /// Checks what concerns several variables.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let ways = [
            self.user.is_some(),
            self.token.is_some(),
            self.nkey.is_some(),
            self.credentials.is_some(),
        ];
        if ways.iter().filter(|set| **set).count() > 1 {
            problems.push(Problem::new(
                "PONIX_NATS_USER, _TOKEN, _NKEY, _CREDENTIALS",
                "are ways to log in of which at most one may be set",
            ));
        }
        let keep = self.dead_letter_keep_secs;
        if !keep.is_zero() && keep < self.duplicate_window_secs {
            problems.push(Problem::new(
                "PONIX_NATS_DEAD_LETTER_KEEP_SECS",
                format!(
                    "is {}, expected 0 or at least PONIX_NATS_DUPLICATE_WINDOW_SECS, which is {}",
                    keep.as_secs_f64(),
                    self.duplicate_window_secs.as_secs_f64()
                ),
            ));
        }
        if self.user.is_some() != self.password.is_some() {
            problems.push(Problem::new(
                "PONIX_NATS_USER",
                "and PONIX_NATS_PASSWORD go together: set both or none",
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push(Problem::new(
                "PONIX_NATS_TLS_CERT",
                "and PONIX_NATS_TLS_KEY go together: set both or none",
            ));
        }
        problems.extend(name_problem("PONIX_NATS_STREAM", &self.stream));
        problems.extend(name_problem("PONIX_NATS_CONSUMER", &self.consumer));
        problems.extend(name_problem("PONIX_NATS_INBOX_PREFIX", &self.inbox_prefix));
        let (wait, ack_wait) = (self.batch_wait_secs, self.ack_wait_secs);
        problems.extend(batch_wait_problem("PONIX_NATS_", wait, ack_wait));
        let least = 2 * self.batches_in_flight * self.batch_size;
        if self.max_ack_pending < least {
            problems.push(Problem::new(
                "PONIX_NATS_MAX_ACK_PENDING",
                format!(
                    "is {}, expected at least {least}: twice PONIX_NATS_BATCHES_IN_FLIGHT times PONIX_NATS_BATCH_SIZE",
                    self.max_ack_pending
                ),
            ));
        }
        problems
    }

    /// A consumer that asks for subjects which the stream does not take in would stay silent.
    pub(super) fn check_subject(&self) -> Option<Problem> {
        let (stream, subject) = (&self.stream, &self.subject);
        let named = name_problem("", stream).is_none();
        (named && !covers(&format!("{stream}.>"), subject)).then(|| {
            Problem::new(
                "PONIX_NATS_SUBJECT",
                format!(
                    "is {subject:?}, which stream {stream} (PONIX_NATS_STREAM) does not take in: set PONIX_NATS_SUBJECT={stream}.> for all of it, or a part of that"
                ),
            )
        })
    }

    /// Returns the variable that leads to this error.
    pub(crate) fn variable_of(&self, err: &ConnectError) -> &'static str {
        let ConnectError::File { path, .. } = err else {
            return "PONIX_NATS_URL";
        };
        let files = [
            (&self.credentials, "PONIX_NATS_CREDENTIALS"),
            (&self.tls_ca, "PONIX_NATS_TLS_CA"),
            (&self.tls_cert, "PONIX_NATS_TLS_CERT"),
        ];
        let found = files.iter().find(|(file, _)| file.as_ref() == Some(path));
        found.map_or("PONIX_NATS_TLS_KEY", |(_, variable)| variable)
    }

    /// Returns the URLs without their passwords.
    pub(crate) fn url_shown(&self) -> String {
        without_url_password(&self.url)
    }

    /// Returns the connection's part.
    pub(crate) fn connection(&self) -> NatsConfig {
        let auth = match (
            &self.user,
            &self.password,
            &self.token,
            &self.nkey,
            &self.credentials,
        ) {
            (Some(user), Some(password), ..) => NatsAuth::UserPassword {
                user: user.clone(),
                password: password.clone(),
            },
            (_, _, Some(token), ..) => NatsAuth::Token(token.clone()),
            (_, _, _, Some(seed), _) => NatsAuth::NKey(seed.clone()),
            (.., Some(path)) => NatsAuth::CredentialsFile(path.clone()),
            _ => NatsAuth::None,
        };
        let client = self.tls_cert.clone().zip(self.tls_key.clone());
        NatsConfig {
            servers: self
                .url
                .split(',')
                .map(|url| url.trim().to_owned())
                .collect(),
            auth,
            tls: NatsTls {
                ca_file: self.tls_ca.clone(),
                client: client.map(|(cert_file, key_file)| ClientCertificate {
                    cert_file,
                    key_file,
                }),
                required: self.tls_required,
            },
            inbox_prefix: self.inbox_prefix.clone(),
            ping_interval: self.ping_interval_secs,
            connect_timeout: self.request_timeout_secs,
            request_timeout: self.request_timeout_secs,
            subscription_capacity: NatsConfig::default()
                .subscription_capacity
                .max(2 * self.batch_size as usize),
        }
    }

    /// Returns the pipeline of the events as these variables have it.
    pub(crate) fn envelopes(&self) -> Pipeline {
        let stream = &self.stream;
        let dead_letters = format!("{stream}_dlq");
        let mut pipeline = builtin::envelopes();
        pipeline.source = Source {
            stream: stream.clone(),
            subjects: vec![format!("{stream}.>")],
            filter: Some(self.subject.clone()),
            consumer: self.consumer.clone(),
            bytes_max: self.stream_bytes_max,
            replay_window: None,
        };
        pipeline.limits = Limits {
            batch_messages: self.batch_size as usize,
            batch_bytes: self.batch_bytes_max as usize,
            linger: self.batch_wait_secs,
            in_flight: self.batches_in_flight as usize,
            ack_wait: self.ack_wait_secs,
            ack_pending_max: self.max_ack_pending,
            deliveries_max: u32::try_from(self.max_deliveries).unwrap_or(u32::MAX),
            nak_delay: None,
        };
        pipeline.dead_letters = DeadLetters {
            subject_prefix: dead_letters.clone(),
            stream: dead_letters,
            bytes_max: self.dead_letter_bytes_max,
        };
        pipeline
    }
}

/// Messages that wait for their batch are not in work yet, and no progress is reported on them.
pub(super) fn batch_wait_problem(
    prefix: &str,
    batch_wait: Duration,
    ack_wait: Duration,
) -> Option<Problem> {
    (batch_wait > ack_wait / 2).then(|| {
        Problem::new(
            format!("{prefix}BATCH_WAIT_SECS"),
            format!(
                "is {} s, expected at most half of {prefix}ACK_WAIT_SECS, which is {} s: what waits longer for its batch is delivered again, for ever",
                batch_wait.as_secs_f64(),
                ack_wait.as_secs_f64(),
            ),
        )
    })
}

/// What is wrong with the name of a stream or consumer, or with a token of a subject.
pub(super) fn name_problem(variable: &str, name: &str) -> Option<Problem> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    (name.is_empty() || name.chars().any(forbidden)).then(|| {
        Problem::new(
            variable,
            "must not be empty or have white space, dots, wildcards or slashes",
        )
    })
}
