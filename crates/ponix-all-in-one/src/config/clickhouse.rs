//! Variables of ClickHouse.

use std::time::Duration;

use ponix_clickhouse::ClickHouseConfig;
use secrecy::SecretString;

use super::environment::Problem;
use super::value::Any;
use super::variables::variables;

variables! {
    /// What the service is told about ClickHouse.
    struct ClickHouseVariables, "PONIX_CLICKHOUSE_" {
        /// Run the pipeline of the events into ClickHouse.
        plain enabled: bool = "true", Any;
        /// HTTP interface, `http://host:8123` or `https://host:8443`; several servers with the same tables with commas between them.
        plain url: String = "http://localhost:8123", Any;
        /// Database of the tables; created by the migrations when it is missing.
        plain database: String = "ponix", Any;
        /// Cluster of `remote_servers` that gets the tables; not needed in ClickHouse Cloud and databases of engine `Replicated`.
        plain cluster: Option<String> = "", Any;
        /// Replicas that must have an INSERT before its messages are acked: a number, or `auto` for most of them; one without.
        plain insert_quorum: Option<String> = "", Any;
        /// User name.
        plain username: String = "ponix", Any;
        /// Password of the user.
        secret password: Option<SecretString> = "ponix", Any;
        /// Rows in an INSERT at most.
        plain insert_rows_max: u64 = "50000", 1..=1_000_000;
        /// Bytes in an INSERT at most, before compression.
        plain insert_bytes_max: u64 = "33554432", (64 << 10)..=(1 << 30);
        /// Months, hence partitions, in an INSERT at most.
        plain insert_months_max: u64 = "50", 1..=50;
        /// Paths of `data` in an INSERT at most that is sent as columns; with more, and with 0 always, `data` go as text.
        plain insert_paths_max: u64 = "256", 0..=1_000;
        /// Time a TCP connect may take.
        plain connect_timeout_secs: Duration = "5", 0.1..=600.0;
        /// Time the socket may refuse to take the next chunk of an INSERT.
        plain send_timeout_secs: Duration = "30", 0.1..=3_600.0;
        /// Time the answer to a query or INSERT may take.
        plain response_timeout_secs: Duration = "60", 0.1..=3_600.0;
        /// Time one statement of a migration may take.
        plain migration_timeout_secs: Duration = "600", 1.0..=86_400.0;
        /// Pause before the first retry of an INSERT; it doubles with each.
        plain retry_backoff_min_secs: Duration = "0.1", 0.001..=60.0;
        /// Longest pause between two retries of an INSERT.
        plain retry_backoff_max_secs: Duration = "10", 0.001..=600.0;
    }
}

impl ClickHouseVariables {
    /// Checks what the client asks for, in the client's own words.
    pub(super) fn check(&self) -> Vec<Problem> {
        let Err(error) = self.client().validate() else {
            return Vec::new();
        };
        let problem = |p: &ponix_clickhouse::ConfigProblem| {
            let variable = format!("PONIX_CLICKHOUSE_{}", p.field.to_ascii_uppercase());
            Problem::new(variable, p.complaint)
        };
        error.problems().iter().map(problem).collect()
    }

    /// Returns the client's part.
    pub(crate) fn client(&self) -> ClickHouseConfig {
        ClickHouseConfig {
            url: self.url.clone(),
            database: self.database.clone(),
            cluster: self.cluster.clone(),
            insert_quorum: self.insert_quorum.clone(),
            username: self.username.clone(),
            password: self.password.clone().unwrap_or_default(),
            connect_timeout: self.connect_timeout_secs,
            send_timeout: self.send_timeout_secs,
            response_timeout: self.response_timeout_secs,
            migration_timeout: self.migration_timeout_secs,
            insert_rows_max: self.insert_rows_max as usize,
            insert_bytes_max: self.insert_bytes_max as usize,
            insert_months_max: self.insert_months_max as usize,
            insert_paths_max: self.insert_paths_max as usize,
            retry_backoff_min: self.retry_backoff_min_secs,
            retry_backoff_max: self.retry_backoff_max_secs,
        }
    }
}
