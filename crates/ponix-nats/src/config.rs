//! What a connection to NATS needs to know.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Where the NATS servers are and how to log in to them.
///
/// Plain data: reading it from the environment is the business of the binary.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// Server URLs, any of which may be used: `nats://host:4222`, `tls://host:4222`.
    pub servers: Vec<String>,
    /// How the client logs in. [`NatsAuth::None`] takes what the first URL with a login says.
    pub auth: NatsAuth,
    /// Files for TLS. Empty: the system's roots, and TLS only where the URL or the server asks.
    pub tls: NatsTls,
    /// Beginning of the subjects that answers come to, one token; other than `_INBOX` where each user
    /// may subscribe to its own alone.
    pub inbox_prefix: String,
    /// Time between keep-alive pings. A dead connection is noticed after about two of them.
    pub ping_interval: Duration,
    /// Time one connection attempt may take, TLS and login included.
    pub connect_timeout: Duration,
    /// Time a request to the JetStream API may take.
    pub request_timeout: Duration,
    /// Messages buffered between the socket and a pull. Must hold a whole batch.
    pub subscription_capacity: usize,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://localhost:4222".to_owned()],
            auth: NatsAuth::None,
            tls: NatsTls::default(),
            inbox_prefix: "_INBOX".to_owned(),
            ping_interval: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            subscription_capacity: 131_072,
        }
    }
}

/// How the client logs in.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum NatsAuth {
    /// Not at all, or with what stands in a URL: `user:password@`, or `token@`, percent-encoded.
    #[default]
    None,
    /// User name and password.
    UserPassword {
        /// The user's name.
        user: String,
        /// The user's password.
        password: SecretString,
    },
    /// A shared token.
    Token(SecretString),
    /// A `.creds` file: JWT and NKey seed.
    CredentialsFile(PathBuf),
    /// An NKey seed (`SU…`).
    NKey(SecretString),
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// Certificate authorities that the server's certificate must come from.
    pub ca_file: Option<PathBuf>,
    /// Certificate the client shows, with its key.
    pub client: Option<ClientCertificate>,
    /// Refuses a connection without TLS.
    pub required: bool,
}

/// A certificate and the key that belongs to it, PEM files.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Certificate chain.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}
