//! The configuration: environment variables, one flat struct per concern and prefix.
//!
//! Each variable is declared once, with its default, bounds, unit and meaning; reading, checking,
//! printing and `docs/configuration.md` all come from that declaration.

mod clickhouse;
mod environment;
mod ingest;
mod messages;
mod nats;
mod postgres;
mod reference;
mod service;
mod value;
mod variables;

pub(crate) use self::environment::{ConfigProblems, Environment, Problem};
pub(crate) use self::nats::NatsVariables;
pub(crate) use self::reference::markdown;
pub(crate) use self::service::{LogFormat, PipelinesMode, ServiceVariables};
pub(crate) use self::variables::Setting;
use self::variables::Variable;

use self::clickhouse::ClickHouseVariables;
use self::environment::{foreign_names, unknown_names};
use self::ingest::IngestVariables;
use self::messages::MessagesVariables;
use self::postgres::PostgresVariables;

/// Everything the service can be told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) service: ServiceVariables,
    pub(crate) nats: NatsVariables,
    pub(crate) clickhouse: ClickHouseVariables,
    pub(crate) ingest: IngestVariables,
    pub(crate) messages: MessagesVariables,
    pub(crate) postgres: PostgresVariables,
}

/// A configuration as far as it could be read, with everything that is wrong with it.
#[derive(Debug)]
pub(crate) struct Reading {
    /// `None` when there is a problem.
    pub(crate) config: Option<Config>,
    /// Every variable with its effective value, secrets masked.
    pub(crate) settings: Vec<Setting>,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
    /// Names that look like ours and are not.
    pub(crate) warnings: Vec<String>,
}

impl Reading {
    /// Reads the whole configuration from an environment.
    pub(crate) fn new(environment: &Environment) -> Self {
        let (service, mut settings, mut problems) = ServiceVariables::read(environment);
        let (nats, nats_settings, nats_problems) = NatsVariables::read(environment);
        let (clickhouse, clickhouse_settings, clickhouse_problems) =
            ClickHouseVariables::read(environment);
        settings.extend(nats_settings);
        settings.extend(clickhouse_settings);
        let (ingest, ingest_settings, ingest_problems) = IngestVariables::read(environment);
        settings.extend(ingest_settings);
        let (messages, messages_settings, messages_problems) = MessagesVariables::read(environment);
        settings.extend(messages_settings);
        let (postgres, postgres_settings, postgres_problems) = PostgresVariables::read(environment);
        settings.extend(postgres_settings);
        problems.extend(nats_problems);
        problems.extend(clickhouse_problems);
        problems.extend(ingest_problems);
        problems.extend(messages_problems);
        problems.extend(postgres_problems);
        problems.extend(environment.problems());
        problems.extend(nats.iter().flat_map(NatsVariables::check));
        problems.extend(clickhouse.iter().flat_map(ClickHouseVariables::check));
        problems.extend(ingest.iter().flat_map(IngestVariables::check));
        problems.extend(messages.iter().flat_map(MessagesVariables::check));
        if let (Some(service), Some(ingest)) = (&service, &ingest) {
            problems.extend(ingest.check_end(service));
            problems.extend(ingest.check_addr(service));
        }
        if let (Some(nats), Some(clickhouse)) = (&nats, &clickhouse)
            && clickhouse.enabled
        {
            problems.extend(nats.check_subject());
        }
        if let (Some(nats), Some(messages), Some(postgres)) = (&nats, &messages, &postgres)
            && postgres.url.is_some()
        {
            problems.extend(messages.check_apart_from(nats));
        }
        if let (Some(service), Some(postgres), Some(messages)) = (&service, &postgres, &messages) {
            problems.extend(postgres.check(service, messages.enabled));
        }
        let config = match (service, nats, clickhouse, ingest, messages, postgres) {
            (
                Some(service),
                Some(nats),
                Some(clickhouse),
                Some(ingest),
                Some(messages),
                Some(postgres),
            ) => Some(Config {
                service,
                nats,
                clickhouse,
                ingest,
                messages,
                postgres,
            })
            .filter(|_| problems.is_empty()),
            _ => None,
        };
        let mut warnings = unknown_names(environment, &variables());
        warnings.extend(foreign_names(environment));
        Self {
            config,
            settings,
            problems,
            warnings,
        }
    }

    /// Returns the configuration.
    ///
    /// # Errors
    /// Every problem at once.
    pub(crate) fn into_config(self) -> Result<Config, ConfigProblems> {
        self.config.ok_or(ConfigProblems(self.problems))
    }
}

/// Every variable there is, by concern.
pub(crate) fn variables() -> Vec<Variable> {
    [
        ServiceVariables::variables(),
        NatsVariables::variables(),
        ClickHouseVariables::variables(),
        IngestVariables::variables(),
        MessagesVariables::variables(),
        PostgresVariables::variables(),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
