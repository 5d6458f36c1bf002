//! What a server is told: one plain struct, made from the command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::auth::{User, Users};
use crate::body::Limits;
use crate::engine::EngineConfig;
use crate::library::candidates;

/// Everything a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may send statements.
    pub users: Users,
    /// The engine.
    pub engine: EngineConfig,
    /// Statements that run at a time; more wait.
    pub statements_max: usize,
    /// Open connections; more wait in the system's queue.
    pub connections_max: usize,
    /// Bytes of a request's head.
    pub header_bytes_max: usize,
    /// Limits on bodies.
    pub limits: Limits,
    /// Time for the head of a request, also the idle time of a kept connection.
    pub header_timeout: Duration,
    /// Time a statement waits for its turn.
    pub queue_timeout: Duration,
    /// Time a client may take for a piece of its result.
    pub send_timeout: Duration,
    /// Time the requests under way get at the end.
    pub shutdown_timeout: Duration,
}

/// A ClickHouse-compatible HTTP server over the embedded ClickHouse engine, for laptops, tests and demos.
#[derive(Debug, Parser)]
#[command(name = "chdb-server", version)]
pub struct Arguments {
    /// Folder that holds the databases; created if missing
    #[arg(long, env = "CHDB_SERVER_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on; port 0 takes a free one, which the log names
    #[arg(
        long,
        env = "CHDB_SERVER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8123"
    )]
    listen: SocketAddr,
    /// User name; required off loopback [default: "default" without a password]
    #[arg(long, env = "CHDB_SERVER_USER", value_name = "NAME")]
    user: Option<String>,
    /// Password; better given in the environment or a file, where `ps` does not show it
    #[arg(
        long,
        env = "CHDB_SERVER_PASSWORD",
        value_name = "TEXT",
        hide_env_values = true
    )]
    password: Option<String>,
    /// File that holds the password, a line end at its end is dropped
    #[arg(
        long,
        env = "CHDB_SERVER_PASSWORD_FILE",
        value_name = "FILE",
        conflicts_with = "password"
    )]
    password_file: Option<PathBuf>,
    /// Name of a user who may read, and sees each row once that tables keep copies of (`final = 1`)
    #[arg(long, env = "CHDB_SERVER_READER_USER", value_name = "NAME")]
    reader_user: Option<String>,
    /// Its password; required off loopback
    #[arg(
        long,
        env = "CHDB_SERVER_READER_PASSWORD",
        value_name = "TEXT",
        hide_env_values = true,
        requires = "reader_user"
    )]
    reader_password: Option<String>,
    /// Database to create at start if it is missing; may be given more than once
    #[arg(long = "database", env = "CHDB_SERVER_DATABASE", value_name = "NAME")]
    databases: Vec<String>,
    /// The file of libchdb [default: .ponix/lib/libchdb.so above the executable or the working folder, then the
    /// system's library path]
    #[arg(long, env = "PONIX_LIBCHDB", value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    library: Option<PathBuf>,
    /// Statements that run at a time; more wait
    #[arg(
        long,
        env = "CHDB_SERVER_STATEMENTS_MAX",
        value_name = "N",
        default_value_t = 16
    )]
    statements_max: usize,
    /// Sessions (`session_id`) open at a time; more are refused
    #[arg(
        long,
        env = "CHDB_SERVER_SESSIONS_MAX",
        value_name = "N",
        default_value_t = 64
    )]
    sessions_max: usize,
    /// Open connections; more wait unaccepted
    #[arg(
        long,
        env = "CHDB_SERVER_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 1024
    )]
    connections_max: usize,
    /// Bytes of a request's body, decompressed
    #[arg(long, env = "CHDB_SERVER_BODY_BYTES_MAX", value_name = "BYTES", default_value_t = 16 << 30)]
    body_bytes_max: u64,
    /// Bytes of a body, or of a result held back, that stay in memory; the rest goes to a file in the data folder
    #[arg(long, env = "CHDB_SERVER_BODY_MEMORY_BYTES_MAX", value_name = "BYTES", default_value_t = 32 << 20)]
    body_memory_bytes_max: usize,
    /// The same for all bodies together
    #[arg(long, env = "CHDB_SERVER_BODIES_MEMORY_BYTES_MAX", value_name = "BYTES", default_value_t = 256 << 20)]
    bodies_memory_bytes_max: usize,
    /// Bytes of a request's head, URL included
    #[arg(long, env = "CHDB_SERVER_HEADER_BYTES_MAX", value_name = "BYTES", default_value_t = 1 << 20)]
    header_bytes_max: usize,
    /// Memory the engine may take, in bytes [default: half of the machine's]
    #[arg(
        long,
        env = "CHDB_SERVER_MEMORY_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 0
    )]
    memory_bytes_max: u64,
    /// Seconds for the head of a request, also the idle time of a kept connection
    #[arg(
        long,
        env = "CHDB_SERVER_HEADER_TIMEOUT_SECS",
        value_name = "SECS",
        default_value_t = 30
    )]
    header_timeout_secs: u64,
    /// Seconds without a byte after which a body counts as broken off
    #[arg(
        long,
        env = "CHDB_SERVER_BODY_TIMEOUT_SECS",
        value_name = "SECS",
        default_value_t = 60
    )]
    body_timeout_secs: u64,
    /// Seconds a client may take for a piece of its result
    #[arg(
        long,
        env = "CHDB_SERVER_SEND_TIMEOUT_SECS",
        value_name = "SECS",
        default_value_t = 60
    )]
    send_timeout_secs: u64,
    /// Seconds a statement waits for its turn
    #[arg(
        long,
        env = "CHDB_SERVER_QUEUE_TIMEOUT_SECS",
        value_name = "SECS",
        default_value_t = 60
    )]
    queue_timeout_secs: u64,
    /// Seconds the requests under way get after SIGTERM
    #[arg(
        long,
        env = "CHDB_SERVER_SHUTDOWN_TIMEOUT_SECS",
        value_name = "SECS",
        default_value_t = 30
    )]
    shutdown_timeout_secs: u64,
    /// One more option of the engine: a server option or the default of a setting; may be given more than once
    #[arg(long = "engine", value_name = "NAME=VALUE")]
    engine_options: Vec<String>,
}

/// What is wrong with the arguments beyond their form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Anybody could connect.
    #[error(
        "--user and --password are required to listen on {0}, which is not a loopback address; so is --reader-password beside --reader-user"
    )]
    Open(SocketAddr),
    /// A password without a name, or a name without a password off loopback.
    #[error("a password was given but no --user")]
    PasswordWithoutUser,
    /// Two users of one name.
    #[error("--user and --reader-user are both {0}")]
    SameName(String),
    /// The password file cannot be read.
    #[error("password file {path} cannot be read")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A limit of zero would let nothing through.
    #[error("--{0} must be at least 1")]
    Zero(&'static str),
}

impl Arguments {
    /// Checks the arguments and looks for libchdb.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        for (name, value) in [
            ("statements-max", self.statements_max),
            ("connections-max", self.connections_max),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        let users = Users {
            owner: self.read_user()?,
            reader: self.reader()?,
        };
        let same_name = users.reader.as_ref().map(|reader| &reader.name) == Some(&users.owner.name);
        if same_name {
            return Err(ConfigError::SameName(users.owner.name));
        }
        let executable = std::env::current_exe().ok();
        let working_folder = std::env::current_dir().ok();
        let engine = EngineConfig {
            libraries: candidates(
                self.library
                    .as_deref()
                    .filter(|file| !file.as_os_str().is_empty()),
                executable.as_deref(),
                working_folder.as_deref(),
            ),
            data: self.data.clone(),
            databases: self.databases,
            memory_bytes_max: self.memory_bytes_max,
            sessions_max: self.sessions_max,
            options: self.engine_options,
        };
        let limits = Limits {
            bytes_max: self.body_bytes_max,
            body_memory_bytes_max: self.body_memory_bytes_max,
            memory_bytes_max: self.bodies_memory_bytes_max,
            idle_timeout: Duration::from_secs(self.body_timeout_secs),
            folder: self.data,
        };
        Ok(Config {
            listen: self.listen,
            users,
            engine,
            statements_max: self.statements_max,
            connections_max: self.connections_max,
            // Less than this hyper refuses.
            header_bytes_max: self.header_bytes_max.max(8192),
            limits,
            header_timeout: Duration::from_secs(self.header_timeout_secs),
            queue_timeout: Duration::from_secs(self.queue_timeout_secs),
            send_timeout: Duration::from_secs(self.send_timeout_secs),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout_secs),
        })
    }

    fn read_user(&self) -> Result<User, ConfigError> {
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(path)) => read_password(path)?,
            (None, None) => String::new(),
        };
        let named = self.user.clone().filter(|name| !name.is_empty());
        if !self.listen.ip().is_loopback() && (named.is_none() || password.is_empty()) {
            return Err(ConfigError::Open(self.listen));
        }
        match named {
            Some(name) => Ok(User { name, password }),
            None if password.is_empty() => Ok(User::default()),
            None => Err(ConfigError::PasswordWithoutUser),
        }
    }

    fn reader(&self) -> Result<Option<User>, ConfigError> {
        let named = self.reader_user.clone().filter(|name| !name.is_empty());
        let Some(name) = named else { return Ok(None) };
        let password = self.reader_password.clone().unwrap_or_default();
        if !self.listen.ip().is_loopback() && password.is_empty() {
            return Err(ConfigError::Open(self.listen));
        }
        Ok(Some(User { name, password }))
    }
}

fn read_password(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::PasswordFile {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Arguments, Config, ConfigError};

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let fixed = ["chdb-server", "--data", "/nonexistent"];
        Arguments::try_parse_from(fixed.iter().chain(arguments))
            .unwrap()
            .into_config()
    }

    #[test]
    fn loopback_needs_no_user_and_everything_else_does() {
        assert_eq!(config(&[]).unwrap().users.owner.name, "default");
        assert!(config(&["--listen", "[::1]:0"]).is_ok());
        for arguments in [
            vec!["--listen", "0.0.0.0:8123"],
            vec!["--listen", "0.0.0.0:8123", "--user", "a"],
            vec![
                "--listen",
                "192.0.2.1:8123",
                "--user",
                "",
                "--password",
                "x",
            ],
        ] {
            assert!(
                matches!(config(&arguments), Err(ConfigError::Open(_))),
                "{arguments:?}"
            );
        }
        assert!(config(&["--listen", "0.0.0.0:8123", "--user", "a", "--password", "b"]).is_ok());
        assert!(matches!(
            config(&["--password", "b"]),
            Err(ConfigError::PasswordWithoutUser)
        ));
    }

    #[test]
    fn a_reader_has_a_name_of_its_own_and_a_password_off_loopback() {
        assert_eq!(config(&[]).unwrap().users.reader, None);
        let reader = config(&["--reader-user", "r"]).unwrap().users.reader;
        assert_eq!(reader.map(|reader| reader.name), Some("r".to_owned()));
        let same = ["--user", "r", "--password", "x", "--reader-user", "r"];
        assert!(matches!(config(&same), Err(ConfigError::SameName(_))));
        let open = ["--listen", "0.0.0.0:1", "--user", "a", "--password", "x"];
        let open = [&open[..], &["--reader-user", "r"]].concat();
        assert!(matches!(config(&open), Err(ConfigError::Open(_))));
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "se cret\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(
            config(&["--user", "a", "--password-file", path])
                .unwrap()
                .users
                .owner
                .password,
            "se cret"
        );
        assert!(matches!(
            config(&["--user", "a", "--password-file", "/nonexistent"]),
            Err(ConfigError::PasswordFile { .. })
        ));
    }

    #[test]
    fn an_empty_name_of_the_library_is_none() {
        let libraries = config(&["--library", ""]).unwrap().engine.libraries;
        assert_eq!(libraries.last().unwrap().as_os_str(), "libchdb.so");
    }

    #[test]
    fn zero_places_are_refused() {
        assert!(matches!(
            config(&["--statements-max", "0"]),
            Err(ConfigError::Zero("statements-max"))
        ));
    }
}
