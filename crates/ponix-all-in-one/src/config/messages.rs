//! Variables of the message pipeline: stream, consumer, batches.

use std::time::Duration;

use ponix_pipeline::{DeadLetters, Limits, Pipeline, Source, builtin};

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

    /// Returns the pipeline of raw messages as these variables have it.
    pub(crate) fn pipeline(&self) -> Pipeline {
        let subject = format!("{}.ingest.>", self.subject_prefix);
        let mut pipeline = builtin::messages();
        pipeline.source = Source {
            stream: self.stream.clone(),
            subjects: vec![subject.clone()],
            filter: Some(subject),
            consumer: self.consumer.clone(),
            bytes_max: self.stream_bytes_max,
            replay_window: Some(self.history_secs),
        };
        pipeline.limits = Limits {
            batch_messages: self.batch_size as usize,
            batch_bytes: self.batch_bytes_max as usize,
            linger: self.batch_wait_secs,
            in_flight: self.batches_in_flight as usize,
            ack_wait: self.ack_wait_secs,
            ack_pending_max: self.max_ack_pending,
            deliveries_max: u32::try_from(self.max_deliveries).unwrap_or(u32::MAX),
            nak_delay: Some(self.nak_delay_secs),
        };
        pipeline.dead_letters = DeadLetters {
            stream: format!("{}_dlq", self.stream),
            subject_prefix: format!("{}_dlq", self.subject_prefix),
            bytes_max: self.dead_letter_bytes_max,
        };
        pipeline
    }
}
