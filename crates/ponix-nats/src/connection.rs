//! Connects to NATS and reports what happens to the connection.

use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::config::{NatsAuth, NatsConfig};
use crate::metrics::{ConnectionLabel, NatsMetrics};

/// Oldest version of nats-server that Ponix works with.
const VERSION_MIN: (i64, i64) = (2, 10);
/// Oldest version that delivers what gets the sequences of a lost tail; see docs/delivery.md.
pub(crate) const VERSION_SINGLE_COPY_MIN: (i64, i64) = (2, 14);
/// Pause between two attempts of the first connect; also the least time between two log lines.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts of a reconnect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a connection is used for. Publishing and consuming have one each, so that a flood on one
/// does not hold up the acks of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRole {
    /// Publishes events and dead letters.
    Publish,
    /// Pulls and acks.
    Consume,
}

impl ConnectionRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A server URL is not one.
    #[error(
        "NATS server URL number {position} cannot be read (expected nats://host:port or tls://host:port)"
    )]
    Url {
        /// Position in the list, from 1. The URL itself may hold a password, so it is not shown.
        position: usize,
        /// What the parser said.
        #[source]
        source: std::io::Error,
    },
    /// A credentials or certificate file cannot be read.
    #[error("cannot read {what} {path}", path = path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The server refused the login.
    #[error(
        "NATS at {servers} refused the login ({auth}): check user and password in PONIX_NATS_URL or PONIX_NATS_USER and PONIX_NATS_PASSWORD, PONIX_NATS_TOKEN or PONIX_NATS_CREDENTIALS"
    )]
    Refused {
        /// Hosts that were tried.
        servers: String,
        /// The way of login that was used.
        auth: &'static str,
    },
    /// No server answered in time.
    #[error(
        "no NATS server answered at {servers} in {waited_secs} s ({attempts} attempts, the last: {last}); {}",
        what_to_do(last)
    )]
    Unreachable {
        /// Hosts that were tried.
        servers: String,
        /// Attempts made.
        attempts: u32,
        /// Seconds waited.
        waited_secs: u64,
        /// What the last attempt ended with.
        last: String,
    },
    /// The server is older than the oldest that Ponix works with.
    #[error(
        "NATS at {servers} is version {version}, at least {}.{} is needed: update the server",
        VERSION_MIN.0,
        VERSION_MIN.1
    )]
    TooOld {
        /// Hosts that were tried.
        servers: String,
        /// What the server calls its version.
        version: String,
    },
    /// The server is there, but its JetStream is not.
    #[error(
        "JetStream is not enabled on NATS at {servers}: start nats-server with -js (and a store folder, -sd), or enable it for this account"
    )]
    NoJetStream {
        /// Hosts that were tried.
        servers: String,
    },
    /// The account may not use the JetStream API.
    #[error(
        "NATS at {servers} did not answer the JetStream API: the user may lack permission to publish to $JS.API.INFO, or to subscribe to {inbox_prefix}.> (PONIX_NATS_INBOX_PREFIX)"
    )]
    NoPermission {
        /// Hosts that were tried.
        servers: String,
        /// Where the answer would have come to.
        inbox_prefix: String,
        /// What the request ended with.
        #[source]
        source: jetstream::context::AccountError,
    },
}

/// Connects, retrying until `deadline`, and checks that JetStream answers.
///
/// Afterwards the client reconnects by itself, without end.
///
/// # Errors
/// A bad URL, an unreadable file or a refused login is an error at once; a server that is not
/// there is one when the deadline has passed.
///
/// # Cancel safety
/// Cancel safe: an attempt under way is dropped.
pub async fn connect(
    config: &NatsConfig,
    role: ConnectionRole,
    metrics: &NatsMetrics,
    deadline: Instant,
) -> Result<Client, ConnectError> {
    let addrs = parse_servers(&config.servers)?;
    let servers = display_servers(&addrs);
    let started = Instant::now();
    let mut attempts = 0;
    let client = loop {
        attempts += 1;
        let options = connect_options(config, &addrs, role, metrics).await?;
        let last = match options.connect(&addrs[..]).await {
            Ok(client) => break client,
            Err(err) if is_refused(err.kind()) => {
                return Err(ConnectError::Refused {
                    servers,
                    auth: auth_name(&config.auth),
                });
            }
            Err(err) => err.to_string(),
        };
        if Instant::now() + RETRY_PAUSE >= deadline {
            let waited_secs = started.elapsed().as_secs();
            return Err(ConnectError::Unreachable {
                servers,
                attempts,
                waited_secs,
                last,
            });
        }
        tracing::warn!(%servers, attempts, error = %last, what_to_do = what_to_do(&last), "no connection to nats yet, trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    if !client.is_server_compatible(VERSION_MIN.0, VERSION_MIN.1, 0) {
        let version = client.server_info().version;
        return Err(ConnectError::TooOld { servers, version });
    }
    let (major, minor) = VERSION_SINGLE_COPY_MIN;
    if role == ConnectionRole::Consume && !client.is_server_compatible(major, minor, 0) {
        tracing::warn!(
            %servers,
            version = client.server_info().version,
            "this nats-server may skip messages of a stream with one copy after a power cut; update it to 2.14 or later, or keep three copies"
        );
    }
    check_jetstream(&client, servers, &config.inbox_prefix, deadline).await?;
    Ok(client)
}

/// Checks what can be checked without a server: the URLs, and the files that are named.
///
/// # Errors
/// The first thing that [`connect`] would find wrong.
///
/// # Cancel safety
/// Cancel safe.
pub async fn check_config(config: &NatsConfig) -> Result<(), ConnectError> {
    let addrs = parse_servers(&config.servers)?;
    let (role, metrics) = (ConnectionRole::Publish, NatsMetrics::unregistered());
    connect_options(config, &addrs, role, &metrics)
        .await
        .map(drop)
}

/// Returns a JetStream context whose requests end after the configured time.
pub fn jetstream_context(client: Client, config: &NatsConfig) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        .timeout(config.request_timeout)
        .ack_timeout(config.request_timeout)
        .build(client)
}

fn parse_servers(servers: &[String]) -> Result<Vec<ServerAddr>, ConnectError> {
    servers
        .iter()
        .enumerate()
        .map(|(index, url)| {
            let position = index + 1;
            let wrong = |source| ConnectError::Url { position, source };
            let addr: ServerAddr = url.trim().parse().map_err(wrong)?;
            if addr.is_websocket() {
                return Err(wrong(std::io::Error::other("websockets are not supported")));
            }
            Ok(addr)
        })
        .collect()
}

/// Hosts and ports only: a URL may hold a password.
fn display_servers(addrs: &[ServerAddr]) -> String {
    let hosts: Vec<_> = addrs
        .iter()
        .map(|a| format!("{}:{}", a.host(), a.port()))
        .collect();
    hosts.join(", ")
}

const fn auth_name(auth: &NatsAuth) -> &'static str {
    match auth {
        NatsAuth::None => "no credentials besides the URL's",
        NatsAuth::UserPassword { .. } => "user and password",
        NatsAuth::Token(_) => "token",
        NatsAuth::CredentialsFile(_) => "credentials file",
        NatsAuth::NKey(_) => "NKey",
    }
}

/// What to do, by what an attempt ended with.
fn what_to_do(last: &str) -> &'static str {
    let has = |words: &str| last.contains(words);
    if has("Connection refused") {
        "nothing listens there: start nats-server, or set its host and port in PONIX_NATS_URL"
    } else if has("failed to lookup address") {
        "there is no such host: set it in PONIX_NATS_URL"
    } else if has("InvalidContentType") {
        "the server speaks no TLS at this port: write nats:// in PONIX_NATS_URL, without PONIX_NATS_TLS_REQUIRED"
    } else if has("invalid peer certificate") {
        "the server's certificate is not trusted here: name its authority in PONIX_NATS_TLS_CA"
    } else {
        "look at PONIX_NATS_URL, and whether NATS listens there"
    }
}

/// A wrong login, or one that cannot even be written: a seed that is none.
fn is_refused(kind: ConnectErrorKind) -> bool {
    matches!(
        kind,
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication
    )
}

async fn connect_options(
    config: &NatsConfig,
    addrs: &[ServerAddr],
    role: ConnectionRole,
    metrics: &NatsMetrics,
) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(format!("ponix-{}", role.as_str()))
        .custom_inbox_prefix(&config.inbox_prefix)
        .ping_interval(config.ping_interval)
        .connection_timeout(config.connect_timeout)
        .request_timeout(Some(config.request_timeout))
        .subscription_capacity(config.subscription_capacity)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback({
            let metrics = metrics.clone();
            move |event| {
                record_event(&event, role, &metrics);
                async {}
            }
        });
    options = match &config.auth {
        NatsAuth::None => with_url_login(options, addrs),
        NatsAuth::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.expose_secret().to_owned())
        }
        NatsAuth::Token(token) => options.token(token.expose_secret().to_owned()),
        NatsAuth::NKey(seed) => options.nkey(seed.expose_secret().trim().to_owned()),
        NatsAuth::CredentialsFile(path) => {
            options
                .credentials_file(path)
                .await
                .map_err(|source| ConnectError::File {
                    what: "the NATS credentials file",
                    path: path.clone(),
                    source,
                })?
        }
    };
    if let Some(path) = &config.tls.ca_file {
        readable("the NATS CA file", path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some(client) = &config.tls.client {
        readable("the NATS client certificate", &client.cert_file)?;
        readable("the NATS client key", &client.key_file)?;
        options = options.add_client_certificate(client.cert_file.clone(), client.key_file.clone());
    }
    Ok(options.require_tls(config.tls.required))
}

/// The client leaves what stands in a URL to its caller: `user:password@`, or a token alone.
fn with_url_login(options: ConnectOptions, addrs: &[ServerAddr]) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let logins = addrs.iter().map(|addr| (addr.username(), addr.password()));
    match logins.into_iter().find(|(user, _)| user.is_some()) {
        Some((Some(user), Some(password))) => {
            options.user_and_password(decoded(user), decoded(password))
        }
        Some((Some(token), None)) => options.token(decoded(token)),
        _ => options,
    }
}

fn readable(what: &'static str, path: &std::path::Path) -> Result<(), ConnectError> {
    std::fs::File::open(path)
        .map(drop)
        .map_err(|source| ConnectError::File {
            what,
            path: path.to_owned(),
            source,
        })
}

/// Doubles from 50 ms to the longest pause, with a random part so that a fleet does not return at once.
fn reconnect_pause(attempts: usize) -> Duration {
    let doubled = Duration::from_millis(50) * 2u32.pow(attempts.min(10) as u32);
    doubled
        .min(RECONNECT_PAUSE_MAX)
        .mul_f64(rand::random_range(0.5..=1.0))
}

fn record_event(event: &Event, role: ConnectionRole, metrics: &NatsMetrics) {
    let connection = role.as_str();
    let name = match event {
        Event::Connected => {
            tracing::info!(connection, "nats connected");
            "connected"
        }
        Event::Disconnected => {
            tracing::warn!(connection, "nats disconnected, reconnecting");
            "disconnected"
        }
        Event::LameDuckMode => {
            tracing::warn!(connection, "nats server is about to shut down");
            "lame_duck"
        }
        Event::Draining => "draining",
        Event::Closed => {
            tracing::info!(connection, "nats connection closed");
            "closed"
        }
        Event::SlowConsumer(subscription) => {
            tracing::error!(
                connection,
                subscription,
                "nats messages dropped: subscription capacity is too small for the batch size"
            );
            "slow_consumer"
        }
        Event::ServerError(error) => {
            tracing::warn!(connection, %error, "nats server reported an error");
            "server_error"
        }
        Event::ClientError(error) => {
            tracing::warn!(connection, %error, "nats client error");
            "client_error"
        }
    };
    metrics
        .connection_events
        .get_or_create(&ConnectionLabel {
            connection,
            event: name,
        })
        .inc();
}

/// Asks for the account until the API answers; a cluster that is electing its leader answers late.
async fn check_jetstream(
    client: &Client,
    servers: String,
    inbox_prefix: &str,
    deadline: Instant,
) -> Result<(), ConnectError> {
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
    let context = jetstream::ContextBuilder::new()
        .timeout(ANSWER_TIMEOUT)
        .build(client.clone());
    loop {
        let Err(err) = context.query_account().await else {
            return Ok(());
        };
        if is_not_enabled(&err) {
            return Err(ConnectError::NoJetStream { servers });
        }
        // Another try would not be answered in time, and nobody would be told what is missing.
        if Instant::now() + RETRY_PAUSE + ANSWER_TIMEOUT >= deadline {
            return Err(ConnectError::NoPermission {
                servers,
                inbox_prefix: inbox_prefix.to_owned(),
                source: err,
            });
        }
        tracing::warn!(%servers, error = %err, "jetstream does not answer yet, trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn is_not_enabled(err: &jetstream::context::AccountError) -> bool {
    use jetstream::context::AccountErrorKind as Kind;
    match err.kind() {
        Kind::JetStreamUnavailable => true,
        Kind::JetStream(error) => matches!(
            error.error_code(),
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let addrs =
            parse_servers(&["nats://ann:geheim@h1:4222".into(), "tls://h2".into()]).unwrap();
        assert_eq!(display_servers(&addrs), "h1:4222, h2:4222");
        let err = parse_servers(&["nats://ok".into(), "nats://ann:geheim@h1:99999999".into()])
            .unwrap_err();
        let chain = format!("{err} {err:?}");
        assert!(
            chain.contains("number 2") && !chain.contains("geheim"),
            "{chain}"
        );
    }

    #[test]
    fn reconnect_pauses_are_bounded() {
        assert!(reconnect_pause(1) <= Duration::from_millis(100));
        for attempts in 0..100 {
            assert!(reconnect_pause(attempts) <= RECONNECT_PAUSE_MAX);
        }
    }
}
