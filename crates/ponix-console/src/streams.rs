//! The streams of a deployment's pipelines.

use anyhow::{Context as _, bail};
use ponix_nats::Publisher;
use ponix_nats::async_nats::jetstream;
use ponix_nats::async_nats::jetstream::context::GetStreamErrorKind;
use ponix_nats::async_nats::jetstream::stream::Stream;
use serde::Serialize;

/// The streams and the consumer of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineStreams {
    /// The pipeline's name.
    pub name: String,
    /// The stream that it reads.
    pub stream: String,
    /// The durable consumer that its workers share.
    pub consumer: String,
    /// The stream of its dead letters.
    pub dead_letters: String,
}

/// A connection, and the pipelines whose streams are found by it. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Streams {
    /// What is asked and told over it.
    pub context: jetstream::Context,
    /// What puts messages back.
    pub publisher: Publisher,
    /// Every pipeline, whether or not a service here runs it.
    pub pipelines: Vec<PipelineStreams>,
}

impl Streams {
    /// Returns a stream; `None` when there is none of this name.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn stream(&self, name: &str) -> anyhow::Result<Option<Stream>> {
        match self.context.get_stream(name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(err) => match err.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(err).with_context(|| format!("stream {name}")),
            },
        }
    }

    /// Returns the pipeline of this name.
    ///
    /// # Errors
    /// There is none; the known ones are named.
    pub fn pipeline(&self, name: &str) -> anyhow::Result<&PipelineStreams> {
        let found = self.pipelines.iter().find(|one| one.name == name);
        if let Some(found) = found {
            return Ok(found);
        }
        let known: Vec<_> = self.pipelines.iter().map(|one| &one.name[..]).collect();
        bail!(
            "there is no pipeline {name:?}, only {} (declared ones are found by PONIX_PIPELINES_DIR)",
            known.join(", ")
        )
    }
}
