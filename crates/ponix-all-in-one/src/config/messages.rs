//! Variables of the message pipeline: stream, consumer, batches.

use std::time::Duration;

use ponix_nats::{BatchSettings, ConsumerSettings, DeadLetters, StreamSettings};

use super::environment::Problem;
use super::nats::{batch_wait_problem, name_problem};
use super::value::Any;
use super::variables::variables;

const GIB: u64 = 1 << 30;

variables! {
    /// What the service is told about raw messages on their way to PostgreSQL.
    struct MessagesVariables, "PONIX_MESSAGES_" {
        /// Run the worker that takes messages to PostgreSQL; it needs `PONIX_POSTGRES_URL`.
        plain enabled: bool = "true", Any;
        /// Entity of JSON messages that name none.
        plain default_entity: Option<String> = "", Any;
        /// Stream of the raw messages; its dead letters are in `<stream>_dlq`.
        plain stream: String = "MESSAGES", Any;
        /// First token of the subjects: messages come on `<prefix>.ingest.<entity>`, dead letters
        /// go to `<prefix>_dlq.<message id>`.
        plain subject_prefix: String = "messages", Any;
        /// Bytes the stream may hold before it refuses publishes.
        plain stream_bytes_max: u64 = "1073741824", (1 << 20)..=(1 << 50);
        /// Bytes the dead letters may hold before messages stay in the stream instead.
        plain dead_letter_bytes_max: u64 = "1073741824", (1 << 20)..=(1 << 50);
        /// Durable name of the consumer; workers with the same name share the work.
        plain consumer: String = "workers", Any;
        /// Messages in a batch at most, hence in a transaction.
        plain batch_size: u64 = "5000", 1..=50_000;
        /// Bytes in a batch at most.
        plain batch_bytes_max: u64 = "4194304", (64 << 10)..=GIB;
        /// Time a message waits for its batch to fill at most (linger); fractions are allowed.
        plain batch_wait_secs: Duration = "0.2", 0.01..=3_600.0;
        /// Batches pulled and not yet settled at most.
        plain batches_in_flight: u64 = "3", 1..=64;
        /// Time after which an unsettled message is delivered to another worker.
        plain ack_wait_secs: Duration = "30", 1.0..=3_600.0;
        /// Unsettled messages over all workers before the server stops delivering; at least twice
        /// the batches in flight times the batch size.
        plain max_ack_pending: u64 = "100000", 1..=10_000_000;
        /// From this delivery on, a message that fails alone goes to the dead letters.
        plain max_deliveries: u64 = "3", 3..=1_000_000;
        /// Time until a message that was given back is delivered again.
        plain nak_delay_secs: Duration = "5", 0.0..=3_600.0;
        /// Time for which settled messages stay in the stream.
        plain history_secs: Duration = "86400", 0.0..=315_360_000.0;
    }
}

impl MessagesVariables {
    /// Checks what concerns several variables.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = [
            ("PONIX_MESSAGES_STREAM", &self.stream),
            ("PONIX_MESSAGES_SUBJECT_PREFIX", &self.subject_prefix),
            ("PONIX_MESSAGES_CONSUMER", &self.consumer),
        ]
        .into_iter()
        .filter_map(|(variable, name)| name_problem(variable, name))
        .collect();
        let (wait, ack_wait) = (self.batch_wait_secs, self.ack_wait_secs);
        problems.extend(batch_wait_problem("PONIX_MESSAGES_", wait, ack_wait));
        let least = 2 * self.batches_in_flight * self.batch_size;
        if self.max_ack_pending < least {
            problems.push(Problem::new(
                "PONIX_MESSAGES_MAX_ACK_PENDING",
                format!(
                    "is {}, expected at least {least}: twice PONIX_MESSAGES_BATCHES_IN_FLIGHT times PONIX_MESSAGES_BATCH_SIZE",
                    self.max_ack_pending
                ),
            ));
        }
        problems
    }

    /// Two streams cannot have one name, nor take in one subject.
    pub(super) fn check_apart_from(&self, nats: &super::NatsVariables) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut same = |variable: &str, value: &str, what: &str| {
            if value == nats.stream {
                let text = format!("is {value:?}, as PONIX_NATS_STREAM is: {what}");
                problems.push(Problem::new(variable, text));
            }
        };
        same(
            "PONIX_MESSAGES_STREAM",
            &self.stream,
            "raw messages need a stream of their own",
        );
        same(
            "PONIX_MESSAGES_SUBJECT_PREFIX",
            &self.subject_prefix,
            "the subjects of the events begin with it",
        );
        problems
    }

    /// Returns the stream of the raw messages, with the copies and the window of the events'.
    pub(crate) fn stream(&self, nats: &super::NatsVariables) -> StreamSettings {
        let subjects = vec![format!("{}.ingest.>", self.subject_prefix)];
        StreamSettings {
            bytes_max: self.stream_bytes_max,
            replicas: nats.replicas as usize,
            duplicate_window: nats.duplicate_window_secs,
            ..StreamSettings::new(self.stream.clone(), subjects)
        }
    }

    /// Returns the stream of the dead letters.
    pub(crate) fn dead_letters(&self, nats: &super::NatsVariables) -> StreamSettings {
        StreamSettings {
            age_max: nats.dead_letter_keep_secs,
            ..DeadLetters::stream_settings(&self.stream(nats), self.dead_letter_bytes_max)
        }
    }

    /// Returns the durable consumer of the workers.
    pub(crate) fn consumer(&self) -> ConsumerSettings {
        ConsumerSettings {
            name: self.consumer.clone(),
            filter_subject: format!("{}.ingest.>", self.subject_prefix),
            ack_wait: self.ack_wait_secs,
            ack_pending_max: i64::try_from(self.max_ack_pending).unwrap_or(i64::MAX),
            target: None,
        }
    }

    /// Returns the durable consumer that reads the dead letters to note their status.
    pub(crate) fn status_consumer(&self) -> ConsumerSettings {
        ConsumerSettings {
            name: format!("{}_status", self.consumer),
            filter_subject: format!("{}_dlq.>", self.subject_prefix),
            ..self.consumer()
        }
    }

    /// Returns the limits of the batches.
    pub(crate) fn batches(&self, nats: &super::NatsVariables) -> BatchSettings {
        BatchSettings {
            messages_max: self.batch_size as usize,
            bytes_max: self.batch_bytes_max as usize,
            linger: self.batch_wait_secs,
            in_flight_max: self.batches_in_flight as usize,
            ack_wait: self.ack_wait_secs,
            nak_delay: self.nak_delay_secs,
            stall_timeout: nats.stall_timeout_secs,
            deliveries_max: u32::try_from(self.max_deliveries).unwrap_or(u32::MAX),
            ..BatchSettings::default()
        }
    }
}
