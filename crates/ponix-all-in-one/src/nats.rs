//! The connections to NATS, and the streams on them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ponix_console::Streams;
use ponix_nats::async_nats::Client;
use ponix_nats::async_nats::jetstream::Context;
use ponix_nats::async_nats::jetstream::consumer::PullConsumer;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    AdoptedStream, ConnectionRole, ConsumerError, ConsumerSettings, NatsMetrics, Publisher,
    StreamError, StreamSettings, connect, jetstream_context,
};
use ponix_pipeline::Pipeline;
use ponix_runner::Startup;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::NatsVariables;
use crate::deployment;
use crate::retry::until_ready;

/// Time the last acks get to leave the machine.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What every pipeline shares: one connection for publishing, one for consuming.
#[derive(Debug, Clone)]
pub(crate) struct Nats {
    pub(crate) publishing: Client,
    pub(crate) consuming: Client,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: NatsMetrics,
    /// Room for batches that all pipelines share, in KiB.
    pub(crate) room: Arc<Semaphore>,
    context: Context,
    deadline: Instant,
}

impl Nats {
    /// Connects, trying until `deadline`.
    ///
    /// # Errors
    /// What was tried, and how long.
    pub(crate) async fn connect(
        variables: &NatsVariables,
        batches_bytes_max: u64,
        startup: &Startup,
        metrics: NatsMetrics,
        deadline: Instant,
    ) -> anyhow::Result<Self> {
        startup.phase(format!("connecting to {}", variables.url_shown()));
        let config = variables.connection();
        let publishing = connect(&config, ConnectionRole::Publish, &metrics, deadline).await?;
        startup.closer("nats publish connection", closer(publishing.clone()));
        let consuming = connect(&config, ConnectionRole::Consume, &metrics, deadline).await?;
        startup.closer("nats consume connection", closer(consuming.clone()));
        let publisher = Publisher::new(
            publishing.clone(),
            &config,
            variables.publish_in_flight as usize,
            metrics.clone(),
        );
        Ok(Self {
            context: jetstream_context(consuming.clone(), &config),
            publishing,
            consuming,
            publisher,
            metrics,
            room: Arc::new(Semaphore::new((batches_bytes_max / 1024) as usize)),
            deadline,
        })
    }

    /// Returns where these pipelines are, for those who look at them.
    pub(crate) fn streams(&self, pipelines: &[Pipeline]) -> Streams {
        Streams {
            context: self.context.clone(),
            publisher: self.publisher.clone(),
            pipelines: deployment::streams(pipelines),
        }
    }

    /// Brings a stream to its settings.
    ///
    /// # Errors
    /// What differs or was refused, and what to do.
    pub(crate) async fn stream(&self, settings: &StreamSettings) -> anyhow::Result<Stream> {
        until_ready("stream", self.deadline, StreamError::is_transient, || {
            settings.reconcile(&self.context)
        })
        .await
    }

    /// Makes a stream, or takes the one that is there as it is.
    ///
    /// # Errors
    /// What was refused, and what to do.
    pub(crate) async fn adopt(&self, settings: &StreamSettings) -> anyhow::Result<AdoptedStream> {
        until_ready("stream", self.deadline, StreamError::is_transient, || {
            settings.adopt(&self.context)
        })
        .await
    }

    /// Brings a consumer of a stream to its settings.
    ///
    /// # Errors
    /// What differs or was refused, and what to do.
    pub(crate) async fn consumer(
        &self,
        settings: &ConsumerSettings,
        stream: &Stream,
        stream_settings: &StreamSettings,
    ) -> anyhow::Result<PullConsumer> {
        until_ready(
            "consumer",
            self.deadline,
            ConsumerError::is_transient,
            || settings.reconcile(stream, stream_settings),
        )
        .await
    }
}

/// Flushes what is queued, acks above all; the connection closes when its last handle is dropped.
fn closer(
    client: Client,
) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> + Send {
    move || {
        Box::pin(async move {
            match tokio::time::timeout(FLUSH_TIMEOUT, client.flush()).await {
                Ok(flushed) => flushed.context("the last acks could not be flushed"),
                Err(_) => anyhow::bail!(
                    "the last acks could not be flushed in {FLUSH_TIMEOUT:?}; they are delivered again"
                ),
            }
        })
    }
}
