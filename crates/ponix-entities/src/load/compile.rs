//! From documents to entities that read messages.

mod derivation;
mod field;
mod keys;

use std::collections::HashSet;

use serde_saphyr::Spanned;

use super::{Complaints, LoadError, Names, Source, identifier};
use crate::catalog::{Catalog, Entity};
use crate::document::{self, Document, EntityType};
use crate::field::Field;
use crate::table::Table;

const ID_COLUMN: &str = "id";
/// Fields of an entity at most; PostgreSQL takes 1,600 columns of a table.
const FIELDS_MAX: usize = 1_000;

/// Compiles the documents in this order.
pub(super) fn compile(
    sources: &[Source],
    names: &Names<'_>,
    order: &[usize],
    errors: &mut Vec<LoadError>,
) -> Catalog {
    let mut catalog = Catalog::default();
    let mut indexes = HashSet::new();
    for &index in order {
        let Source { path, document, .. } = &sources[index];
        let mut complaints = Complaints::new(path, errors);
        let entity = entity(document, &mut complaints);
        let position = catalog.entities.len();
        catalog.by_name.insert(entity.name.clone(), position);
        if let Some(prefix) = &entity.prefix {
            catalog.by_prefix.insert(prefix.clone(), position);
        }
        keys::index_names(document, &entity.table, &mut indexes, &mut complaints);
        catalog.entities.push(entity);
        keys::foreign_keys(document, position, names, &mut catalog, &mut complaints);
        derivation::derivation(document, position, names, &mut catalog, &mut complaints);
    }
    catalog
}

fn entity(document: &Document, complaints: &mut Complaints<'_>) -> Entity {
    let spec = &document.spec;
    let name = &document.metadata.name;
    let plain = |c: char| c.is_ascii_alphanumeric();
    if !name.value.starts_with(|c: char| c.is_ascii_uppercase()) || !name.value.chars().all(plain) {
        complaints.at(
            name,
            format!(
                "name {:?} must be letters and digits, an upper-case letter first",
                name.value
            ),
        );
    }
    if let Some(prefix) = &spec.prefix
        && (prefix.value.is_empty()
            || prefix
                .value
                .contains(|c: char| c.is_control() || "|{[".contains(c)))
    {
        complaints.at(
            prefix,
            "prefix must not be empty, or have '|', '{', '[' or control characters",
        );
    }
    if spec.prefix.is_none() && spec.kind != EntityType::Derived {
        complaints.at(
            name,
            "prefix is missing: only a derived entity may have none",
        );
    }
    let fields = spec.fields.iter().map(|f| field::field(f, complaints));
    let fields: Vec<Field> = fields.collect();
    if fields.is_empty() {
        complaints.at(name, "fields are missing");
    }
    if fields.len() > FIELDS_MAX {
        complaints.at(
            name,
            format!("{} fields, at most {FIELDS_MAX} fit", fields.len()),
        );
    }
    for (index, field) in spec.fields.iter().enumerate() {
        let is_it = |other: &&document::Field| other.name.value == field.name.value;
        if spec.fields[..index].iter().any(|other| is_it(&other)) {
            complaints.at(
                &field.name,
                format!("field {:?} is there twice", field.name.value),
            );
        }
    }
    for list in &spec.lists {
        identifier::identifier(list, "list", complaints);
        if fields.iter().any(|field| field.name() == list.value) {
            complaints.at(list, format!("{:?} is a field and a list", list.value));
        }
    }
    let table = table(document, &fields, complaints);
    Entity {
        name: name.value.clone(),
        kind: spec.kind,
        doc: document.metadata.doc.clone(),
        prefix: spec.prefix.as_ref().map(|prefix| prefix.value.clone()),
        lists: spec.lists.iter().map(|list| list.value.clone()).collect(),
        derived: Vec::new(),
        fields,
        table,
    }
}

fn table(document: &Document, fields: &[Field], complaints: &mut Complaints<'_>) -> Table {
    let persistence = &document.spec.persistence;
    identifier::table(&persistence.table, complaints);
    let id_column = match &persistence.id_column {
        Some(name) => {
            identifier::column(name, "id_column", complaints);
            if fields.iter().any(|field| field.name() == name.value) {
                complaints.at(name, format!("id_column {:?} is a field too", name.value));
            }
            name.value.clone()
        }
        None => ID_COLUMN.to_owned(),
    };
    if persistence.id_column.is_none()
        && let Some(field) = document
            .spec
            .fields
            .iter()
            .find(|f| f.name.value == ID_COLUMN)
    {
        complaints.at(
            &field.name,
            "the field \"id\" is the id_column: name another id_column",
        );
    }
    let mut columns = |lists: &[Vec<Spanned<String>>], what: &str| -> Vec<Vec<String>> {
        let names = |list: &Vec<Spanned<String>>| keys::names(list, fields, what, complaints);
        lists
            .iter()
            .map(names)
            .filter(|list| !list.is_empty())
            .collect()
    };
    Table {
        name: persistence.table.value.clone(),
        id_column,
        unique: columns(&persistence.unique, "unique"),
        indexes: columns(&persistence.indexes, "indexes"),
        columns: fields.iter().map(|field| field.column.clone()).collect(),
        foreign_keys: Vec::new(),
        doc: document.metadata.doc.clone(),
    }
}
