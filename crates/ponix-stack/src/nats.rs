//! nats-server with JetStream.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::{Backend, Kind};
#[cfg(feature = "containers")]
use crate::container::{Container, Image};
use crate::folder::Folder;
use crate::server::{self, Ready, Server, local};
use crate::{Process, find, http, ports};

const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// A NATS server with JetStream and monitoring, on ports of loopback.
///
/// See [`Server`] for what it has in common with the others: stop, kill, pause, restart, log.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    monitoring: SocketAddr,
}

impl Nats {
    /// Starts one with the defaults of [`NatsBuilder`].
    ///
    /// # Errors
    ///
    /// The program was not found, or did not become ready; the text ends with its log.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Describes one.
    pub fn builder() -> NatsBuilder {
        NatsBuilder::default()
    }

    /// The URL for clients, `nats://127.0.0.1:PORT`, without credentials.
    pub fn url(&self) -> String {
        format!("nats://{}", self.server.addr())
    }

    /// The URL of the monitoring port, without a slash at the end.
    pub fn monitoring_url(&self) -> String {
        format!("http://{}", self.monitoring)
    }

    /// Asks the monitoring port, as in `monitoring("/jsz?streams=true")`; the answer is JSON.
    ///
    /// # Errors
    ///
    /// No answer within 2 s, or another status than 200.
    pub async fn monitoring(&self, path: &str) -> Result<String> {
        http::get(self.monitoring, path).await
    }

    /// Cuts the last third off the newest block of a stream's store, as a power cut may. Not while
    /// it runs: it would write the block again.
    ///
    /// # Errors
    ///
    /// The stream has no block, or it cannot be cut.
    pub fn cut_tail(&self, stream: &str) -> Result<()> {
        let mut blocks = Vec::new();
        let messages = format!("/{stream}/msgs/");
        find_blocks(self.folder(), &messages, &mut blocks)?;
        let written = |block: &PathBuf| block.metadata().and_then(|meta| meta.modified()).ok();
        let newest = blocks.into_iter().max_by_key(written).context("no block")?;
        let block = fs::OpenOptions::new().write(true).open(&newest)?;
        block.set_len(block.metadata()?.len() * 2 / 3)?;
        Ok(())
    }
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn find_blocks(folder: &Path, messages: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = path.to_string_lossy();
        if path.is_dir() {
            find_blocks(&path, messages, found)?;
        } else if text.contains(messages) && text.ends_with(".blk") {
            found.push(path);
        }
    }
    Ok(())
}

/// Describes a [`Nats`] before it is started: free ports, a temporary folder, JetStream on.
#[derive(Debug, Clone, Default)]
pub struct NatsBuilder {
    port: Option<u16>,
    monitoring_port: Option<u16>,
    data_dir: Option<PathBuf>,
    name: Option<String>,
    no_jetstream: bool,
    max_payload_bytes: Option<u64>,
    file_store_bytes_max: Option<u64>,
    memory_store_bytes_max: Option<u64>,
    sync_interval: Option<String>,
    authorization: Option<String>,
    cluster: Option<Cluster>,
    config: String,
    start_timeout: Option<Duration>,
    program: Option<PathBuf>,
}

/// The routes of a server to the others of its cluster, all on loopback.
#[derive(Debug, Clone)]
struct Cluster {
    name: String,
    port: u16,
    routes: Vec<u16>,
}

impl NatsBuilder {
    /// Sets the port for clients.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the port for monitoring.
    #[must_use]
    pub fn monitoring_port(mut self, port: u16) -> Self {
        self.monitoring_port = Some(port);
        self
    }

    /// Keeps store, configuration and log in this folder, which stays after the server.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Sets the server's name, `nats` otherwise.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Turns JetStream off or on.
    #[must_use]
    pub fn jetstream(mut self, on: bool) -> Self {
        self.no_jetstream = !on;
        self
    }

    /// Sets the largest message body, in bytes; the server's own default is 1 MiB.
    #[must_use]
    pub fn max_payload(mut self, bytes: u64) -> Self {
        self.max_payload_bytes = Some(bytes);
        self
    }

    /// Limits what all streams of storage "file" may hold, in bytes.
    #[must_use]
    pub fn max_file_store(mut self, bytes: u64) -> Self {
        self.file_store_bytes_max = Some(bytes);
        self
    }

    /// Limits what all streams of storage "memory" may hold, in bytes.
    #[must_use]
    pub fn max_memory_store(mut self, bytes: u64) -> Self {
        self.memory_store_bytes_max = Some(bytes);
        self
    }

    /// Sets how often the store is synced to the disk, as NATS writes it: `always` or `10s`.
    #[must_use]
    pub fn sync_interval(mut self, interval: impl Into<String>) -> Self {
        self.sync_interval = Some(interval.into());
        self
    }

    /// Asks clients for this user and password.
    #[must_use]
    pub fn user_password(mut self, user: &str, password: &str) -> Self {
        let (user, password) = (quoted(user), quoted(password));
        self.authorization = Some(format!("{{ user: {user}, password: {password} }}"));
        self
    }

    /// Asks clients for this token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.authorization = Some(format!("{{ token: {} }}", quoted(token)));
        self
    }

    /// Adds text to the configuration file, for what has no method here (TLS, accounts, NKeys).
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// Makes it part of a cluster: its route port and those of the others, on loopback.
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>, port: u16, routes: Vec<u16>) -> Self {
        self.cluster = Some(Cluster {
            name: name.into(),
            port,
            routes,
        });
        self
    }

    /// Runs this program instead of the one that is found, for another version.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Sets how long it may take to become ready; 60 s otherwise.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// The program was not found, a fixed port is taken, the server ended or was not ready in time;
    /// the text ends with the last lines of its log.
    pub async fn start(self) -> Result<Nats> {
        let kind = Kind::from_env()?;
        let this = &self;
        server::on_port(self.port, |port| this.start_on(kind, port)).await
    }

    async fn start_on(&self, kind: Kind, port: u16) -> Result<Nats> {
        let monitoring_port = self.monitoring_port.map_or_else(ports::free, Ok)?;
        let monitoring = local(monitoring_port);
        let backend = match kind {
            Kind::Local => Backend::Process(Box::new(self.process(port, monitoring_port)?)),
            #[cfg(feature = "containers")]
            Kind::Containers => {
                Backend::Container(Box::new(self.container(port, monitoring_port).await?))
            }
        };
        let ready = Ready::Nats {
            monitoring,
            path: self.health_path().into(),
        };
        let start_timeout = self.start_timeout.unwrap_or(server::START_TIMEOUT);
        let server = Server::start(backend, local(port), ready, start_timeout).await?;
        Ok(Nats { server, monitoring })
    }

    fn process(&self, port: u16, monitoring_port: u16) -> Result<Process> {
        let program = self.program.clone().map_or_else(find::nats_server, Ok)?;
        let folder = Folder::of(self.name(), self.data_dir.as_deref())?;
        let config = folder.path().join("nats.conf");
        let store = folder.path().join("store");
        let text = self.config_text(local(port), local(monitoring_port), &store);
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        Ok(Process::builder(self.name(), program)
            .arg("-c")
            .arg(config)
            .prepare(folder))
    }

    #[cfg(feature = "containers")]
    async fn container(&self, port: u16, monitoring_port: u16) -> Result<Container> {
        const CONFIG: &str = "/etc/ponix/nats.conf";
        ensure!(
            self.cluster.is_none(),
            "a NATS cluster runs on local servers only: its nodes reach each other on loopback"
        );
        let folder = Folder::of(self.name(), self.data_dir.as_deref())?;
        let any = |port: u16| (std::net::Ipv4Addr::UNSPECIFIED, port).into();
        let text = self.config_text(any(4222), any(8222), Path::new("/data"));
        let image = Image {
            name: "nats",
            tag: "2.14-alpine",
            ports: vec![(port, 4222), (monitoring_port, 8222)],
            env: Vec::new(),
            command: vec!["-c".into(), CONFIG.into()],
            files: vec![(CONFIG.into(), text)],
            data: "/data",
        };
        Container::create(self.name(), image, folder).await
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("nats")
    }

    /// With JetStream its recovery of the store must be over. A server of a cluster is asked for
    /// itself alone: the cluster is ready when a majority is, which one node cannot wait for.
    fn health_path(&self) -> &'static str {
        if self.no_jetstream {
            "/healthz"
        } else {
            "/healthz?js-enabled-only=true"
        }
    }

    fn config_text(&self, listen: SocketAddr, monitoring: SocketAddr, store: &Path) -> String {
        let mut text = format!(
            "server_name: {}\nlisten: {listen}\nhttp: {monitoring}\n",
            quoted(self.name())
        );
        let mut add = |line: std::fmt::Arguments| {
            text.write_fmt(line)
                .expect("writing to a string does not fail");
            text.push('\n');
        };
        if let Some(bytes) = self.max_payload_bytes {
            add(format_args!("max_payload: {bytes}"));
        }
        if let Some(authorization) = &self.authorization {
            add(format_args!("authorization: {authorization}"));
        }
        if !self.no_jetstream {
            add(format_args!("jetstream {{"));
            add(format_args!(
                "  store_dir: {}",
                quoted(&store.to_string_lossy())
            ));
            for (limit, bytes) in [
                ("max_file_store", self.file_store_bytes_max),
                ("max_memory_store", self.memory_store_bytes_max),
            ] {
                if let Some(bytes) = bytes {
                    add(format_args!("  {limit}: {bytes}"));
                }
            }
            if let Some(interval) = &self.sync_interval {
                add(format_args!("  sync_interval: {interval}"));
            }
            add(format_args!("}}"));
        }
        if let Some(Cluster { name, port, routes }) = &self.cluster {
            let routes: Vec<_> = routes
                .iter()
                .map(|port| format!("nats-route://127.0.0.1:{port}"))
                .collect();
            add(format_args!(
                "cluster {{ name: {}, listen: 127.0.0.1:{port}, routes: [{}] }}",
                quoted(name),
                routes.join(", ")
            ));
        }
        text + &self.config
    }
}

/// Connects and reads the line with which a NATS server greets its clients.
pub(crate) async fn greeting(addr: SocketAddr) -> Result<()> {
    let read = async {
        let mut greeting = [0; 5];
        TcpStream::connect(addr)
            .await?
            .read_exact(&mut greeting)
            .await?;
        std::io::Result::Ok(greeting)
    };
    let greeting = timeout(GREETING_TIMEOUT, read)
        .await
        .with_context(|| format!("no greeting from {addr} within {GREETING_TIMEOUT:?}"))?
        .with_context(|| format!("read the greeting of {addr}"))?;
    ensure!(&greeting == b"INFO ", "what listens on {addr} is not NATS");
    Ok(())
}

/// A string in a NATS configuration file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_what_was_set() {
        let text = Nats::builder().config_text(local(4222), local(8222), Path::new("/data/store"));
        assert_eq!(
            text,
            "server_name: \"nats\"\nlisten: 127.0.0.1:4222\nhttp: 127.0.0.1:8222\n\
             jetstream {\n  store_dir: \"/data/store\"\n}\n"
        );
    }

    #[test]
    fn writes_what_was_set() {
        let text = Nats::builder()
            .max_payload(65_536)
            .max_file_store(1_000)
            .sync_interval("always")
            .user_password("p", r#"a"b\c"#)
            .cluster("c", 6222, vec![6223, 6224])
            .config("lame_duck_duration: 1s")
            .config_text(local(1), local(2), Path::new("/"));
        for line in [
            "max_payload: 65536",
            "  max_file_store: 1000",
            "  sync_interval: always",
            r#"authorization: { user: "p", password: "a\"b\\c" }"#,
            r#"cluster { name: "c", listen: 127.0.0.1:6222, routes: [nats-route://127.0.0.1:6223, nats-route://127.0.0.1:6224] }"#,
            "lame_duck_duration: 1s",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
