//! PostgreSQL.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::{Backend, Kind};
#[cfg(feature = "containers")]
use crate::container::{Container, Image};
use crate::folder::Folder;
use crate::process::ProcessBuilder;
use crate::server::{self, Ready, Server, local};
use crate::spawner::RunAs;
use crate::{Process, Signal, find};

const NAME: &str = "postgres";
const DEFAULT_USER: &str = "ponix";
const DEFAULT_PASSWORD: &str = "ponix";
const DATABASE: &str = "ponix";
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A PostgreSQL server on a port of loopback, with an empty database `ponix`.
///
/// See [`Server`] for what it has in common with the others: stop, kill, pause, restart, log. Kill
/// and pause reach its backends too, as on a machine that dies or hangs; stop is its "fast
/// shutdown" (SIGINT), which does not wait for clients to leave. PostgreSQL refuses to run as root:
/// then it runs as the user `postgres`, or else `nobody`, and owns its data folder.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    user: String,
    password: String,
}

impl Postgres {
    /// Starts one with the defaults of [`PostgresBuilder`].
    ///
    /// # Errors
    ///
    /// The programs were not found, the cluster could not be made, or the server did not become
    /// ready; the text ends with a log.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Describes one.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder {
            port: None,
            data_dir: None,
            user: DEFAULT_USER.into(),
            password: DEFAULT_PASSWORD.into(),
            settings: Vec::new(),
            start_timeout: server::START_TIMEOUT,
        }
    }

    /// The URL for clients, `postgres://USER:PASSWORD@127.0.0.1:PORT/ponix`.
    ///
    /// User and password are put in as they are: choose some that need no escape.
    pub fn url(&self) -> String {
        self.url_by(self.server.addr())
    }

    /// The URL for clients that come by another address, such as a proxy's.
    pub fn url_by(&self, addr: SocketAddr) -> String {
        let (user, password) = (&self.user, &self.password);
        format!("postgres://{user}:{password}@{addr}/{DATABASE}")
    }

    /// The superuser it knows.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// That user's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The database that was made, `ponix`.
    pub fn database(&self) -> &str {
        DATABASE
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Describes a [`Postgres`] before it is started: a free port, a temporary folder, user, password
/// and database `ponix`. In a temporary folder it does not wait for the disk (`fsync = off`), which
/// a killed server does not notice and a lost machine would.
#[derive(Debug, Clone)]
pub struct PostgresBuilder {
    port: Option<u16>,
    data_dir: Option<PathBuf>,
    user: String,
    password: String,
    settings: Vec<(String, String)>,
    start_timeout: Duration,
}

impl PostgresBuilder {
    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps data and log in this folder, which stays after the server. As root, the user the
    /// server runs as must be able to get there.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Sets the superuser and its password. They hold from the first start on a folder.
    #[must_use]
    pub fn user_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = user.into();
        self.password = password.into();
        self
    }

    /// Sets something of `postgresql.conf`, as in `setting("max_connections", "20")`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets how long it may take to become ready; 60 s otherwise.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Makes the data folder if it is not there, starts the server and waits until it is ready.
    ///
    /// # Errors
    ///
    /// The programs were not found, a fixed port is taken, the data folder could not be made, the
    /// server ended or was not ready in time; the text ends with the last lines of its log.
    pub async fn start(self) -> Result<Postgres> {
        let kind = Kind::from_env()?;
        let this = &self;
        let server = server::on_port(self.port, |port| this.start_on(kind, port)).await?;
        Ok(Postgres {
            server,
            user: self.user,
            password: self.password,
        })
    }

    async fn start_on(&self, kind: Kind, port: u16) -> Result<Server> {
        let backend = match kind {
            Kind::Local => Backend::Process(Box::new(self.process(port).await?)),
            #[cfg(feature = "containers")]
            Kind::Containers => Backend::Container(Box::new(self.container(port).await?)),
        };
        Server::start(backend, local(port), Ready::Postgres, self.start_timeout).await
    }

    async fn process(&self, port: u16) -> Result<Process> {
        let bin = find::postgres_bin()?;
        let folder = Folder::of(NAME, self.data_dir.as_deref())?;
        let data = folder.path().join("data");
        let run_as = unprivileged()?;
        if let Some(run_as) = run_as {
            let path = folder.path();
            if let Some(closed) = closed_to(path, run_as)? {
                let (path, closed) = (path.display(), closed.display());
                bail!(
                    "PostgreSQL does not run as root but as the user {}, who may not enter {closed}, which leads to its data in {path}: \
                     allow it (chmod o+x {closed}), or keep the data elsewhere (scripts/up: PONIX_UP_DATA_DIR)",
                    name_of(run_as)
                );
            }
        }
        if !data.join("PG_VERSION").exists() {
            self.make_data(&bin, folder.path(), &data, run_as).await?;
        }
        let mut builder = Process::builder(NAME, bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("port={port}")])
            .args(["-c", "unix_socket_directories="])
            .args(self.setting_args());
        builder.run_as = run_as;
        builder.whole_tree = true;
        builder.stop_signal = Signal::SIGINT;
        Ok(builder.prepare(folder))
    }

    #[cfg(feature = "containers")]
    async fn container(&self, port: u16) -> Result<Container> {
        let folder = Folder::of(NAME, self.data_dir.as_deref())?;
        let env = [
            ("POSTGRES_USER", self.user.as_str()),
            ("POSTGRES_PASSWORD", self.password.as_str()),
            ("POSTGRES_DB", DATABASE),
        ];
        let command = std::iter::once("postgres".into());
        let image = Image {
            name: "postgres",
            tag: "17",
            ports: vec![(port, 5432)],
            env: env.map(|(name, value)| (name.into(), value.into())).into(),
            command: command.chain(self.setting_args()).collect(),
            files: Vec::new(),
            data: "/var/lib/postgresql/data",
        };
        Container::create(NAME, image, folder).await
    }

    fn setting_args(&self) -> Vec<String> {
        let fsync = self.data_dir.is_none().then_some(("fsync", "off"));
        let own = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let args = fsync.into_iter().chain(own);
        args.flat_map(|(name, value)| ["-c".into(), format!("{name}={value}")])
            .collect()
    }

    /// Makes the data folder under another name and renames it when it is whole, so that one that
    /// was interrupted is not taken for one that is done.
    async fn make_data(
        &self,
        bin: &Path,
        folder: &Path,
        data: &Path,
        run_as: Option<RunAs>,
    ) -> Result<()> {
        let unfinished = folder.join("data.unfinished");
        let password_file = folder.join("password");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir(&unfinished)?;
        fs::write(&password_file, &self.password)?;
        if let Some(RunAs { uid, gid }) = run_as {
            for path in [&unfinished, &password_file] {
                chown(path, Some(uid), Some(gid))
                    .with_context(|| format!("give {} to user {uid}", path.display()))?;
            }
        }
        let run = |mut builder: ProcessBuilder| {
            builder.run_as = run_as;
            run_to_end(builder.folder(folder))
        };
        let made = run(Process::builder("initdb", bin.join("initdb"))
            .arg("-D")
            .arg(&unfinished)
            .args(["--username", &self.user, "--auth", "scram-sha-256"])
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"]))
        .await;
        fs::remove_file(&password_file)?;
        made?;
        // A server of its own for one statement, that reads it from standard input.
        let sql = folder.join("create-database.sql");
        fs::write(&sql, format!("CREATE DATABASE {DATABASE}\n"))?;
        run(Process::builder("create-database", bin.join("postgres"))
            .arg("--single")
            .arg("-D")
            .arg(&unfinished)
            .arg("postgres")
            .stdin(&sql))
        .await?;
        fs::rename(&unfinished, data)?;
        Ok(())
    }
}

/// The user to run as, where we are root and PostgreSQL would refuse.
fn unprivileged() -> Result<Option<RunAs>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).with_context(|| format!("look up user {name}"))? {
            return Ok(Some(RunAs {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            }));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

/// The first folder on the way to `path` that this user may not enter.
fn closed_to(path: &Path, user: RunAs) -> Result<Option<PathBuf>> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    for folder in way {
        let what = || format!("look at {}", folder.display());
        let found = fs::metadata(folder).with_context(what)?;
        let bit = if found.uid() == user.uid {
            0o100
        } else if found.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if found.mode() & bit == 0 {
            return Ok(Some(folder.to_owned()));
        }
    }
    Ok(None)
}

fn name_of(user: RunAs) -> String {
    let found = User::from_uid(nix::unistd::Uid::from_raw(user.uid));
    match found {
        Ok(Some(found)) => found.name,
        _ => user.uid.to_string(),
    }
}

async fn run_to_end(builder: ProcessBuilder) -> Result<()> {
    let process = builder.start()?;
    if process.wait().await?.success() {
        return Ok(());
    }
    Err(process.failure("failed"))
}

/// Begins a login and sees whether the server goes along.
///
/// # Source
///
/// PostgreSQL documentation, "Message Formats": a startup message is its length, the version 3.0
/// and pairs of strings; `R` asks for authentication, `E` refuses, as it does while starting up.
pub(crate) async fn accepts(addr: SocketAddr) -> Result<()> {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&startup_message(DEFAULT_USER)).await?;
        let mut answer = vec![0; 1];
        stream.read_exact(&mut answer).await?;
        if answer == b"E" {
            stream.read_to_end(&mut answer).await?;
        }
        std::io::Result::Ok(answer)
    };
    let answer = timeout(PROBE_TIMEOUT, ask)
        .await
        .with_context(|| format!("no answer from {addr} within {PROBE_TIMEOUT:?}"))?
        .with_context(|| format!("log in to {addr}"))?;
    match answer.first() {
        Some(b'R') => Ok(()),
        _ => bail!("{addr} refused: {}", String::from_utf8_lossy(&answer)),
    }
}

fn startup_message(user: &str) -> Vec<u8> {
    const VERSION_3_0: u32 = 3 << 16;
    let parameters = format!("user\0{user}\0database\0{DATABASE}\0\0");
    let length = (2 * size_of::<u32>() + parameters.len()) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_be_bytes());
    message.extend(VERSION_3_0.to_be_bytes());
    message.extend(parameters.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_message_says_its_length() {
        let message = startup_message("u");
        assert_eq!(message.len(), message[3] as usize);
        assert_eq!(&message[4..8], [0, 3, 0, 0]);
        assert!(message.ends_with(b"user\0u\0database\0ponix\0\0"));
    }
}
