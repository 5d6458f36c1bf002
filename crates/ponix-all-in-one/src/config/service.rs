//! Variables of the service as a whole.

use std::net::SocketAddr;
use std::time::Duration;

use super::value::{Any, Value};
use super::variables::variables;

variables! {
    /// What the service as a whole is told.
    struct ServiceVariables, "PONIX_" {
        /// Log line of the sample producer, one per publish.
        plain message: String = "ponix-all-in-one service is running", Any;
        /// Least level that is logged, or tracing directives such as `info,ponix_nats=debug`.
        /// `RUST_LOG` wins when it is set.
        plain log_level: String = "info", Any;
        /// Form of the log lines.
        plain log_format: LogFormat = "text", Any;
        /// Seconds between two readings of the sample producer; 0 turns it off.
        plain interval_secs: Duration = "5", 0.0..=86_400.0;
        /// Time in which migrations, connections and streams must be ready.
        plain startup_timeout_secs: Duration = "30", 1.0..=3_600.0;
        /// Time in which work in flight must be finished after a stop signal.
        plain shutdown_timeout_secs: Duration = "10", 1.0..=3_600.0;
        /// Where `/livez`, `/readyz` and `/metrics` answer.
        plain admin_addr: SocketAddr = "127.0.0.1:9090", Any;
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
