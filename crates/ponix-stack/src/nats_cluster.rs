//! Several NATS servers that keep JetStream together.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Nats, NatsBuilder, eventually, ports, server};

const NAME: &str = "ponix";
const NODES: usize = 3;

/// A cluster of NATS servers with replicated JetStream, all on loopback.
///
/// Its nodes are [`Nats`] servers, numbered from 0: `cluster.node(1).kill().await?`. Each knows the
/// others by their ports, which stay the same over restarts.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Nats>,
    start_timeout: Duration,
}

impl NatsCluster {
    /// Starts three nodes with the defaults of [`NatsClusterBuilder`].
    ///
    /// # Errors
    ///
    /// The program was not found, a node did not start, or they did not elect a leader in time.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Describes one.
    pub fn builder() -> NatsClusterBuilder {
        NatsClusterBuilder {
            nodes: NODES,
            data_dir: None,
            template: Nats::builder(),
            start_timeout: server::START_TIMEOUT,
        }
    }

    /// The URLs of all nodes for clients, separated by commas, without credentials.
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.nodes.iter().map(Nats::url).collect();
        urls.join(",")
    }

    /// One of the nodes.
    ///
    /// # Panics
    ///
    /// There are not so many.
    pub fn node(&self, index: usize) -> &Nats {
        &self.nodes[index]
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Nats] {
        &self.nodes
    }

    /// Ends all nodes with SIGKILL, as at a power cut, and waits until they are gone.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub async fn kill_all(&self) -> Result<()> {
        // One after the other, but with nothing in between that takes time.
        for node in &self.nodes {
            node.kill().await?;
        }
        Ok(())
    }

    /// Starts all nodes that do not run, on the same data and ports, and waits until the cluster is
    /// ready.
    ///
    /// # Errors
    ///
    /// A node did not start, or the cluster did not become ready in time.
    pub async fn start_all(&self) -> Result<()> {
        for node in self.nodes.iter().filter(|node| !node.is_running()) {
            node.start_again().await?;
        }
        self.wait_until_ready().await
    }

    /// Waits until the running nodes agree on a leader and say that they have caught up with it.
    ///
    /// # Errors
    ///
    /// Not in time: 60 s unless set otherwise.
    pub async fn wait_until_ready(&self) -> Result<()> {
        eventually("the cluster to be ready", self.start_timeout, || async {
            self.meta_leader().await?;
            for node in self.running() {
                node.monitoring("/healthz").await?;
            }
            anyhow::Ok(())
        })
        .await
    }

    /// The node that leads JetStream's own group, which places streams and consumers.
    ///
    /// # Errors
    ///
    /// No node runs, one does not answer, or they do not agree (yet).
    pub async fn meta_leader(&self) -> Result<usize> {
        self.agreed(|jsz| {
            jsz.pointer("/meta_cluster/leader")?
                .as_str()
                .map(str::to_owned)
        })
        .await
        .context("find the leader of the cluster")
    }

    /// The node that leads a stream.
    ///
    /// # Errors
    ///
    /// As [`meta_leader`](Self::meta_leader), or there is no such stream on the nodes that run.
    pub async fn stream_leader(&self, stream: &str) -> Result<usize> {
        self.agreed(|jsz| stream_leader(jsz, stream))
            .await
            .with_context(|| format!("find the leader of stream {stream}"))
    }

    /// Asks all running nodes the same; those that know must agree, and name a node.
    async fn agreed(&self, read: impl Fn(&Value) -> Option<String> + Send + Sync) -> Result<usize> {
        let mut names = Vec::new();
        for node in self.running() {
            let jsz = node.monitoring("/jsz?accounts=true&streams=true").await?;
            names.extend(read(&serde_json::from_str(&jsz)?).filter(|name| !name.is_empty()));
        }
        let name = names.first().context("no node knows of one")?;
        ensure!(
            names.iter().all(|other| other == name),
            "the nodes do not agree: {names:?}"
        );
        let index = (0..self.nodes.len()).find(|index| node_name(*index) == *name);
        index.with_context(|| format!("{name} is none of the nodes"))
    }

    fn running(&self) -> impl Iterator<Item = &Nats> {
        self.nodes.iter().filter(|node| node.is_running())
    }
}

/// Describes a [`NatsCluster`] before it is started: three nodes, free ports, temporary folders.
#[derive(Debug, Clone)]
pub struct NatsClusterBuilder {
    nodes: usize,
    data_dir: Option<PathBuf>,
    template: NatsBuilder,
    start_timeout: Duration,
}

impl NatsClusterBuilder {
    /// Sets how many nodes there are.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Keeps the folders of the nodes in this one, which stays after them.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Sets what all nodes have in common, as in `each(Nats::builder().sync_interval("always"))`.
    /// Names, ports, folders and routes are filled in.
    #[must_use]
    pub fn each(mut self, template: NatsBuilder) -> Self {
        self.template = template;
        self
    }

    /// Sets how long the cluster may take to become ready; 60 s otherwise.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Starts the nodes and waits until they agree on a leader.
    ///
    /// # Errors
    ///
    /// A node did not start, or the cluster was not ready in time.
    pub async fn start(self) -> Result<NatsCluster> {
        let routes: Vec<u16> = (0..self.nodes)
            .map(|_| ports::free())
            .collect::<Result<_>>()?;
        let mut starting = JoinSet::new();
        for index in 0..self.nodes {
            let node = self.node(index, &routes);
            starting.spawn(async move { (index, node.start().await) });
        }
        let mut nodes = Vec::with_capacity(self.nodes);
        for (index, node) in starting.join_all().await {
            nodes.push((index, node?));
        }
        nodes.sort_by_key(|(index, _)| *index);
        let cluster = NatsCluster {
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
            start_timeout: self.start_timeout,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    fn node(&self, index: usize, routes: &[u16]) -> NatsBuilder {
        let name = node_name(index);
        let others = routes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let others = others.map(|(_, port)| *port).collect();
        let mut node = self.template.clone();
        if let Some(folder) = &self.data_dir {
            node = node.data_dir(folder.join(&name));
        }
        node.server_name(name).cluster(NAME, routes[index], others)
    }
}

fn node_name(index: usize) -> String {
    format!("nats-{index}")
}

/// Searches the answer of `/jsz?accounts=true&streams=true`.
fn stream_leader(jsz: &Value, stream: &str) -> Option<String> {
    let accounts = jsz.get("account_details")?.as_array()?;
    let mut streams = accounts
        .iter()
        .filter_map(|account| account.get("stream_detail")?.as_array());
    let found = streams.find_map(|streams| {
        streams
            .iter()
            .find(|detail| detail.get("name").and_then(Value::as_str) == Some(stream))
    })?;
    found
        .pointer("/cluster/leader")?
        .as_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_leader_of_a_stream() {
        let jsz = serde_json::json!({ "account_details": [
            { "name": "EMPTY" },
            { "name": "$G", "stream_detail": [
                { "name": "A", "cluster": { "leader": "nats-2" } },
                { "name": "B", "cluster": { "replicas": [] } },
            ] },
        ] });
        assert_eq!(stream_leader(&jsz, "A").as_deref(), Some("nats-2"));
        assert_eq!(stream_leader(&jsz, "B"), None);
        assert_eq!(stream_leader(&jsz, "C"), None);
    }
}
