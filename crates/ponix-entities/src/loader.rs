//! From YAML files to documents, with everything that is wrong told at once. Shared by everything
//! that is declared in files.

mod node;
mod shape;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ponix_wire::quantity;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Spanned};

use node::Node;
pub use shape::nearest;

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "ponix.dev/v1";

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Lines that are left out at most to find what can be read before a mistake.
const LINES_BEFORE_ERROR_MAX: usize = 50;

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

impl LoadErrors {
    /// That a file cannot be read.
    pub fn of_file(path: &Path, err: &std::io::Error) -> Self {
        Self(vec![LoadError {
            path: path.to_owned(),
            place: None,
            message: format!("the file cannot be read: {err}"),
        }])
    }
}

fn lines(errors: &[LoadError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A document and where it comes from.
#[derive(Debug)]
pub struct Source<D> {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it holds.
    pub document: D,
}

/// The documents of some files, and what is wrong with the files that hold none.
#[derive(Debug)]
pub struct Sources<D> {
    /// The documents that could be read, in the order of the files.
    pub documents: Vec<Source<D>>,
    /// What is wrong with the others.
    pub errors: Vec<LoadError>,
    /// `metadata.name` of the others.
    unread: HashSet<String>,
    /// Whether there are others of which not even the name could be read.
    has_nameless: bool,
}

impl<D: DeserializeOwned + JsonSchema> Sources<D> {
    /// Reads every `*.yaml` and `*.yml` of a folder, not of the folders in it, in the order of
    /// their names.
    pub fn of_folder(dir: &Path) -> Self {
        let mut sources = Self::new();
        let of_dir = |message| LoadError {
            path: dir.to_owned(),
            place: None,
            message,
        };
        match files(dir) {
            Ok(files) if files.is_empty() => sources
                .errors
                .push(of_dir("there is no *.yaml file".to_owned())),
            Ok(files) => {
                for path in files {
                    match read(&path) {
                        Ok(text) => sources.add(path, text),
                        Err(error) => {
                            sources.has_nameless = true;
                            sources.errors.push(error);
                        }
                    }
                }
            }
            Err(err) => sources
                .errors
                .push(of_dir(format!("the folder cannot be read: {err}"))),
        }
        sources
    }

    /// Reads files that are in memory already, each with the path that errors name.
    pub fn of_files(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let mut sources = Self::new();
        for (path, text) in files {
            sources.add(path, text);
        }
        sources
    }

    fn new() -> Self {
        Self {
            documents: Vec::new(),
            errors: Vec::new(),
            unread: HashSet::new(),
            has_nameless: false,
        }
    }

    /// Tells whether a name may be that of a file that could not be read, so that it is not to be
    /// complained about where it is used.
    pub fn may_be_unread(&self, name: &str) -> bool {
        self.has_nameless || self.unread.contains(name)
    }

    fn add(&mut self, path: PathBuf, text: String) {
        let mut name = None;
        match document(&path, &text, &mut name, &mut self.errors) {
            Some(document) => self.documents.push(Source {
                path,
                text,
                document,
            }),
            None => match name {
                Some(name) => drop(self.unread.insert(name)),
                None => self.has_nameless = true,
            },
        }
    }
}

/// Reads a text in two steps: its shape, of which everything is told that is wrong, then its values.
fn document<D: DeserializeOwned + JsonSchema>(
    path: &Path,
    text: &str,
    name: &mut Option<String>,
    errors: &mut Vec<LoadError>,
) -> Option<D> {
    let mut complaints = Complaints::new(path, errors);
    let root: Spanned<Node> = match serde_saphyr::from_str(text) {
        Ok(root) => root,
        Err(err) => {
            *name = before_error::<D>(text, &err, &mut complaints);
            complaints.unreadable(&err);
            return None;
        }
    };
    *name = root.value.text_at(&["metadata", "name"]).map(str::to_owned);
    let before = complaints.errors.len();
    shape::check::<D>(&root, &mut complaints);
    if complaints.errors.len() > before {
        return None;
    }
    match serde_saphyr::from_str(text) {
        Ok(document) => Some(document),
        Err(err) => {
            complaints.unreadable(&err);
            None
        }
    }
}

/// A number of bytes, `6MiB`, or a time, `500ms`.
// Says in the schema what is read as a text.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Quantity {
    /// With a unit.
    Text(String),
    /// Of bytes.
    Number(u64),
}

/// Tells what is wrong with the lines before a mistake that keeps the whole from being read, and
/// returns the name that they hold.
fn before_error<D: JsonSchema>(
    text: &str,
    err: &serde_saphyr::Error,
    complaints: &mut Complaints<'_>,
) -> Option<String> {
    let (line, _) = err.without_snippet().location().and_then(place)?;
    // A list or mapping that is open there began on some line before.
    let lines: Vec<&str> = text.lines().take(usize::try_from(line).ok()?).collect();
    let read = |count: usize| serde_saphyr::from_str(&lines[..count].join("\n")).ok();
    let counts = (1..lines.len()).rev().take(LINES_BEFORE_ERROR_MAX);
    let root: Spanned<Node> = counts.into_iter().find_map(read)?;
    let mut found = Vec::new();
    shape::check::<D>(&root, &mut Complaints::new(complaints.path, &mut found));
    // What is missing may come further down.
    found.retain(|error| !error.message.ends_with(shape::NEEDED));
    complaints.errors.append(&mut found);
    root.value.text_at(&["metadata", "name"]).map(str::to_owned)
}

/// Collects what is wrong with one file.
#[derive(Debug)]
pub struct Complaints<'a> {
    path: &'a Path,
    errors: &'a mut Vec<LoadError>,
}

impl<'a> Complaints<'a> {
    /// Collects what is wrong with the file at `path`.
    pub fn new(path: &'a Path, errors: &'a mut Vec<LoadError>) -> Self {
        Self { path, errors }
    }

    /// Notes something at a value.
    pub fn at<T>(&mut self, value: &Spanned<T>, message: impl Into<String>) {
        self.at_place(place(value.referenced), message);
    }

    /// Notes something at a line and column, counted from 1.
    pub fn at_place(&mut self, place: Option<(u64, u64)>, message: impl Into<String>) {
        self.errors.push(LoadError {
            path: self.path.to_owned(),
            place,
            message: message.into(),
        });
    }

    /// Complains about what cannot be the name of a stream or consumer.
    pub fn token(&mut self, name: &Spanned<String>, what: &str) {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
        if name.value.is_empty() || name.value.contains(forbidden) {
            self.at(
                name,
                format!(
                    "{what} {:?} must not be empty or have white space, dots, wildcards or slashes",
                    name.value
                ),
            );
        }
    }

    /// Returns a number that must lie between two, and complains where it does not.
    pub fn number(
        &mut self,
        number: Option<&Spanned<u64>>,
        what: &str,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let number = number?;
        if !(least..=most).contains(&number.value) {
            self.at(
                number,
                format!("{what} is {}, expected {least} to {most}", number.value),
            );
        }
        Some(number.value)
    }

    /// Reads bytes that must lie between two numbers, and complains where they do not.
    pub fn bytes(
        &mut self,
        text: Option<&Spanned<String>>,
        what: &str,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let text = text?;
        let bytes = quantity::bytes(&text.value);
        if !bytes.is_some_and(|bytes| (least..=most).contains(&bytes)) {
            self.at(
                text,
                format!(
                    "{what} is {:?}, expected bytes such as 6MiB, from {least} to {most}",
                    text.value
                ),
            );
        }
        bytes
    }

    /// Reads a time that must lie between two, and complains where it does not.
    pub fn time(
        &mut self,
        text: Option<&Spanned<String>>,
        what: &str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let text = text?;
        let time = quantity::duration(&text.value);
        if !time.is_some_and(|time| (least..=most).contains(&time)) {
            self.at(
                text,
                format!(
                    "{what} is {:?}, expected a time such as 500ms, from {least:?} to {most:?}",
                    text.value
                ),
            );
        }
        time
    }

    fn unreadable(&mut self, err: &serde_saphyr::Error) {
        let plain = err.without_snippet();
        let message = plain.to_string();
        // The first line says what; the place is told on its own.
        let message = message.lines().next().unwrap_or_default().to_owned();
        self.at_place(plain.location().and_then(place), message);
    }
}

/// Line and column of a location, where they are known.
pub fn place(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// Returns the JSON schema of a document, for editors.
///
/// # Panics
/// Never: the schema is made of types.
pub fn schema<D: JsonSchema>() -> String {
    let schema = schemars::schema_for!(D);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
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
