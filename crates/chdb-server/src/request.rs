//! What a request asks for: the parameters of its URL and its headers, sorted by who heeds them.

use std::time::Duration;

use hyper::HeaderMap;

use crate::auth::READER_SETTINGS;
use crate::exception::{Exception, codes};

/// Parameters the server heeds or knowingly ignores; every other name is a setting of the engine.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The first part of the statement; the body is the rest.
    pub(crate) query: String,
    /// The current database of this statement.
    pub(crate) database: Option<String>,
    /// The format of a result whose query names none.
    pub(crate) default_format: Option<String>,
    /// The client's name for the statement.
    pub(crate) query_id: Option<String>,
    /// Name given in the URL.
    pub(crate) user: Option<String>,
    /// Password given in the URL.
    pub(crate) password: Option<String>,
    /// The session the statement runs in.
    pub(crate) session: Option<SessionParameters>,
    /// Give the result in compressed frames.
    pub(crate) compress: bool,
    /// The body is in compressed frames.
    pub(crate) decompress: bool,
    /// Send nothing before the statement has ended.
    pub(crate) wait_end_of_query: bool,
    /// Bytes of result to hold back before the headers go out.
    pub(crate) buffer_bytes: Option<usize>,
    /// `false` when `Accept-Encoding` is to be ignored.
    pub(crate) http_compression: Option<bool>,
    /// The revision of ClickHouse's protocol the client knows, for results in Native; 0 for none.
    pub(crate) protocol_revision: u64,
    /// Roles to take on.
    pub(crate) roles: Vec<String>,
    /// Settings of the engine, in order.
    pub(crate) settings: Vec<(String, String)>,
    /// Values of `{name:Type}` placeholders.
    pub(crate) values: Vec<(String, String)>,
}

/// What a request says about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionParameters {
    /// Its name, chosen by the client.
    pub(crate) id: String,
    /// How long it outlives its last statement.
    pub(crate) timeout: Duration,
    /// It must exist already.
    pub(crate) check: bool,
    /// It ends with this statement.
    pub(crate) close: bool,
}

const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
const SESSION_TIMEOUT_MAX: Duration = Duration::from_hours(1);

impl Parameters {
    /// Reads the query string of a URL and ClickHouse's own headers.
    pub(crate) fn new(url_query: &str, headers: &HeaderMap) -> Result<Self, Exception> {
        let pairs = form_urlencoded::parse(url_query.as_bytes())
            .map(|(name, value)| (name.into(), value.into()));
        let mut parameters = Self::default();
        let mut session = SessionParameters {
            id: String::new(),
            timeout: SESSION_TIMEOUT_DEFAULT,
            check: false,
            close: false,
        };
        for (name, value) in pairs {
            parameters.set(name, value, &mut session)?;
        }
        if !session.id.is_empty() {
            parameters.session = Some(session);
        }
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        parameters.database = parameters
            .database
            .or_else(|| header("X-ClickHouse-Database"));
        parameters.default_format = parameters
            .default_format
            .or_else(|| header("X-ClickHouse-Format"));
        Ok(parameters)
    }

    /// Makes these the parameters of a reader: with its settings, which the request's own come behind, and
    /// with sessions of its own.
    pub(crate) fn of_reader(&mut self) {
        let settings = READER_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.settings.splice(0..0, settings);
        if let Some(session) = &mut self.session {
            session.id.insert_str(0, "reader\0");
        }
    }

    fn set(
        &mut self,
        name: String,
        value: String,
        session: &mut SessionParameters,
    ) -> Result<(), Exception> {
        match name.as_str() {
            "query" => self.query = value,
            "database" => self.database = Some(value).filter(|value| !value.is_empty()),
            "default_format" => self.default_format = Some(value).filter(|value| !value.is_empty()),
            "query_id" => self.query_id = Some(value).filter(|value| !value.is_empty()),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "session_id" => session.id = value,
            "session_timeout" => session.timeout = session_timeout(&value)?,
            "session_check" => session.check = flag(&name, &value)?,
            "close_session" => session.close = flag(&name, &value)?,
            "compress" => self.compress = flag(&name, &value)?,
            "decompress" => self.decompress = flag(&name, &value)?,
            "wait_end_of_query" => self.wait_end_of_query = flag(&name, &value)?,
            "buffer_size" => {
                self.buffer_bytes = Some(value.parse().map_err(|_| bad_value(&name, &value))?);
            }
            "role" => self.roles.push(value),
            "client_protocol_version" => {
                self.protocol_revision = value.parse().map_err(|_| bad_value(&name, &value))?;
            }
            // Reserved names that ClickHouse heeds and that mean nothing here.
            "quota_key" | "stacktrace" => {}
            _ => {
                if let Some(name) = name.strip_prefix("param_") {
                    self.values.push((name.to_owned(), value));
                } else {
                    if name == "enable_http_compression" {
                        self.http_compression = Some(flag(&name, &value)?);
                    }
                    self.settings.push((name, value));
                }
            }
        }
        Ok(())
    }

    /// Adds a field of a form to what the URL said.
    pub(crate) fn set_form_field(&mut self, name: &str, value: String) -> Result<(), Exception> {
        if name == "query" {
            self.query.push_str(&value);
        } else if let Some(name) = name.strip_prefix("param_") {
            self.values.push((name.to_owned(), value));
        } else {
            return Err(Exception::new(
                codes::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                format_args!(
                    "Form field {name:?} is not supported: external tables are not implemented"
                ),
            ));
        }
        Ok(())
    }
}

fn session_timeout(value: &str) -> Result<Duration, Exception> {
    let timeout = value
        .parse()
        .map(Duration::from_secs)
        .map_err(|_| bad_value("session_timeout", value))?;
    if timeout > SESSION_TIMEOUT_MAX {
        return Err(Exception::new(
            codes::BAD_ARGUMENTS,
            "BAD_ARGUMENTS",
            format_args!(
                "Session timeout '{value}' is larger than max_session_timeout: {}. Maximum session timeout could be \
                 modified in configuration file.",
                SESSION_TIMEOUT_MAX.as_secs()
            ),
        ));
    }
    Ok(timeout)
}

fn flag(name: &str, value: &str) -> Result<bool, Exception> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" | "" => Ok(false),
        other => Err(bad_value(name, other)),
    }
}

fn bad_value(name: &str, value: &str) -> Exception {
    Exception::new(
        codes::BAD_ARGUMENTS,
        "BAD_ARGUMENTS",
        format_args!("Cannot parse value '{value}' of parameter '{name}'"),
    )
}
