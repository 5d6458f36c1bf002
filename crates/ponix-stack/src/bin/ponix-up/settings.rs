//! Ports, folder and the service's own variables, from the environment.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::holder;

const NATS_PORT: &str = "PONIX_UP_NATS_PORT";
const NATS_MONITORING_PORT: &str = "PONIX_UP_NATS_MONITORING_PORT";
const NATS_SYNC_ALWAYS: &str = "PONIX_UP_NATS_SYNC_ALWAYS";
const CLICKHOUSE_PORT: &str = "PONIX_UP_CLICKHOUSE_PORT";
const POSTGRES_PORT: &str = "PONIX_UP_POSTGRES_PORT";
const DATA_DIR: &str = "PONIX_UP_DATA_DIR";
const ADMIN_ADDR: &str = "PONIX_ADMIN_ADDR";
const INGEST_ADDR: &str = "PONIX_INGEST_ADDR";
const API_KEYS: &str = "PONIX_INGEST_API_KEYS_FILE";
const ENTITIES_DIR: &str = "PONIX_ENTITIES_DIR";
const USERNAME: &str = "PONIX_CLICKHOUSE_USERNAME";
const PASSWORD: &str = "PONIX_CLICKHOUSE_PASSWORD";
const INTERVAL: &str = "PONIX_INTERVAL_SECS";

const DEFAULT_USER: &str = "ponix";
const DEFAULT_ENTITIES: &str = "examples/tpch";

/// Names that are for this program and the servers, not for the service.
const NOT_FOR_THE_SERVICE: [&str; 6] = [
    "PONIX_UP_",
    "PONIX_LIBCHDB",
    "PONIX_CHDB_SERVER",
    "PONIX_NATS_SERVER",
    "PONIX_POSTGRES_BIN",
    "PONIX_STACK_",
];
/// Given to the service by this program, whatever the environment says.
const FIXED: [&str; 5] = [
    "PONIX_POSTGRES_URL",
    "PONIX_NATS_URL",
    "PONIX_CLICKHOUSE_URL",
    "PONIX_CLICKHOUSE_USERNAME_FILE",
    "PONIX_CLICKHOUSE_PASSWORD_FILE",
];

/// What to run, and where.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) nats_port: u16,
    pub(crate) nats_monitoring_port: u16,
    /// NATS syncs each message to the disk before its PubAck.
    pub(crate) nats_sync_always: bool,
    pub(crate) clickhouse_port: u16,
    pub(crate) admin_addr: SocketAddr,
    /// Where the HTTP API answers.
    pub(crate) ingest_addr: SocketAddr,
    /// PostgreSQL's, when raw messages are wanted.
    pub(crate) postgres_port: Option<u16>,
    pub(crate) data_dir: PathBuf,
    pub(crate) user: String,
    pub(crate) password: String,
    /// The service's whole configuration.
    pub(crate) service: Vec<(OsString, OsString)>,
}

impl Settings {
    /// Reads the settings from the variables of an environment.
    ///
    /// # Errors
    ///
    /// A port or an address is none; the text names the variable.
    pub(crate) fn from_vars(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
        with_ingest: bool,
    ) -> Result<Self> {
        let vars: Vec<_> = vars
            .into_iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PONIX_"))
            .collect();
        let text = |name: &str| -> Result<Option<&str>> {
            let found = vars.iter().find(|(found, _)| found == name);
            let value = found.map(|(_, value)| value.to_str().context("it is not UTF-8"));
            value.transpose().with_context(|| name.to_owned())
        };
        let port = |name, default| match text(name)? {
            None => Ok(default),
            Some(text) => parse_port(text).with_context(|| format!("{name}={text}")),
        };
        let addr = |name, default: u16| match text(name)? {
            None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, default))),
            Some(text) => text.parse().with_context(|| format!("{name}={text}")),
        };
        let mut settings = Self {
            nats_port: port(NATS_PORT, 4222)?,
            nats_monitoring_port: port(NATS_MONITORING_PORT, 8222)?,
            nats_sync_always: match text(NATS_SYNC_ALWAYS)? {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => bail!("{NATS_SYNC_ALWAYS}={other}: true or false"),
            },
            clickhouse_port: port(CLICKHOUSE_PORT, 8123)?,
            admin_addr: addr(ADMIN_ADDR, 9090)?,
            ingest_addr: addr(INGEST_ADDR, 8080)?,
            postgres_port: with_ingest.then(|| port(POSTGRES_PORT, 5432)).transpose()?,
            data_dir: text(DATA_DIR)?.unwrap_or(".ponix/data").into(),
            user: text(USERNAME)?.unwrap_or(DEFAULT_USER).into(),
            password: text(PASSWORD)?.unwrap_or(DEFAULT_USER).into(),
            service: Vec::new(),
        };
        settings.service = settings.service_vars(&vars);
        Ok(settings)
    }

    /// Fails with one line that names every port that is taken, by whom, and what to do.
    pub(crate) fn ports_are_free(&self) -> Result<()> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let postgres = self.postgres_port.map(|port| (POSTGRES_PORT, local(port)));
        let taken: Vec<_> = [
            (NATS_PORT, local(self.nats_port)),
            (NATS_MONITORING_PORT, local(self.nats_monitoring_port)),
            (CLICKHOUSE_PORT, local(self.clickhouse_port)),
            (ADMIN_ADDR, self.admin_addr),
            (INGEST_ADDR, self.ingest_addr),
        ]
        .into_iter()
        .chain(postgres)
        .filter_map(|(variable, addr)| Some((variable, addr.port(), why_not(addr)?)))
        .map(|(variable, port, why)| format!("port {port} ({variable}) {why}"))
        .collect();
        if taken.is_empty() {
            return Ok(());
        }
        bail!("{}", taken.join(", "))
    }

    /// A user of ClickHouse who sees each event once and changes nothing; its password is the other's.
    pub(crate) fn reader(&self) -> &'static str {
        if self.user == "reader" {
            "ponix_reader"
        } else {
            "reader"
        }
    }

    /// The URL of NATS.
    pub(crate) fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.nats_port)
    }

    /// The URL of ClickHouse.
    pub(crate) fn clickhouse_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.clickhouse_port)
    }

    /// The URL of PostgreSQL, if there is one.
    pub(crate) fn postgres_url(&self) -> Option<String> {
        let port = self.postgres_port?;
        Some(format!(
            "postgres://{DEFAULT_USER}:{DEFAULT_USER}@127.0.0.1:{port}/{DEFAULT_USER}"
        ))
    }

    /// Commands to paste: one sends an event, one finds it, one asks whether all is well. With the
    /// password only where everybody knows it.
    pub(crate) fn first_commands(&self) -> [String; 3] {
        let password = if self.password == DEFAULT_USER {
            DEFAULT_USER
        } else {
            "$PONIX_CLICKHOUSE_PASSWORD"
        };
        let has_keys = self.service.iter().any(|(name, _)| name == API_KEYS);
        let key = if has_keys {
            " -H \"Authorization: Bearer $KEY\""
        } else {
            ""
        };
        [
            format!(
                "curl http://{}/v1/envelopes{key} -H 'Content-Type: application/json' -d \
                 '{{\"end_device_id\":\"pump-1\",\"occurred_at\":\"'$(date -u +%FT%TZ)'\",\"data\":{{\"pressure\":2.5}}}}'",
                self.ingest_addr
            ),
            format!(
                "curl -u \"{}:{password}\" {} --data-binary \"SELECT occurred_at, end_device_id, data FROM ponix.envelopes \
                 WHERE end_device_id = 'pump-1' ORDER BY occurred_at DESC LIMIT 5 FORMAT JSONEachRow\"",
                self.user,
                self.clickhouse_url()
            ),
            format!("curl http://{}/readyz", self.admin_addr),
        ]
    }

    fn service_vars(&self, vars: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let ours = [
            ("PONIX_NATS_URL", self.nats_url()),
            ("PONIX_CLICKHOUSE_URL", self.clickhouse_url()),
            (USERNAME, self.user.clone()),
            (PASSWORD, self.password.clone()),
            (ADMIN_ADDR, self.admin_addr.to_string()),
            (INGEST_ADDR, self.ingest_addr.to_string()),
        ];
        // A row each second, so that there is something to see.
        let interval = [(INTERVAL, "1".to_owned())];
        let theirs = vars
            .iter()
            .filter(|(name, _)| !is_not_for_the_service(name))
            .cloned();
        // The service runs in a folder of its own.
        let entities = std::path::absolute(DEFAULT_ENTITIES).unwrap_or_default();
        let messages = self.postgres_url().into_iter().flat_map(|url| {
            [
                (ENTITIES_DIR.into(), entities.clone().into_os_string()),
                ("PONIX_MESSAGES_DEFAULT_ENTITY".into(), "SimpleOrder".into()),
                ("PONIX_POSTGRES_URL".into(), url.into()),
            ]
        });
        interval
            .into_iter()
            .map(into_os)
            .chain(messages)
            .chain(theirs)
            .chain(ours.into_iter().map(into_os))
            .collect()
    }
}

fn into_os((name, value): (&str, String)) -> (OsString, OsString) {
    (name.into(), value.into())
}

fn is_not_for_the_service(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    NOT_FOR_THE_SERVICE
        .iter()
        .any(|prefix| name.starts_with(prefix.as_bytes()))
        || FIXED.iter().any(|fixed| name == fixed.as_bytes())
}

fn parse_port(text: &str) -> Result<u16> {
    match text.parse() {
        Ok(0) => bail!("a port of one's own is wanted"),
        port => Ok(port?),
    }
}

/// Why nothing can listen there, if so.
fn why_not(addr: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(addr).err()?;
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Some(format!("cannot be used: {error}"));
    }
    let holder = holder::of(addr.port()).map_or(String::new(), |holder| format!(" by {holder}"));
    Some(format!("is already in use{holder}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings> {
        let vars = vars.iter();
        let vars = vars.map(|&(name, value)| into_os((name, value.into())));
        Settings::from_vars(vars, false)
    }

    /// What the service gets for a variable: the last one counts.
    fn service<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
        let found = settings.service.iter().rfind(|(found, _)| found == name);
        found.and_then(|(_, value)| value.to_str())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.nats_url(), "nats://127.0.0.1:4222");
        assert_eq!(settings.nats_monitoring_port, 8222);
        assert!(!settings.nats_sync_always);
        assert_eq!(settings.clickhouse_url(), "http://127.0.0.1:8123");
        assert_eq!(settings.admin_addr.to_string(), "127.0.0.1:9090");
        assert_eq!(settings.data_dir, PathBuf::from(".ponix/data"));
        assert_eq!(service(&settings, "PONIX_INTERVAL_SECS"), Some("1"));
        assert_eq!(
            service(&settings, "PONIX_CLICKHOUSE_USERNAME"),
            Some("ponix")
        );
    }

    #[test]
    fn the_service_gets_its_own_variables_and_our_addresses() {
        let settings = settings(&[
            ("HOME", "/home/somebody"),
            ("PONIX_INTERVAL_SECS", "7"),
            ("PONIX_NATS_BATCH_SIZE", "30"),
            ("PONIX_NATS_URL", "nats://elsewhere:4222"),
            ("PONIX_LIBCHDB", "/lib/libchdb.so"),
            ("PONIX_CLICKHOUSE_PASSWORD_FILE", "/run/secret"),
            ("PONIX_UP_NATS_PORT", "14222"),
        ])
        .unwrap();
        let names: Vec<_> = settings.service.iter().map(|(name, _)| name).collect();
        for absent in [
            "HOME",
            "PONIX_LIBCHDB",
            "PONIX_CLICKHOUSE_PASSWORD_FILE",
            "PONIX_UP_NATS_PORT",
        ] {
            assert!(!names.contains(&&OsString::from(absent)), "{absent}");
        }
        assert_eq!(service(&settings, "PONIX_INTERVAL_SECS"), Some("7"));
        assert_eq!(service(&settings, "PONIX_NATS_BATCH_SIZE"), Some("30"));
        let nats = service(&settings, "PONIX_NATS_URL");
        assert_eq!(nats, Some("nats://127.0.0.1:14222"));
    }

    #[test]
    fn postgresql_and_the_example_come_when_they_are_asked_for() {
        let with = |vars: &[(&str, &str)]| {
            let vars = vars.iter();
            let vars = vars.map(|&(name, value)| into_os((name, value.into())));
            Settings::from_vars(vars, true).unwrap()
        };
        let settings = with(&[("PONIX_UP_POSTGRES_PORT", "15432")]);
        let url = "postgres://ponix:ponix@127.0.0.1:15432/ponix";
        assert_eq!(service(&settings, "PONIX_POSTGRES_URL"), Some(url));
        let entities = service(&settings, "PONIX_ENTITIES_DIR").unwrap();
        assert!(entities.starts_with('/') && entities.ends_with("examples/tpch"));
        let own = with(&[("PONIX_ENTITIES_DIR", "/own")]);
        assert_eq!(service(&own, "PONIX_ENTITIES_DIR"), Some("/own"));
        let without = super::tests::settings(&[]).unwrap();
        assert_eq!(service(&without, "PONIX_POSTGRES_URL"), None);
    }

    #[test]
    fn nats_may_sync_each_message() {
        let settings = settings(&[("PONIX_UP_NATS_SYNC_ALWAYS", "true")]).unwrap();
        assert!(settings.nats_sync_always);
        assert_eq!(service(&settings, "PONIX_UP_NATS_SYNC_ALWAYS"), None);
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (name, value) in [
            ("PONIX_UP_NATS_PORT", "0"),
            ("PONIX_UP_NATS_SYNC_ALWAYS", "10s"),
            ("PONIX_UP_CLICKHOUSE_PORT", "port"),
            ("PONIX_ADMIN_ADDR", "localhost"),
            ("PONIX_INGEST_ADDR", "8080"),
        ] {
            let error = format!("{:#}", settings(&[(name, value)]).unwrap_err());
            assert!(error.starts_with(&format!("{name}={value}: ")), "{error}");
        }
    }

    #[test]
    fn a_password_of_ones_own_is_not_printed() {
        let settings = settings(&[("PONIX_CLICKHOUSE_PASSWORD", "s3cret")]).unwrap();
        let shown = settings.first_commands().join("\n");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_taken_port_is_named_with_its_holder() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let error = settings(&[("PONIX_UP_CLICKHOUSE_PORT", &port)])
            .unwrap()
            .ports_are_free()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!(
                "port {port} (PONIX_UP_CLICKHOUSE_PORT) is already in use"
            )),
            "{error}"
        );
        if cfg!(target_os = "linux") {
            assert!(
                error.contains(&format!("pid {}", std::process::id())),
                "{error}"
            );
        }
    }
}
