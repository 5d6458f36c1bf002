//! The servers of a deployment.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use ponix_all_in_one::Deployment;
use ponix_clickhouse::ClickHouseConfig;
use ponix_console::{PipelineStreams, Streams};
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{ConnectionRole, NatsConfig, NatsMetrics, Publisher, connect, jetstream_context};
use ponix_pipeline::{DecodeFormat, Limits, Pipeline, RecordDecoder};
use tokio::time::Instant;

/// Messages that wait for their PubAck at the same time.
pub(crate) const IN_FLIGHT_MAX: usize = 256;

/// A connection to NATS, and what there is to be found.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) streams: Streams,
    pub(crate) documents: Vec<Pipeline>,
    /// What the variables say of all of it.
    pub(crate) deployment: Box<Deployment>,
    pub(crate) clickhouse: Option<ClickHouseConfig>,
    pub(crate) admin_addr: SocketAddr,
    pub(crate) url: String,
    /// Time in which NATS has to answer.
    pub(crate) timeout: Duration,
}

impl Servers {
    pub(crate) async fn connect(deployment: Deployment, timeout: Duration) -> anyhow::Result<Self> {
        Self::connect_until(deployment, timeout, Instant::now() + timeout).await
    }

    /// Tries until `deadline`; each request has its own `timeout`.
    pub(crate) async fn connect_until(
        deployment: Deployment,
        timeout: Duration,
        deadline: Instant,
    ) -> anyhow::Result<Self> {
        let config = NatsConfig {
            connect_timeout: timeout,
            request_timeout: timeout,
            ..deployment.nats.clone()
        };
        let metrics = NatsMetrics::unregistered();
        let client = connect(&config, ConnectionRole::Publish, &metrics, deadline)
            .await
            .with_context(|| format!("PONIX_NATS_URL={}", deployment.nats_shown))?;
        Ok(Self {
            streams: Streams {
                context: jetstream_context(client.clone(), &config),
                publisher: Publisher::new(client, &config, IN_FLIGHT_MAX, metrics),
                pipelines: deployment.pipelines.clone(),
            },
            documents: deployment.documents.clone(),
            clickhouse: deployment.clickhouse.clone(),
            admin_addr: deployment.admin_addr,
            url: deployment.nats_shown.clone(),
            deployment: Box::new(deployment),
            timeout,
        })
    }

    /// Returns a stream; `None` when there is none of this name.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub(crate) async fn stream(&self, name: &str) -> anyhow::Result<Option<Stream>> {
        self.streams.stream(name).await
    }

    /// Returns the limits of a pipeline.
    pub(crate) fn limits(&self, name: &str) -> Option<&Limits> {
        let found = self.documents.iter().find(|one| one.name == name);
        found.map(|document| &document.limits)
    }

    /// Returns what reads the messages of a declared pipeline; `None` for another, and for one that
    /// reads by entities.
    ///
    /// # Errors
    /// A file that it names cannot be read.
    pub(crate) fn decoder(&self, name: &str) -> anyhow::Result<Option<RecordDecoder>> {
        let found = self.documents.iter().find(|one| one.name == name);
        let reads_alone = |one: &&Pipeline| {
            !one.is_built_in() && !matches!(one.decode, DecodeFormat::Entity { .. })
        };
        Ok(found
            .filter(reads_alone)
            .map(RecordDecoder::new)
            .transpose()?)
    }

    /// Returns the pipeline of this name.
    ///
    /// # Errors
    /// There is none; the known ones are named.
    pub(crate) fn pipeline(&self, name: &str) -> anyhow::Result<&PipelineStreams> {
        self.streams.pipeline(name)
    }
}
