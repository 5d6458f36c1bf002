//! Variables of the service as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::value::{Any, Value};
use super::variables::variables;

variables! {
    /// What the service as a whole is told.
    struct ServiceVariables, "PONIX_" {
        /// Log line of the sample producer at debug, one per publish.
        plain message: String = "ponix-all-in-one service is running", Any;
        /// Least level that is logged, or tracing directives such as `info,ponix_nats=debug`.
        /// `RUST_LOG` wins when it is set.
        plain log_level: LogDirectives = "info", Any;
        /// Form of the log lines.
        plain log_format: LogFormat = "text", Any;
        /// Seconds between two readings of the sample producer; 0 turns it off.
        plain interval_secs: Duration = "5", 0.0..=86_400.0;
        /// Time in which migrations, connections and streams must be ready.
        plain startup_timeout_secs: Duration = "30", 1.0..=3_600.0;
        /// Time in which work in flight must be finished after a stop signal.
        plain shutdown_timeout_secs: Duration = "10", 1.0..=3_600.0;
        /// Bytes of the batches in flight over all pipelines at most, besides one batch of each.
        plain batches_bytes_max: u64 = "268435456", 0..=(1 << 40);
        /// Where the page, `/livez`, `/readyz`, `/metrics`, `/stats` and `/scale` answer.
        plain admin_addr: SocketAddr = "127.0.0.1:9090", Any;
        /// Lets whoever shows it on the page put dead letters back and discard them; without one
        /// the page only reads.
        secret admin_token: Option<SecretString> = "", Any;
        /// Folder of the declared entities, for the message pipeline.
        plain entities_dir: Option<PathBuf> = "", Any;
        /// Folder of the declared pipelines, a YAML document each.
        plain pipelines_dir: Option<PathBuf> = "", Any;
        /// What is done with the pipelines: `run` them; `keep` their streams (janitor, statuses of dead letters,
        /// `/scale`) for workers elsewhere; or `off`, for the HTTP API alone.
        plain pipelines_mode: PipelinesMode = "run", Any;
    }
}

/// What is logged, in the words of tracing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDirectives(pub(crate) String);

impl Value for LogDirectives {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        // A single word that is no level would be taken for a module's name, and nothing logged.
        let is_word = text.chars().all(|c| c.is_alphanumeric() || c == '_');
        let is_level = text.parse::<LevelFilter>().is_ok();
        if EnvFilter::try_new(text).is_err() || (is_word && !is_level) {
            return Err(Self::describe(bounds));
        }
        Ok(Self(text.to_owned()))
    }

    fn describe(_: &Any) -> String {
        "off, error, warn, info, debug, trace, or directives".into()
    }
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Value for LogFormat {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        match text.trim() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Self::describe(bounds)),
        }
    }

    fn describe(_: &Any) -> String {
        "text or json".into()
    }
}

/// What a service does with the pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipelinesMode {
    /// Read them and store what they hold.
    Run,
    /// Look after their streams and read none.
    Keep,
    /// Nothing.
    Off,
}

impl Value for PipelinesMode {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        match text.trim() {
            "run" => Ok(Self::Run),
            "keep" => Ok(Self::Keep),
            "off" => Ok(Self::Off),
            _ => Err(Self::describe(bounds)),
        }
    }

    fn describe(_: &Any) -> String {
        "run, keep or off".into()
    }
}
