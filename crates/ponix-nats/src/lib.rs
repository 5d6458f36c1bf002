#![doc = include_str!("../README.md")]

mod batch_consumer;
mod config;
mod connection;
mod consumer;
mod dead_letters;
mod delivery;
mod envelope;
mod failpoint;
mod follower;
mod history;
mod identity;
mod janitor;
mod kept_letter;
mod metrics;
mod observation;
mod pack;
mod position;
mod processing_result;
mod publisher;
mod reconcile;
mod refusing;
mod retry;
mod stream;
pub mod topology;

pub use async_nats;

pub use crate::batch_consumer::{
    BatchConsumer, BatchConsumerError, BatchProcessor, BatchSettings, ConsumerState, ProcessError,
    RebuildReason,
};
pub use crate::config::{ClientCertificate, NatsAuth, NatsConfig, NatsTls};
pub use crate::connection::{
    ConnectError, ConnectionRole, check_config, connect, jetstream_context,
};
pub use crate::consumer::{ConsumerError, ConsumerSettings};
pub use crate::dead_letters::DeadLetters;
pub use crate::delivery::{Batch, Delivery};
pub use crate::envelope::{CONTENT_TYPE, decode_delivery, decode_message, envelope_message};
pub use crate::follower::{FollowedMessage, FollowedPlace, Follower};
pub use crate::history::{
    HistoryError, RangeReader, SequenceRange, first_since, held_range, message_from,
};
pub use crate::identity::{StreamPosition, message_identity};
pub use crate::janitor::{Cleaning, Janitor};
pub use crate::kept_letter::KeptLetter;
pub use crate::metrics::{ConsumerMetrics, NatsMetrics, StreamMetrics};
pub use crate::pack::{Pack, mixed_subject, pack};
pub use crate::processing_result::{
    DeadEvent, DeadLetter, Disposition, ProcessingResult, StageTimes,
};
pub use crate::publisher::{
    OutgoingMessage, PendingPublish, PubAck, PublishError, PublishErrorClass, Publisher,
    SUBJECT_BYTES_MAX,
};
pub use crate::reconcile::Difference;
pub use crate::stream::{AdoptedStream, StreamError, StreamSettings};
pub use ponix_wire::DeadLetterReason;
