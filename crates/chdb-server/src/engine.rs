//! The embedded engine of this process: boots it, opens connections, ends it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::exception::{Exception, codes};
use crate::ffi::{Connection, Library, LoadError};
use crate::request::SessionParameters;
use crate::session::Sessions;

/// Options that differ from the library's own; what the operator says comes after them and wins.
const DEFAULTS: [&str; 4] = [
    // A server takes `1 + 1` for a syntax error; the library would answer 2.
    "implicit_select=0",
    // Some of a laptop's memory, not the 5 GiB each of a database server.
    "mark_cache_size=134217728",
    "primary_index_cache_size=134217728",
    "index_mark_cache_size=33554432",
];

/// What the engine is booted with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Candidates for libchdb, best first.
    pub libraries: Vec<PathBuf>,
    /// Where databases are kept; created if it is not there.
    pub data: PathBuf,
    /// Databases created at start if they are not there.
    pub databases: Vec<String>,
    /// Memory all statements and merges together may take, in bytes; 0 for half of the machine's.
    pub memory_bytes_max: u64,
    /// Sessions open at a time.
    pub sessions_max: usize,
    /// More of the engine's options, `name=value`.
    pub options: Vec<String>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No candidate could be loaded.
    #[error(
        "libchdb was not found: tried {tried}; set PONIX_LIBCHDB to the file, or let scripts/setup fetch it"
    )]
    NotFound {
        /// Every candidate with the reason it was not taken.
        tried: String,
        /// The last reason.
        #[source]
        source: LoadError,
    },
    /// The data folder cannot be made or written.
    #[error("data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the data folder open.
    #[error("data folder {path} is in use by another process")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The engine gave no connection, and no reason either.
    #[error("the engine did not start on {path}: the folder is damaged, or an option is wrong")]
    Refused {
        /// The folder.
        path: PathBuf,
    },
    /// A statement of the start failed.
    #[error("the engine started but failed a first statement")]
    Statement(#[source] Exception),
}

/// The running engine. One per process.
#[derive(Debug)]
pub(crate) struct Engine {
    library: &'static Library,
    arguments: Vec<String>,
    /// Keeps the engine up while no statement runs: it stops with its last connection.
    anchor: Mutex<Option<Connection>>,
    sessions: Sessions,
    greeting: Greeting,
}

/// What the engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Its version, such as `26.7.2.1`.
    pub(crate) version: String,
    /// Its time zone, such as `Etc/UTC`.
    pub(crate) timezone: String,
    /// The name of this machine.
    pub(crate) display_name: String,
}

impl Engine {
    /// Loads libchdb and boots the engine. Blocks; takes about a tenth of a second, longer with much data.
    pub(crate) fn boot(config: &EngineConfig) -> Result<Self, EngineError> {
        let library = load(&config.libraries)?;
        let data = prepare_folder(&config.data)?;
        let arguments = arguments(&data, config);
        let mut anchor = library
            .connect(&arguments)
            .ok_or_else(|| EngineError::Refused {
                path: config.data.clone(),
            })?;
        let greeting = greet(&mut anchor, &config.databases).map_err(EngineError::Statement)?;
        Ok(Self {
            library,
            arguments,
            anchor: Mutex::new(Some(anchor)),
            sessions: Sessions::new(config.sessions_max),
            greeting,
        })
    }

    /// Opens a connection: a session of its own, with default settings. Takes a fifth of a millisecond.
    pub(crate) fn connect(&self) -> Result<Connection, Exception> {
        self.library.connect(&self.arguments).ok_or_else(|| {
            Exception::new(
                codes::UNKNOWN_EXCEPTION,
                "UNKNOWN_EXCEPTION",
                "the engine gave no connection",
            )
        })
    }

    /// Runs `work` with a connection: that of the session `wanted` names, else one for this work alone. When it
    /// returns, the session is free for the next statement.
    pub(crate) fn with_connection<T>(
        &self,
        wanted: Option<&SessionParameters>,
        work: impl FnOnce(&mut Connection) -> T,
    ) -> Result<T, Exception> {
        let Some(wanted) = wanted else {
            return Ok(work(&mut self.connect()?));
        };
        let mut connection = self
            .sessions
            .take(wanted, Instant::now(), || self.connect())?;
        let guard = ForgetOnDrop {
            sessions: &self.sessions,
            id: &wanted.id,
        };
        let done = work(&mut connection);
        if !wanted.close {
            std::mem::forget(guard);
            self.sessions
                .give_back(&wanted.id, connection, Instant::now());
        }
        Ok(done)
    }

    /// What the engine says about itself.
    pub(crate) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks every running statement to end; each fails with code 394.
    pub(crate) fn cancel_all(&self) -> Result<(), Exception> {
        self.connect()?
            .query(b"KILL QUERY WHERE 1 ASYNC", "Null", &[])
            .map(drop)
            .map_err(Exception::from_engine)
    }

    /// Closes what the engine keeps open by itself; with the last connection it ends its merges and closes its tables.
    pub(crate) fn shutdown(&self) {
        self.sessions.close_all();
        drop(
            self.anchor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        // Said of threads that have nothing left to do: those of pools that once loaded tables stay parked.
        let all_ended = self.library.shutdown();
        tracing::debug!(all_ended, "engine stopped");
    }
}

/// Ends a session whose work panicked, or asked for it.
struct ForgetOnDrop<'a> {
    sessions: &'a Sessions,
    id: &'a str,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        self.sessions.forget(self.id);
    }
}

fn load(candidates: &[PathBuf]) -> Result<&'static Library, EngineError> {
    let mut tried = Vec::new();
    let mut last = None;
    for candidate in candidates {
        match Library::load(candidate) {
            Ok(library) => return Ok(library),
            Err(error) => {
                let reason = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                tried.push(format!("{} ({reason})", candidate.display()));
                last = Some(error);
            }
        }
    }
    Err(EngineError::NotFound {
        tried: tried.join(", "),
        source: last.expect("there is at least one candidate"),
    })
}

/// Makes the folder, and looks whether another process holds the engine's lock in it.
fn prepare_folder(data: &Path) -> Result<PathBuf, EngineError> {
    let unusable = |source| EngineError::Folder {
        path: data.to_owned(),
        source,
    };
    std::fs::create_dir_all(data).map_err(unusable)?;
    let data = data.canonicalize().map_err(unusable)?;
    if let Ok(status) = File::options().write(true).open(data.join("status"))
        && matches!(status.try_lock(), Err(std::fs::TryLockError::WouldBlock))
    {
        return Err(EngineError::InUse { path: data });
    }
    Ok(data)
}

/// The engine's command line. Names that are query settings hold for every connection, the rest for the engine.
fn arguments(data: &Path, config: &EngineConfig) -> Vec<String> {
    let memory = match config.memory_bytes_max {
        0 => "--max_server_memory_usage_to_ram_ratio=0.5".to_owned(),
        bytes => format!("--max_server_memory_usage={bytes}"),
    };
    let mut arguments = vec![format!("--path={}", data.display()), memory];
    arguments.extend(DEFAULTS.map(|option| format!("--{option}")));
    arguments.extend(config.options.iter().map(|option| format!("--{option}")));
    arguments
}

fn greet(connection: &mut Connection, databases: &[String]) -> Result<Greeting, Exception> {
    for database in databases {
        let statement = format!("CREATE DATABASE IF NOT EXISTS {}", quote_name(database));
        connection
            .query(statement.as_bytes(), "Null", &[])
            .map_err(Exception::from_engine)?;
    }
    let mut ask = |expression: &str| {
        let answer = connection.query(format!("SELECT {expression}").as_bytes(), "RawBLOB", &[]);
        answer
            .map(|answer| String::from_utf8_lossy(answer.as_ref()).into_owned())
            .map_err(Exception::from_engine)
    };
    Ok(Greeting {
        version: ask("version()")?,
        timezone: ask("timezone()")?,
        display_name: ask("displayName()")?,
    })
}

/// A name as SQL takes it, whatever is in it.
pub(crate) fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string as SQL takes it, whatever is in it.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
