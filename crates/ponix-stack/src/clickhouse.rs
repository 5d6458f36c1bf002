//! ClickHouse: the embedded engine behind chdb-server.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::folder::Folder;
use crate::server::{self, Ready, Server, local};
use crate::{Process, find};

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
        let program = find::chdb_server()?;
        let this = &self;
        let server =
            server::on_port(self.port, |port| this.start_on(port, program.clone())).await?;
        Ok(ClickHouse {
            server,
            user: self.user,
            password: self.password,
        })
    }

    async fn start_on(&self, port: u16, program: PathBuf) -> Result<Server> {
        let folder = Folder::of("clickhouse", self.data_dir.as_deref())?;
        let addr = local(port);
        let mut builder = Process::builder("clickhouse", program)
            .arg("--data")
            .arg(folder.path().join("data"))
            .args(["--listen", &addr.to_string()])
            .args(["--user", &self.user, "--password", &self.password])
            .args(&self.args);
        if let Some(library) = find::libchdb() {
            builder = builder.env("PONIX_LIBCHDB", library);
        }
        let env = self.env.iter().map(|(name, value)| (name, value));
        let process = builder.envs(env).prepare(folder);
        let ready = Ready::Http {
            addr,
            path: "/ping".into(),
        };
        Server::start(process, addr, ready, self.start_timeout).await
    }
}
