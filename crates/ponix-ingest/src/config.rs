//! Every limit of the HTTP API, with its default.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the HTTP API is told.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// What clients may keep open.
    pub server: ServerConfig,
    /// Take envelopes.
    pub envelopes: bool,
    /// Serve `/metrics` and `/stats` to everybody who may connect.
    pub public_metrics: bool,
    /// Stream of the envelopes, also the first token of their subjects.
    pub stream: String,
    /// Organization of requests without a key, when there is no file of keys.
    pub default_organization: String,
    /// Bytes of a body at most, after decompression.
    pub body_bytes_max: usize,
    /// How many times its compressed size a body may have, above 64 KiB.
    pub decompression_ratio_max: usize,
    /// Lines of an NDJSON body at most.
    pub batch_lines_max: usize,
    /// Envelopes in one packed message at most, of one NDJSON body or of requests at the same time; 1 is a
    /// message for each.
    pub pack_events_max: usize,
    /// Members of the objects in one envelope at most.
    pub keys_max: usize,
    /// Time the body of a request may take.
    pub body_timeout: Duration,
    /// Time a PubAck may take.
    pub publish_timeout: Duration,
    /// Requests in work at a time at most; more are refused.
    pub requests_max: usize,
    /// Requests per second of one key that has no rate of its own; 0 is no limit.
    pub key_rate: u32,
    /// Requests per second of one client address; 0 is no limit.
    pub address_rate: u32,
    /// Lines per second of one organization, over all its keys; 0 is no limit. A whole body may come
    /// at once.
    pub organization_lines_rate: u32,
    /// The same in bytes, after decompression.
    pub organization_bytes_rate: u32,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpAddr>,
    /// Ids given by clients that are remembered to tell a repeat from a conflict.
    pub remembered_ids_max: usize,
}

/// What the clients of a listener may keep open.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Header lines of a request at most.
    pub headers_max: usize,
    /// Bytes of the request line and the headers at most; not less than 8192.
    pub header_bytes_max: usize,
    /// Time the headers of a request may take, also between two requests on a connection.
    pub header_timeout: Duration,
    /// Time an answer may stand still because the client does not read it.
    pub stall_timeout: Duration,
    /// Connections at a time at most; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Of these, connections that only clients with a key may keep: when the others are taken,
    /// a new connection must show one with its first request.
    pub connections_kept: usize,
    /// Connections of one address at most; 0 is no limit.
    pub address_connections_max: usize,
    /// Addresses of proxies, which have no limit of their own.
    pub proxies: Vec<IpAddr>,
    /// Time new connections are still accepted once the service is told to stop.
    pub close_delay: Duration,
    /// Time open requests get after that.
    pub drain_timeout: Duration,
    /// Certificate chain and key, PEM files; plain HTTP without.
    pub tls: Option<TlsFiles>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            headers_max: 64,
            header_bytes_max: 16 << 10,
            header_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(10),
            connections_max: 4096,
            connections_kept: 1024,
            address_connections_max: 1024,
            proxies: Vec::new(),
            close_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            tls: None,
        }
    }
}

/// What the HTTP API is told about raw messages; the limits of [`IngestConfig`] count for them too.
#[derive(Debug, Clone)]
pub struct MessagesConfig {
    /// First tokens of the subjects; the entity is the last one.
    pub subject_prefix: String,
    /// Messages go into JetStream; without, straight into the store.
    pub nats_enabled: bool,
    /// Statuses that wait to be written at most; more are left to the worker.
    pub statuses_queued_max: usize,
    /// Time a request may wait for a final status at most.
    pub status_wait_max: Duration,
}

impl Default for MessagesConfig {
    fn default() -> Self {
        Self {
            subject_prefix: "messages.ingest".to_owned(),
            nats_enabled: true,
            statuses_queued_max: 65_536,
            status_wait_max: Duration::from_secs(30),
        }
    }
}

/// Where the server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            envelopes: true,
            public_metrics: false,
            stream: "processed_envelopes".to_owned(),
            default_organization: "example-org".to_owned(),
            body_bytes_max: 1 << 20,
            decompression_ratio_max: 100,
            batch_lines_max: 10_000,
            pack_events_max: 500,
            keys_max: 1_000,
            body_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(5),
            requests_max: 1024,
            key_rate: 0,
            address_rate: 0,
            organization_lines_rate: 100_000,
            organization_bytes_rate: 128 << 20,
            trusted_proxies: Vec::new(),
            remembered_ids_max: 10_000,
        }
    }
}
