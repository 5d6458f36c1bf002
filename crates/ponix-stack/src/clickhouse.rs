//! ClickHouse: the embedded engine behind chdb-server.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::backend::{Backend, Kind};
#[cfg(feature = "containers")]
use crate::container::{Container, Image};
use crate::folder::Folder;
use crate::server::{self, Ready, Server, local};
use crate::{Process, find};

const NAME: &str = "clickhouse";
const DEFAULT_USER: &str = "ponix";
const DEFAULT_PASSWORD: &str = "ponix";

/// A ClickHouse server that speaks HTTP, on a port of loopback.
///
/// See [`Server`] for what it has in common with the others: stop, kill, pause, restart, log.
#[derive(Debug)]
pub struct ClickHouse {
    server: Server,
    user: String,
    password: String,
}

impl ClickHouse {
    /// Starts one with the defaults of [`ClickHouseBuilder`].
    ///
    /// # Errors
    ///
    /// The program was not found, or did not become ready; the text ends with its log.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Describes one.
    pub fn builder() -> ClickHouseBuilder {
        ClickHouseBuilder {
            port: None,
            data_dir: None,
            user: DEFAULT_USER.into(),
            password: DEFAULT_PASSWORD.into(),
            args: Vec::new(),
            env: Vec::new(),
            start_timeout: server::START_TIMEOUT,
        }
    }

    /// The URL for clients, `http://127.0.0.1:PORT`, without credentials.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr())
    }

    /// The user it knows.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// That user's password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl Deref for ClickHouse {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Describes a [`ClickHouse`] before it is started: a free port, a temporary folder, user and
/// password `ponix`.
#[derive(Debug, Clone)]
pub struct ClickHouseBuilder {
    port: Option<u16>,
    data_dir: Option<PathBuf>,
    user: String,
    password: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    start_timeout: Duration,
}

impl ClickHouseBuilder {
    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps data and log in this folder, which stays after the server.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Sets the user and the password it knows.
    #[must_use]
    pub fn user_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = user.into();
        self.password = password.into();
        self
    }

    /// Adds an argument to the command line of chdb-server.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets how long it may take to become ready; 60 s otherwise.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// The program was not found, a fixed port is taken, the server ended or was not ready in time;
    /// the text ends with the last lines of its log.
    pub async fn start(self) -> Result<ClickHouse> {
        let kind = Kind::from_env()?;
        let this = &self;
        let server = server::on_port(self.port, |port| this.start_on(kind, port)).await?;
        Ok(ClickHouse {
            server,
            user: self.user,
            password: self.password,
        })
    }

    async fn start_on(&self, kind: Kind, port: u16) -> Result<Server> {
        let addr = local(port);
        let backend = match kind {
            Kind::Local => Backend::Process(Box::new(self.process(addr)?)),
            #[cfg(feature = "containers")]
            Kind::Containers => Backend::Container(Box::new(self.container(port).await?)),
        };
        let path = "/ping".into();
        Server::start(
            backend,
            addr,
            Ready::Http { addr, path },
            self.start_timeout,
        )
        .await
    }

    fn process(&self, addr: SocketAddr) -> Result<Process> {
        let program = find::chdb_server()?;
        let folder = Folder::of(NAME, self.data_dir.as_deref())?;
        let mut builder = Process::builder(NAME, program)
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--listen", &addr.to_string()])
            .args(["--user", &self.user, "--password", &self.password])
            .args(&self.args);
        if let Some(library) = find::libchdb() {
            builder = builder.env("PONIX_LIBCHDB", library);
        }
        let env = self.env.iter().map(|(name, value)| (name, value));
        Ok(builder.envs(env).prepare(folder))
    }

    #[cfg(feature = "containers")]
    async fn container(&self, port: u16) -> Result<Container> {
        anyhow::ensure!(
            self.args.is_empty() && self.env.is_empty(),
            "arguments and environment are those of chdb-server, not of a container"
        );
        let folder = Folder::of(NAME, self.data_dir.as_deref())?;
        let env = [
            ("CLICKHOUSE_USER", self.user.as_str()),
            ("CLICKHOUSE_PASSWORD", self.password.as_str()),
            ("CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT", "1"),
        ];
        let image = Image {
            name: "clickhouse/clickhouse-server",
            tag: "25.8",
            ports: vec![(port, 8123)],
            env: env.map(|(name, value)| (name.into(), value.into())).into(),
            command: Vec::new(),
            files: Vec::new(),
            data: "/var/lib/clickhouse",
        };
        Container::create(NAME, image, folder).await
    }
}
