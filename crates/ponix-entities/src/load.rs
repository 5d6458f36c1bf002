//! From a folder of YAML files to a [`Catalog`], with everything that is wrong told at once.

mod compile;
mod identifier;
mod order;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::{Location, Spanned};

use crate::catalog::Catalog;
use crate::document::{API_VERSION, Document, KIND};

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of PostgreSQL, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Something wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The file, or the folder.
    pub path: PathBuf,
    /// Line and column, counted from 1, where they are known.
    pub place: Option<(u64, u64)>,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a folder; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct LoadErrors(pub Vec<LoadError>);

fn lines(errors: &[LoadError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A document and where it comes from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) document: Document,
}

/// Collects what is wrong with one file.
#[derive(Debug)]
pub(crate) struct Complaints<'a> {
    path: &'a Path,
    errors: &'a mut Vec<LoadError>,
}

impl Complaints<'_> {
    /// Notes something at a value.
    pub(crate) fn at<T>(&mut self, value: &Spanned<T>, message: impl Into<String>) {
        self.errors.push(LoadError {
            path: self.path.to_owned(),
            place: place(value.referenced),
            message: message.into(),
        });
    }
}

fn place(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// Reads and compiles a folder; its files in the order of their names.
pub(crate) fn load(dir: &Path) -> Result<Catalog, LoadErrors> {
    let mut errors = Vec::new();
    let mut sources = Vec::new();
    match files(dir) {
        Ok(files) if files.is_empty() => errors.push(LoadError {
            path: dir.to_owned(),
            place: None,
            message: "there is no *.yaml file".to_owned(),
        }),
        Ok(files) => {
            for path in files {
                match read(&path) {
                    Ok(text) => sources.extend(source(path, &text, &mut errors)),
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(err) => errors.push(LoadError {
            path: dir.to_owned(),
            place: None,
            message: format!("the folder cannot be read: {err}"),
        }),
    }
    catalog(&sources, errors)
}

/// Compiles texts of files.
pub(crate) fn from_files(
    files: impl IntoIterator<Item = (PathBuf, String)>,
) -> Result<Catalog, LoadErrors> {
    let mut errors = Vec::new();
    let mut sources = Vec::new();
    for (path, text) in files {
        sources.extend(source(path, &text, &mut errors));
    }
    catalog(&sources, errors)
}

fn catalog(sources: &[Source], mut errors: Vec<LoadError>) -> Result<Catalog, LoadErrors> {
    check_heads(sources, &mut errors);
    let by_name: HashMap<String, usize> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| (source.document.metadata.name.value.clone(), index))
        .collect();
    let order = order::order(sources, &by_name, &mut errors);
    let catalog = compile::compile(sources, &by_name, &order, &mut errors);
    if errors.is_empty() {
        Ok(catalog)
    } else {
        Err(LoadErrors(errors))
    }
}

fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, LoadError> {
    let error = |message| LoadError {
        path: path.to_owned(),
        place: None,
        message,
    };
    let io = |err: std::io::Error| error(format!("the file cannot be read: {err}"));
    if std::fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(error(format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(io)
}

fn source(path: PathBuf, text: &str, errors: &mut Vec<LoadError>) -> Option<Source> {
    match serde_saphyr::from_str(text) {
        Ok(document) => Some(Source { path, document }),
        Err(err) => {
            let plain = err.without_snippet();
            let message = plain.to_string();
            errors.push(LoadError {
                path,
                place: plain.location().and_then(place),
                // The first line says what; the place is told on its own.
                message: message.lines().next().unwrap_or_default().to_owned(),
            });
            None
        }
    }
}

/// What concerns the heads of the files, and names that must occur once.
fn check_heads(sources: &[Source], errors: &mut Vec<LoadError>) {
    let mut seen: HashMap<(&str, &str), &Path> = HashMap::new();
    for Source { path, document } in sources {
        let mut complaints = Complaints { path, errors };
        if document.api_version.value != API_VERSION {
            complaints.at(
                &document.api_version,
                format!(
                    "apiVersion is {:?}, expected {API_VERSION}",
                    document.api_version.value
                ),
            );
        }
        if document.kind.value != KIND {
            complaints.at(
                &document.kind,
                format!("kind is {:?}, expected {KIND}", document.kind.value),
            );
        }
        let spec = &document.spec;
        let names = [
            Some(("entity", &document.metadata.name)),
            Some(("table", &spec.persistence.table)),
            spec.prefix.as_ref().map(|prefix| ("prefix", prefix)),
        ];
        for (what, name) in names.into_iter().flatten() {
            if let Some(first) = seen.insert((what, &name.value), path) {
                complaints.at(
                    name,
                    format!("{what} {:?} is in {} too", name.value, first.display()),
                );
            }
        }
    }
}
