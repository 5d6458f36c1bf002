//! The environment as pairs, and what can be wrong with it.

use std::fmt;

use super::variables::Variable;

/// Names that begin like ours and belong to scripts and tests.
const OTHER_PREFIXES: [&str; 9] = [
    "PONIX_BENCH_",
    "PONIX_CHDB_",
    "PONIX_FAULTS_",
    "PONIX_LIBCHDB",
    "PONIX_NATS_SERVER",
    "PONIX_POSTGRES_BIN",
    "PONIX_STACK_",
    "PONIX_TEST_",
    "PONIX_UP_",
];

/// Names that other programs of this kind read, and ours for them. A warning and no alias: such a
/// name may be there for another program.
const FOREIGN: [(&str, &str); 8] = [
    ("NATS_URL", "PONIX_NATS_URL"),
    ("NATS_STREAM", "PONIX_NATS_STREAM"),
    ("NATS_CONSUMER", "PONIX_NATS_CONSUMER"),
    ("CLICKHOUSE_URL", "PONIX_CLICKHOUSE_URL"),
    ("DATABASE_URL", "PONIX_POSTGRES_URL"),
    ("ENABLE_NATS", "PONIX_INGEST_NATS_ENABLED"),
    ("HOST", "PONIX_INGEST_ADDR"),
    ("PORT", "PONIX_INGEST_ADDR"),
];

/// Environment variables, taken once; tests make their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pairs: Vec<(String, String)>,
    /// Names of ours whose values are not UTF-8.
    unreadable: Vec<String>,
}

impl Environment {
    /// Takes the environment of this process.
    pub(crate) fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => environment.pairs.push((name, value)),
                Err(_) if name.starts_with("PONIX_") => environment.unreadable.push(name),
                Err(_) => {}
            }
        }
        environment
    }

    /// Adds these where nothing is said.
    pub(crate) fn with_defaults(mut self, defaults: &[(&str, &str)]) -> Self {
        for (name, value) in defaults {
            if self.get(name).is_none() && !self.unreadable.iter().any(|known| known == name) {
                self.pairs.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        self
    }

    /// One problem for each variable of ours that would otherwise silently keep its default.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let problem = |name: &String| Problem::new(name, "is not UTF-8");
        self.unreadable.iter().map(problem)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (String, String)> + use<> {
        self.pairs.clone().into_iter()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self {
            pairs: pairs.into_iter().collect(),
            unreadable: Vec::new(),
        }
    }
}

/// Something wrong with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    variable: String,
    text: String,
}

impl Problem {
    pub(crate) fn new(variable: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            text: text.into(),
        }
    }

    /// A value that is not of the expected kind. `shown` is masked by the caller.
    pub(super) fn value(variable: String, shown: &str, expected: &str) -> Self {
        let shown: String = shown.chars().take(100).collect();
        Self {
            variable,
            text: format!("is {shown:?}, expected {expected}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.text)
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblems(pub(crate) Vec<Problem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Hides the password of URLs such as `nats://user:password@host`, also of those without a scheme;
/// in a list, of each.
pub(super) fn without_url_password(text: &str) -> String {
    let hide = |url: &str| -> Option<String> {
        let (credentials, host) = url.rsplit_once('@')?;
        let (scheme, credentials) = match credentials.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), credentials),
        };
        // One word alone is a token.
        let user = credentials.split_once(':').map_or("***", |(user, _)| user);
        Some(format!("{scheme}{user}:***@{host}"))
    };
    let urls: Vec<_> = text
        .split(',')
        .map(|url| hide(url).unwrap_or_else(|| url.to_owned()))
        .collect();
    urls.join(",")
}

/// One warning per name of other programs, where ours is not set.
pub(super) fn foreign_names(environment: &Environment) -> Vec<String> {
    let meant = |(name, _): &&(&str, &str)| match (*name, environment.get(name)) {
        (_, None) => false,
        // Some shells set it to the machine's name.
        ("HOST", Some(value)) => value == "localhost" || value.parse::<std::net::IpAddr>().is_ok(),
        (_, Some(_)) => true,
    };
    FOREIGN
        .iter()
        .filter(meant)
        .filter(|(_, ours)| environment.get(ours).is_none())
        .map(|(name, ours)| format!("{name} is not read, ponix reads {ours}: set that"))
        .collect()
}

/// One warning per name that begins with `PONIX_` and is not one of ours.
pub(super) fn unknown_names(environment: &Environment, variables: &[Variable]) -> Vec<String> {
    let known: Vec<String> = variables
        .iter()
        .flat_map(|v| {
            [
                Some(v.name.clone()),
                v.secret.then(|| format!("{}_FILE", v.name)),
            ]
        })
        .flatten()
        .collect();
    environment
        .pairs
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("PONIX_") && !known.contains(name))
        .filter(|name| !OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| {
            let nearest = known
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(known, name));
            nearest.map_or_else(
                || format!("{name} is not a variable of ponix"),
                |nearest| format!("{name} is not a variable of ponix; did you mean {nearest}?"),
            )
        })
        .collect()
}
