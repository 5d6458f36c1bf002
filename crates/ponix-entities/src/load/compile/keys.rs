//! Unique fields, foreign keys, indexes.

use std::collections::HashSet;
use std::mem::discriminant;

use serde_saphyr::Spanned;

use super::{Complaints, Names};
use crate::catalog::Catalog;
use crate::ddl::index_name;
use crate::document::Document;
use crate::field::Field;
use crate::table::{FieldType, ForeignKey, Table};

/// The names of a list, each being a field, none twice.
pub(super) fn names(
    list: &[Spanned<String>],
    fields: &[Field],
    what: &str,
    complaints: &mut Complaints<'_>,
) -> Vec<String> {
    for (index, name) in list.iter().enumerate() {
        if !fields.iter().any(|field| field.name() == name.value) {
            complaints.at(name, format!("{what}: there is no field {:?}", name.value));
        }
        if list[..index].iter().any(|other| other.value == name.value) {
            complaints.at(name, format!("{what}: {:?} is there twice", name.value));
        }
    }
    list.iter().map(|name| name.value.clone()).collect()
}

/// Complains about indexes that PostgreSQL would take for one that is there.
pub(super) fn index_names(
    document: &Document,
    table: &Table,
    seen: &mut HashSet<String>,
    complaints: &mut Complaints<'_>,
) {
    for columns in &table.indexes {
        let name = index_name(table, columns);
        if !seen.insert(name.clone()) {
            complaints.at(
                &document.spec.persistence.table,
                format!(
                    "indexes: {} would be called {name:?}, like another one",
                    columns.join(", ")
                ),
            );
        }
    }
}

/// Adds the foreign keys of the entity at `position` to its table.
pub(super) fn foreign_keys(
    document: &Document,
    position: usize,
    known: &Names<'_>,
    catalog: &mut Catalog,
    complaints: &mut Complaints<'_>,
) {
    for key in &document.spec.persistence.foreign_keys {
        let entity = &key.entity.value;
        let here = &catalog.entities[position].table;
        let fields = &catalog.entities[position].fields;
        let columns = names(&key.fields, fields, "foreign_keys", complaints);
        let Some(other) = catalog.entity(entity).map(|other| &other.table) else {
            // One that is part of a circle, or whose file is wrong, has been complained about.
            if known.is_unknown(entity) {
                complaints.at(
                    &key.entity,
                    format!("foreign_keys: there is no entity {entity:?}"),
                );
            }
            continue;
        };
        let references: Vec<String> = key.references.iter().map(|n| n.value.clone()).collect();
        if references.len() != columns.len() || !other.unique.contains(&references) {
            complaints.at(
                &key.entity,
                format!(
                    "foreign_keys: {} is not declared unique in {entity:?}",
                    references.join(", ")
                ),
            );
            continue;
        }
        for (index, (from, to)) in columns.iter().zip(&references).enumerate() {
            let types = (column_type(here, from), column_type(other, to));
            if let (Some(from_type), Some(to_type)) = types
                && discriminant(&from_type) != discriminant(&to_type)
            {
                complaints.at(
                    &key.fields[index],
                    format!("foreign_keys: {from:?} is of another type than {entity}'s {to:?}"),
                );
            }
        }
        let foreign = ForeignKey {
            columns,
            table: other.name.clone(),
            references,
        };
        catalog.entities[position].table.foreign_keys.push(foreign);
    }
}

fn column_type(table: &Table, name: &str) -> Option<FieldType> {
    let column = table.columns.iter().find(|column| column.name == name);
    column.map(|column| column.field_type)
}
