//! What an operator's tools have to know of a deployment: its servers, and where its pipelines are.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ponix_clickhouse::ClickHouseConfig;
use ponix_console::PipelineStreams;
use ponix_nats::NatsConfig;
use ponix_pipeline::{Pipeline, Sink};

use crate::commands::probe;
use crate::config::{Config, Environment, Reading};
use crate::pipelines;

/// A deployment, as the variables of this environment describe it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Deployment {
    /// How to connect to NATS.
    pub nats: NatsConfig,
    /// The URLs of NATS without their passwords.
    pub nats_shown: String,
    /// Admin endpoint of the service on this machine.
    pub admin_addr: SocketAddr,
    /// Every pipeline, whether or not the services here run it.
    pub pipelines: Vec<PipelineStreams>,
    /// Their documents.
    pub documents: Vec<Pipeline>,
    /// How to connect to ClickHouse; `None` when nothing is stored there.
    pub clickhouse: Option<ClickHouseConfig>,
    /// All of it.
    pub(crate) config: Arc<Config>,
}

/// The variables, or the documents they lead to, are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentError(String);

impl fmt::Display for DeploymentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is wrong:\n{}", self.0)
    }
}

impl std::error::Error for DeploymentError {}

impl Deployment {
    /// Reads the `PONIX_*` variables of this process, as the services read theirs.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn of_process() -> Result<Self, DeploymentError> {
        let wrong = |problems: &dyn fmt::Display| DeploymentError(problems.to_string());
        let config = Reading::new(&Environment::of_process())
            .into_config()
            .map_err(|problems| wrong(&problems))?;
        let declared = pipelines::load(config.service.pipelines_dir.as_deref())
            .map_err(|problems| wrong(&problems))?;
        let in_clickhouse = |one: &Pipeline| matches!(one.sink, Sink::Clickhouse(_));
        let stores = config.clickhouse.enabled || declared.iter().any(in_clickhouse);
        let documents = pipelines::all(&config, declared);
        Ok(Self {
            nats: config.nats.connection(),
            nats_shown: config.nats.url_shown(),
            admin_addr: config.service.admin_addr,
            pipelines: streams(&documents),
            clickhouse: stores.then(|| config.clickhouse.client()),
            documents,
            config: Arc::new(config),
        })
    }
}

/// Asks a service whether it is ready, and returns what it says of itself, a JSON object.
///
/// # Errors
/// None answers at this address.
///
/// # Cancel safety
/// Cancel safe.
pub async fn readiness(admin_addr: SocketAddr) -> Result<(bool, String), String> {
    probe::readiness(admin_addr).await
}

/// Returns where these pipelines are.
pub(crate) fn streams(pipelines: &[Pipeline]) -> Vec<PipelineStreams> {
    let streams = pipelines.iter().map(|pipeline| PipelineStreams {
        name: pipeline.name.clone(),
        stream: pipeline.source.stream.clone(),
        consumer: pipeline.source.consumer.clone(),
        dead_letters: pipeline.dead_letters.stream.clone(),
    });
    streams.collect()
}
