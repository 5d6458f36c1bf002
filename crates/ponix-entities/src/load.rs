//! From a folder of YAML files to a [`Catalog`], with everything that is wrong told at once.

mod compile;
mod identifier;
mod order;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::document::Document;
pub(crate) use crate::loader::Complaints;
use crate::loader::{self, LoadError, LoadErrors, Sources};

/// Longest name of PostgreSQL, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// An entity's document and where it comes from.
pub(crate) type Source = loader::Source<Document>;

/// Reads and compiles a folder; its files in the order of their names.
pub(crate) fn load(dir: &Path) -> Result<Catalog, LoadErrors> {
    catalog(Sources::of_folder(dir))
}

/// Compiles texts of files.
pub(crate) fn from_files(
    files: impl IntoIterator<Item = (PathBuf, String)>,
) -> Result<Catalog, LoadErrors> {
    catalog(Sources::of_files(files))
}

fn catalog(mut sources: Sources<Document>) -> Result<Catalog, LoadErrors> {
    let mut errors = std::mem::take(&mut sources.errors);
    check_names(&sources.documents, &mut errors);
    let names = Names::new(&sources);
    let order = order::order(&sources.documents, &names, &mut errors);
    let catalog = compile::compile(&sources.documents, &names, &order, &mut errors);
    if errors.is_empty() {
        Ok(catalog)
    } else {
        Err(LoadErrors(errors))
    }
}

/// The names of the entities, also of those whose files are wrong.
pub(crate) struct Names<'a> {
    sources: &'a Sources<Document>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn new(sources: &'a Sources<Document>) -> Self {
        let documents = sources.documents.iter().enumerate();
        let by_name = documents
            .map(|(index, source)| (source.document.metadata.name.value.as_str(), index))
            .collect();
        Self { sources, by_name }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether there is no such entity, which is not to be said of one whose file is wrong.
    fn is_unknown(&self, name: &str) -> bool {
        !self.by_name.contains_key(name) && !self.sources.may_be_unread(name)
    }
}

/// What concerns names that must occur once.
fn check_names(sources: &[Source], errors: &mut Vec<LoadError>) {
    let mut seen: HashMap<(&str, &str), &Path> = HashMap::new();
    for Source { path, document, .. } in sources {
        let mut complaints = Complaints::new(path, errors);
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
