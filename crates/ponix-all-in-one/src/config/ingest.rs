//! Variables of the HTTP API.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ponix_ingest::{IngestConfig, MessagesConfig, ServerConfig, TlsFiles};

use super::environment::Problem;
use super::value::{Any, Value};
use super::variables::variables;

variables! {
    /// What the service is told about its HTTP API.
    struct IngestVariables, "PONIX_INGEST_" {
        /// Serve the HTTP API.
        plain enabled: bool = "true", Any;
        /// Where it answers.
        plain addr: SocketAddr = "127.0.0.1:8080", Any;
        /// File of the API keys, one JSON object per line; required unless the address is a
        /// loopback one.
        plain api_keys_file: Option<PathBuf> = "", Any;
        /// Take envelopes; without, neither `POST /v1/envelopes` nor their stream is there.
        plain envelopes_enabled: bool = "true", Any;
        /// Organization of requests when there is no file of API keys.
        plain organization: String = "example-org", Any;
        /// Put raw messages into JetStream; otherwise they go straight into PostgreSQL.
        plain nats_enabled: bool = "true", Any;
        /// Statuses that wait to be written at most; more are left to the worker.
        plain statuses_queued_max: u64 = "65536", 1..=10_000_000;
        /// Time a request may wait for the final status of a message at most.
        plain status_wait_secs_max: Duration = "30", 0.0..=600.0;
        /// Certificate chain for TLS, a PEM file; needs `PONIX_INGEST_TLS_KEY`.
        plain tls_cert: Option<PathBuf> = "", Any;
        /// Key of that certificate, a PEM file.
        plain tls_key: Option<PathBuf> = "", Any;
        /// Bytes of a body at most, after decompression.
        plain body_bytes_max: u64 = "1048576", 1..=(1 << 30);
        /// How many times its compressed size a body may have, above 64 KiB.
        plain decompression_ratio_max: u64 = "100", 1..=10_000;
        /// Lines of an NDJSON body at most.
        plain batch_lines_max: u64 = "10000", 1..=1_000_000;
        /// Envelopes that go into one packed message at most, of one NDJSON body or of requests at the same time; 1 is a message for each.
        /// Every worker on the stream must read packed messages; who filters it by device leaves this at 1.
        plain pack_events_max: u64 = "500", 1..=100_000;
        /// Members of the objects in one envelope at most.
        plain keys_max: u64 = "1000", 1..=1_000_000;
        /// Header lines of a request at most.
        plain headers_max: u64 = "64", 1..=1_000;
        /// Bytes of the request line and the headers at most.
        plain header_bytes_max: u64 = "16384", 8192..=(1 << 20);
        /// Time the headers of a request may take, also between two requests on a connection.
        plain header_timeout_secs: Duration = "5", 0.1..=600.0;
        /// Time the body of a request may take.
        plain body_timeout_secs: Duration = "10", 0.1..=3_600.0;
        /// Time a PubAck may take before the answer is 503.
        plain publish_timeout_secs: Duration = "5", 0.1..=60.0;
        /// Time an answer may stand still because its client does not read it.
        plain stall_timeout_secs: Duration = "10", 0.1..=3_600.0;
        /// Connections at a time at most; more wait. With API keys, a quarter of them is kept for
        /// clients that show one.
        plain connections_max: u64 = "4096", 1..=1_000_000;
        /// Connections of one client address at most, trusted proxies aside; 0 is no limit.
        plain address_connections_max: u64 = "1024", 0..=1_000_000;
        /// Time new connections are still accepted after a stop signal, for balancers that must see
        /// `/ready` red first; less than half of `PONIX_SHUTDOWN_TIMEOUT_SECS`.
        plain close_delay_secs: Duration = "0", 0.0..=1_800.0;
        /// Serve `/metrics` and `/stats` here too; they are on `PONIX_ADMIN_ADDR` anyway.
        plain public_metrics: bool = "false", Any;
        /// Requests in work at a time at most; more are answered with 503.
        plain requests_max: u64 = "1024", 1..=1_000_000;
        /// Requests per second of one API key that has no rate of its own; 0 is no limit.
        plain key_rate: u64 = "0", 0..=10_000_000;
        /// Requests per second of one client address; 0 is no limit.
        plain address_rate: u64 = "0", 0..=10_000_000;
        /// Lines per second of one organization, over all its keys; 0 is no limit. A whole body may
        /// come at once.
        plain organization_lines_rate: u64 = "100000", 0..=1_000_000_000;
        /// Bytes per second of one organization, after decompression; 0 is no limit.
        plain organization_bytes_rate: u64 = "134217728", 0..=4_000_000_000;
        /// Addresses of proxies whose `X-Forwarded-For` counts, separated by commas.
        plain trusted_proxies: Addresses = "", Any;
        /// Ids given by clients that are remembered to tell a repeat from a conflict (409).
        plain remembered_ids_max: u64 = "10000", 1..=10_000_000;
    }
}

/// IP addresses, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses(Vec<IpAddr>);

impl Value for Addresses {
    type Bounds = Any;

    fn parse(text: &str, bounds: &Any) -> Result<Self, String> {
        let addresses = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let parsed: Result<_, _> = addresses.map(str::parse).collect();
        parsed.map(Self).map_err(|_| Self::describe(bounds))
    }

    fn describe(_: &Any) -> String {
        "IP addresses separated by commas, such as 10.0.0.1,fd00::1".into()
    }
}

impl IngestVariables {
    /// Checks what concerns several variables.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push(Problem::new(
                "PONIX_INGEST_TLS_CERT",
                "and PONIX_INGEST_TLS_KEY go together: set both or none",
            ));
        }
        if self.enabled && self.api_keys_file.is_none() && !self.addr.ip().is_loopback() {
            problems.push(Problem::new(
                "PONIX_INGEST_API_KEYS_FILE",
                format!(
                    "is not set, and PONIX_INGEST_ADDR {} is no loopback address: name a file of API keys, listen on 127.0.0.1, or set PONIX_INGEST_ENABLED=false",
                    self.addr
                ),
            ));
        }
        problems
    }

    /// Two listeners cannot have one address.
    pub(super) fn check_addr(&self, service: &super::ServiceVariables) -> Option<Problem> {
        let same = self.enabled && self.addr.port() != 0 && self.addr == service.admin_addr;
        same.then(|| {
            let text = format!("is {}, as PONIX_ADMIN_ADDR is", self.addr);
            Problem::new("PONIX_INGEST_ADDR", text)
        })
    }

    /// Checks what concerns the end of the service.
    pub(super) fn check_end(&self, service: &super::ServiceVariables) -> Option<Problem> {
        let most = service.shutdown_timeout_secs / 2;
        (self.enabled && !self.close_delay_secs.is_zero() && self.close_delay_secs >= most).then(
            || {
                let text = format!(
                    "is {} s, expected less than half of PONIX_SHUTDOWN_TIMEOUT_SECS: {} s",
                    self.close_delay_secs.as_secs_f64(),
                    most.as_secs_f64()
                );
                Problem::new("PONIX_INGEST_CLOSE_DELAY_SECS", text)
            },
        )
    }

    /// Returns what concerns raw messages.
    pub(crate) fn messages(&self, subject_prefix: &str) -> MessagesConfig {
        MessagesConfig {
            subject_prefix: format!("{subject_prefix}.ingest"),
            nats_enabled: self.nats_enabled,
            statuses_queued_max: self.statuses_queued_max as usize,
            status_wait_max: self.status_wait_secs_max,
        }
    }

    /// Returns the API's part; its end may take so much `time`.
    pub(crate) fn api(&self, stream: &str, with_keys: bool, time: Duration) -> IngestConfig {
        let rate = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
        IngestConfig {
            server: self.server(with_keys, time),
            envelopes: self.envelopes_enabled,
            public_metrics: self.public_metrics,
            stream: stream.to_owned(),
            default_organization: self.organization.clone(),
            body_bytes_max: self.body_bytes_max as usize,
            decompression_ratio_max: self.decompression_ratio_max as usize,
            batch_lines_max: self.batch_lines_max as usize,
            pack_events_max: self.pack_events_max as usize,
            keys_max: self.keys_max as usize,
            body_timeout: self.body_timeout_secs,
            publish_timeout: self.publish_timeout_secs,
            requests_max: self.requests_max as usize,
            key_rate: rate(self.key_rate),
            address_rate: rate(self.address_rate),
            organization_lines_rate: rate(self.organization_lines_rate),
            organization_bytes_rate: rate(self.organization_bytes_rate),
            trusted_proxies: self.trusted_proxies.0.clone(),
            remembered_ids_max: self.remembered_ids_max as usize,
        }
    }

    fn server(&self, with_keys: bool, time: Duration) -> ServerConfig {
        let connections_max = self.connections_max as usize;
        ServerConfig {
            headers_max: self.headers_max as usize,
            header_bytes_max: self.header_bytes_max as usize,
            header_timeout: self.header_timeout_secs,
            stall_timeout: self.stall_timeout_secs,
            connections_max,
            connections_kept: if with_keys { connections_max / 4 } else { 0 },
            address_connections_max: self.address_connections_max as usize,
            proxies: self.trusted_proxies.0.clone(),
            close_delay: self.close_delay_secs,
            drain_timeout: time.saturating_sub(self.close_delay_secs),
            tls: self.tls(),
        }
    }

    /// Returns the server's certificate and key.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        files.map(|(cert, key)| TlsFiles { cert, key })
    }
}
