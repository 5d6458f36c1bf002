//! Logs to standard error, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{LogFormat, ServiceVariables};

/// The directives for the log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{variable} has no valid directives (try info, or info,ponix_nats=debug): {source}")]
pub(crate) struct LoggingError {
    variable: &'static str,
    source: ParseError,
}

/// Sets up the log for the whole process.
pub(crate) fn init(service: &ServiceVariables) -> Result<(), LoggingError> {
    let filter = filter(service)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Otherwise a log that cannot be written is complained of on standard error, with a panic
        // when that is what is broken: whoever reads the log must not decide over the service.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match service.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(service: &ServiceVariables) -> Result<EnvFilter, LoggingError> {
    let (variable, directives) = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => ("RUST_LOG", directives),
        _ => ("PONIX_LOG_LEVEL", service.log_level.0.clone()),
    };
    // The client tells every reconnect attempt; connection events are logged by ponix-nats.
    let directives = format!("async_nats=warn,{directives}");
    EnvFilter::try_new(directives).map_err(|source| LoggingError { variable, source })
}
