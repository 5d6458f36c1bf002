//! Declares variables: name, type, default, bounds and meaning in one place.

use super::environment::{Environment, Problem, without_url_password};
use super::value::Value;

/// A declared variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The whole name, `PONIX_…`.
    pub(crate) name: String,
    /// What counts when nobody says otherwise, as text.
    pub(crate) default: &'static str,
    /// Type and bounds in words.
    pub(crate) expected: String,
    /// What it is for.
    pub(crate) meaning: String,
    /// Whether its value must never print, and may come from `<name>_FILE`.
    pub(crate) secret: bool,
}

/// A variable with the value that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: String,
    /// The value, masked when it is a secret.
    pub(crate) value: String,
    pub(crate) source: Source,
    /// Whether it is another one than the default.
    pub(crate) differs: bool,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    Environment,
    File,
}

impl Source {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::File => "file",
        }
    }
}

/// Whether a variable's value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Plain,
    Secret,
}

/// Reads the variables of one prefix one after the other and keeps what is to be said of them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            settings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reads one variable; `None` with a problem noted when it cannot be read.
    pub(super) fn value<T: Value>(
        &mut self,
        name: String,
        text: Option<String>,
        default: &str,
        bounds: &T::Bounds,
        visibility: Visibility,
    ) -> Option<T> {
        let (text, source) = self.text(&name, text, default, visibility)?;
        let parsed = T::parse(&text, bounds);
        let differs = text != default;
        let value = match visibility {
            Visibility::Secret if text.is_empty() => String::new(),
            Visibility::Secret => "***".to_owned(),
            Visibility::Plain if name.ends_with("_URL") => without_url_password(&text),
            Visibility::Plain => text,
        };
        self.settings.push(Setting {
            name: name.clone(),
            value: value.clone(),
            source,
            differs,
        });
        parsed
            .map_err(|expected| self.problems.push(Problem::value(name, &value, &expected)))
            .ok()
    }

    fn text(
        &mut self,
        name: &str,
        text: Option<String>,
        default: &str,
        visibility: Visibility,
    ) -> Option<(String, Source)> {
        let file = (visibility == Visibility::Secret)
            .then(|| self.environment.get(&format!("{name}_FILE")))
            .flatten();
        match (text, file) {
            (Some(_), Some(_)) => {
                self.problems.push(Problem::new(
                    name,
                    format!("is set twice: unset {name} or {name}_FILE"),
                ));
                None
            }
            (Some(text), None) => Some((text, Source::Environment)),
            (None, None) => Some((default.to_owned(), Source::Default)),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Some((text.trim_end_matches(['\r', '\n']).to_owned(), Source::File)),
                Err(err) => {
                    self.problems.push(Problem::new(
                        format!("{name}_FILE"),
                        format!("names {path}, which cannot be read: {err}"),
                    ));
                    None
                }
            },
        }
    }
}

/// Declares a struct whose fields are the variables of one prefix:
/// `plain` or `secret`, name, type, default as text, bounds.
macro_rules! variables {
    (
        $(#[$struct_doc:meta])*
        struct $name:ident, $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $visibility:ident $field:ident: $type:ty = $default:literal, $bounds:expr;
            )*
        }
    ) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])+ pub(crate) $field: $type, )*
        }

        impl $name {
            /// Every variable of this prefix, in the order of the declaration.
            pub(crate) fn variables() -> Vec<$crate::config::variables::Variable> {
                vec![$(
                    $crate::config::variables::Variable {
                        name: concat!($prefix, stringify!($field)).to_ascii_uppercase(),
                        default: $default,
                        expected: <$type as $crate::config::value::Value>::describe(&$bounds),
                        meaning: [$($doc),+].map(str::trim).join(" "),
                        secret: variables!(@visibility $visibility) == $crate::config::variables::Visibility::Secret,
                    },
                )*]
            }

            /// Reads the variables; `None` when one of them is wrong.
            pub(crate) fn read(
                environment: &$crate::config::environment::Environment,
            ) -> (
                Option<Self>,
                Vec<$crate::config::variables::Setting>,
                Vec<$crate::config::environment::Problem>,
            ) {
                /// The texts as they stand in the environment; what they mean is read afterwards,
                /// so that every problem is told at once and not the first alone.
                #[derive(Default, serde::Deserialize)]
                struct Texts {
                    $( #[serde(default)] $field: Option<String>, )*
                }
                let mut reader = $crate::config::variables::Reader::new(environment);
                let texts: Texts = match envy::prefixed($prefix).from_iter(environment.pairs()) {
                    Ok(texts) => texts,
                    Err(err) => {
                        reader.problems.push($crate::config::environment::Problem::new($prefix, err.to_string()));
                        Texts::default()
                    }
                };
                $(
                    let $field = reader.value::<$type>(
                        concat!($prefix, stringify!($field)).to_ascii_uppercase(),
                        texts.$field,
                        $default,
                        &$bounds,
                        variables!(@visibility $visibility),
                    );
                )*
                let read = (|| Some(Self { $( $field: $field?, )* }))();
                (read, reader.settings, reader.problems)
            }
        }
    };
    (@visibility plain) => { $crate::config::variables::Visibility::Plain };
    (@visibility secret) => { $crate::config::variables::Visibility::Secret };
}
pub(super) use variables;
