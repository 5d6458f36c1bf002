//! Variables of PostgreSQL.

use std::time::Duration;

use ponix_postgres::PostgresConfig;
use secrecy::SecretString;

use super::environment::Problem;
use super::value::Any;
use super::variables::variables;

variables! {
    /// What the service is told about PostgreSQL.
    struct PostgresVariables, "PONIX_POSTGRES_" {
        /// Server and database, such as `postgres://ponix@localhost:5432/ponix`, with
        /// `?sslmode=verify-full` for TLS. The message pipeline runs when it is set.
        plain url: Option<String> = "", Any;
        /// Password of the user, where it is not in the URL.
        secret password: Option<SecretString> = "", Any;
        /// Connections at a time at most.
        plain connections_max: u64 = "8", 1..=1_000;
        /// Time a connect may take, log-in included.
        plain connect_timeout_secs: Duration = "5", 0.1..=600.0;
        /// Time to wait for a free connection.
        plain pool_timeout_secs: Duration = "5", 0.1..=600.0;
        /// Time the server may work on one statement.
        plain statement_timeout_secs: Duration = "30", 0.1..=3_600.0;
        /// Time a batch with all its statements may take.
        plain operation_timeout_secs: Duration = "60", 0.1..=3_600.0;
        /// Time one statement of a migration may take.
        plain migration_timeout_secs: Duration = "600", 1.0..=86_400.0;
        /// Time for which the status of a message is kept.
        plain status_keep_secs: Duration = "2592000", 86_400.0..=315_360_000.0;
    }
}

impl PostgresVariables {
    /// Checks what concerns several variables.
    pub(super) fn check(&self, service: &super::ServiceVariables, messages: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        let Some(client) = self.client() else {
            return problems;
        };
        let only_declared = !messages && service.pipelines_dir.is_some();
        if service.entities_dir.is_none() && !only_declared {
            problems.push(Problem::new(
                "PONIX_ENTITIES_DIR",
                "is not set, and PONIX_POSTGRES_URL is: name the folder of the entities, or set PONIX_MESSAGES_ENABLED=false where declared pipelines alone write there",
            ));
        }
        if let Err(err) = client.check() {
            problems.push(Problem::new("PONIX_POSTGRES_URL", err.to_string()));
        }
        problems
    }

    /// Returns the database that the URL names, as the metadata of consumers have it.
    pub(crate) fn target(&self) -> Option<String> {
        let (_, rest) = self.url.as_deref()?.split_once("://")?;
        let (_, path) = rest.split_once('/')?;
        let name = path.split('?').next().filter(|name| !name.is_empty());
        name.map(|name| format!("postgres {name}"))
    }

    /// Returns host, port and database of the URL.
    pub(crate) fn url_shown(&self) -> &str {
        let url = self.url.as_deref().unwrap_or_default();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        rest.split('?').next().unwrap_or_default()
    }

    /// Returns the client's part; `None` when the pipeline is not wanted.
    pub(crate) fn client(&self) -> Option<PostgresConfig> {
        Some(PostgresConfig {
            url: SecretString::from(self.url.clone()?),
            password: self.password.clone(),
            connections_max: self.connections_max as usize,
            connect_timeout: self.connect_timeout_secs,
            pool_timeout: self.pool_timeout_secs,
            statement_timeout: self.statement_timeout_secs,
            operation_timeout: self.operation_timeout_secs,
            migration_timeout: self.migration_timeout_secs,
            ..PostgresConfig::default()
        })
    }
}
