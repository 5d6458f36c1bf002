//! From documents to entities that read messages.

use std::collections::HashMap;

use regex::Regex;
use serde_saphyr::Spanned;

use super::{Complaints, LoadError, NAME_BYTES_MAX, Source};
use crate::catalog::{Catalog, Condition, Derivation, Entity, Origin};
use crate::document::{self, Document, EntityType, TypeName};
use crate::field::{Field, decimal};
use crate::table::{Column, FieldType, ForeignKey, Table, Value};

const ID_COLUMN: &str = "id";
/// Members of JSON messages that are not fields.
const RESERVED: [&str; 2] = ["entity_type", "message_id"];
const PRECISION_MAX: u8 = 28;

/// Compiles the documents in this order.
pub(super) fn compile(
    sources: &[Source],
    by_name: &HashMap<String, usize>,
    order: &[usize],
    errors: &mut Vec<LoadError>,
) -> Catalog {
    let mut catalog = Catalog::default();
    for &index in order {
        let Source { path, document } = &sources[index];
        let mut complaints = Complaints { path, errors };
        let entity = entity(document, &mut complaints);
        let position = catalog.entities.len();
        catalog.by_name.insert(entity.name.clone(), position);
        if let Some(prefix) = &entity.prefix {
            catalog.by_prefix.insert(prefix.clone(), position);
        }
        catalog.entities.push(entity);
        foreign_keys(document, position, &mut catalog, &mut complaints);
        derivation(document, position, by_name, &mut catalog, &mut complaints);
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
        && (prefix.value.is_empty() || prefix.value.contains(['|', '\n', '\r', '{']))
    {
        complaints.at(
            prefix,
            "prefix must not be empty or have '|', '{' or line breaks",
        );
    }
    if spec.prefix.is_none() && spec.kind != EntityType::Derived {
        complaints.at(
            name,
            "prefix is missing: only a derived entity may have none",
        );
    }
    let fields: Vec<Field> = spec.fields.iter().map(|f| field(f, complaints)).collect();
    if fields.is_empty() {
        complaints.at(name, "fields are missing");
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
        identifier(list, "list", complaints);
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

fn field(field: &document::Field, complaints: &mut Complaints<'_>) -> Field {
    identifier(&field.name, "field", complaints);
    if RESERVED.contains(&field.name.value.as_str()) {
        complaints.at(
            &field.name,
            format!(
                "{:?} is a member of every message and no field",
                field.name.value
            ),
        );
    }
    let field_type = field_type(field, complaints);
    let constraints = &field.constraints;
    let is_text = field.kind == TypeName::String;
    let is_number = matches!(
        field.kind,
        TypeName::Integer | TypeName::Float | TypeName::Decimal
    );
    if let Some(length) = &constraints.max_length
        && (!is_text || length.value == 0)
    {
        complaints.at(length, "max_length is for a String, and at least 1");
    }
    let bound = |bound: &Option<Spanned<serde_json::Value>>, complaints: &mut Complaints<'_>| {
        let bound = bound.as_ref()?;
        let number = match &bound.value {
            serde_json::Value::Number(number) => decimal(&number.to_string()),
            serde_json::Value::String(text) => decimal(text),
            _ => None,
        };
        if number.is_none() || !is_number {
            complaints.at(
                bound,
                "minimum and maximum are numbers, for a field that is one",
            );
        }
        number
    };
    let minimum = bound(&constraints.minimum, complaints);
    let maximum = bound(&constraints.maximum, complaints);
    if let (Some(least), Some(most), Some(at)) = (minimum, maximum, &constraints.maximum)
        && least > most
    {
        complaints.at(at, format!("maximum {most} is less than minimum {least}"));
    }
    let pattern = constraints.pattern.as_ref().and_then(|pattern| {
        if !is_text {
            complaints.at(pattern, "pattern is for a String");
        }
        let whole = Regex::new(&format!("^(?:{})$", pattern.value));
        whole
            .map_err(|err| {
                let text = err.to_string();
                let last = text.lines().last().unwrap_or_default().to_owned();
                complaints.at(pattern, format!("pattern is no regular expression: {last}"));
            })
            .ok()
    });
    if let Some(one_of) = &constraints.one_of
        && (!is_text || one_of.value.is_empty())
    {
        complaints.at(one_of, "enum is for a String, and has at least one value");
    }
    let mut compiled = Field {
        column: Column {
            name: field.name.value.clone(),
            field_type,
            nullable: field.nullable,
            doc: field.doc.clone(),
        },
        minimum,
        maximum,
        pattern,
        one_of: constraints.one_of.as_ref().map(|texts| texts.value.clone()),
        default: None,
    };
    if let Some(default) = &field.default {
        match compiled.read_json(&default.value) {
            Ok(value) => compiled.default = Some(value),
            Err(reason) => complaints.at(default, format!("default {reason}")),
        }
    }
    compiled
}

fn field_type(field: &document::Field, complaints: &mut Complaints<'_>) -> FieldType {
    let digits = [&field.precision, &field.scale];
    if field.kind != TypeName::Decimal
        && let Some(given) = digits.into_iter().flatten().next()
    {
        complaints.at(given, "precision and scale are for a Decimal");
    }
    match field.kind {
        TypeName::String => FieldType::String {
            max_length: field.constraints.max_length.as_ref().map(|most| most.value),
        },
        TypeName::Integer => FieldType::Integer,
        TypeName::Float => FieldType::Float,
        TypeName::Decimal => {
            let precision = field.precision.as_ref().map_or(18, |digits| digits.value);
            let scale = field.scale.as_ref().map_or(2, |digits| digits.value);
            if !(1..=PRECISION_MAX).contains(&precision) || scale > precision {
                complaints.at(
                    &field.name,
                    format!(
                        "a Decimal has 1 to {PRECISION_MAX} digits (precision), and not more of them behind the point (scale)"
                    ),
                );
            }
            FieldType::Decimal {
                precision,
                scale: scale.min(precision),
            }
        }
        TypeName::Boolean => FieldType::Boolean,
        TypeName::Date => FieldType::Date,
        TypeName::DateTime => FieldType::DateTime,
        TypeName::Json => FieldType::Json,
    }
}

fn table(document: &Document, fields: &[Field], complaints: &mut Complaints<'_>) -> Table {
    let persistence = &document.spec.persistence;
    identifier(&persistence.table, "table", complaints);
    let id_column = match &persistence.id_column {
        Some(name) => {
            identifier(name, "id_column", complaints);
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
        let names = |list: &Vec<Spanned<String>>| names(list, fields, what, complaints);
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

/// The names of a list, each being a field.
fn names(
    list: &[Spanned<String>],
    fields: &[Field],
    what: &str,
    complaints: &mut Complaints<'_>,
) -> Vec<String> {
    for name in list {
        if !fields.iter().any(|field| field.name() == name.value) {
            complaints.at(name, format!("{what}: there is no field {:?}", name.value));
        }
    }
    list.iter().map(|name| name.value.clone()).collect()
}

fn foreign_keys(
    document: &Document,
    position: usize,
    catalog: &mut Catalog,
    complaints: &mut Complaints<'_>,
) {
    for key in &document.spec.persistence.foreign_keys {
        let columns = names(
            &key.fields,
            &catalog.entities[position].fields,
            "foreign_keys",
            complaints,
        );
        let Some(other) = catalog.entity(&key.entity.value) else {
            complaints.at(
                &key.entity,
                format!("foreign_keys: there is no entity {:?}", key.entity.value),
            );
            continue;
        };
        let references: Vec<String> = key.references.iter().map(|n| n.value.clone()).collect();
        if references.len() != columns.len() || !other.table.unique.contains(&references) {
            complaints.at(
                &key.entity,
                format!(
                    "foreign_keys: {} is not declared unique in {:?}",
                    references.join(", "),
                    key.entity.value
                ),
            );
            continue;
        }
        let foreign = ForeignKey {
            columns,
            table: other.table.name.clone(),
            references,
        };
        catalog.entities[position].table.foreign_keys.push(foreign);
    }
}

fn derivation(
    document: &Document,
    position: usize,
    by_name: &HashMap<String, usize>,
    catalog: &mut Catalog,
    complaints: &mut Complaints<'_>,
) {
    let (name, spec) = (&document.metadata.name, &document.spec);
    let derivation = match (&spec.derivation, spec.kind) {
        (Some(derivation), EntityType::Derived) => derivation,
        (None, EntityType::Derived) => {
            complaints.at(name, "derivation is missing: a derived entity needs one");
            return;
        }
        (Some(derivation), _) => {
            complaints.at(&derivation.parent, "derivation is for a derived entity");
            return;
        }
        (None, _) => return,
    };
    let parent_name = &derivation.parent.value;
    let Some(&parent) = catalog.by_name.get(parent_name) else {
        let what = if by_name.contains_key(parent_name) {
            "is part of a circle"
        } else {
            "is no entity"
        };
        complaints.at(&derivation.parent, format!("parent {parent_name:?} {what}"));
        return;
    };
    let of = &catalog.entities[parent];
    if of.kind == EntityType::Derived {
        complaints.at(&derivation.parent, "the parent is derived itself");
    }
    if let Some(list) = &derivation.repeated_for
        && !of.lists.contains(&list.value)
    {
        complaints.at(list, format!("{parent_name} has no list {:?}", list.value));
    }
    for field in derivation.fields.keys() {
        if !spec.fields.iter().any(|known| known.name.value == *field) {
            complaints.at(
                &derivation.parent,
                format!("derivation: there is no field {field:?}"),
            );
        }
    }
    let entity = &catalog.entities[position];
    let origins = entity
        .fields
        .iter()
        .map(|field| origin(field, derivation, of, complaints))
        .collect();
    let conditions = derivation
        .when
        .iter()
        .filter_map(|condition| {
            let of = &condition.field;
            let field = entity.fields.iter().position(|f| f.name() == of.value);
            if field.is_none() {
                complaints.at(of, format!("when: there is no field {:?}", of.value));
            }
            Some(Condition {
                field: field?,
                one_of: condition.one_of.clone(),
                not_in: condition.not_in.clone(),
                present: condition.present,
            })
        })
        .collect();
    let compiled = Derivation {
        entity: position,
        list: derivation
            .repeated_for
            .as_ref()
            .map(|list| list.value.clone()),
        origins,
        conditions,
    };
    catalog.entities[parent].derived.push(compiled);
}

fn origin(
    field: &Field,
    derivation: &document::Derivation,
    parent: &Entity,
    complaints: &mut Complaints<'_>,
) -> Origin {
    let item = || Origin::Item(field.name().to_owned());
    let Some(origin) = derivation.fields.get(field.name()) else {
        return item();
    };
    let given = [
        origin.parent.is_some(),
        origin.item.is_some(),
        origin.constant.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        complaints.at(
            &derivation.parent,
            format!(
                "field {:?} comes from just one of parent, item, constant",
                field.name()
            ),
        );
        return item();
    }
    if let Some(constant) = &origin.constant {
        let value = field.read_json(&constant.value).unwrap_or_else(|reason| {
            complaints.at(constant, format!("constant {reason}"));
            Value::Null
        });
        return Origin::Constant(value);
    }
    if let Some(from) = &origin.parent {
        let Some(index) = parent.fields.iter().position(|f| f.name() == from.value) else {
            complaints.at(
                from,
                format!("{} has no field {:?}", parent.name, from.value),
            );
            return item();
        };
        let same =
            |a: FieldType, b: FieldType| std::mem::discriminant(&a) == std::mem::discriminant(&b);
        if !same(
            parent.fields[index].column.field_type,
            field.column.field_type,
        ) {
            complaints.at(from, format!("{:?} has another type there", from.value));
        }
        return Origin::Parent(index);
    }
    origin.item.clone().map_or_else(item, Origin::Item)
}

fn identifier(name: &Spanned<String>, what: &str, complaints: &mut Complaints<'_>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let text = &name.value;
    if !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(plain)
        || text.len() > NAME_BYTES_MAX
    {
        complaints.at(
            name,
            format!(
                "{what} {text:?} must be 1 to {NAME_BYTES_MAX} lower-case letters, digits or '_', a letter first"
            ),
        );
    }
}
