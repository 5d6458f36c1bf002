//! How rows of a derived entity are made.

use std::mem::discriminant;

use super::{Complaints, Names};
use crate::catalog::{Catalog, Entity};
use crate::derivation::{Condition, Derivation, Origin};
use crate::document::{self, Document, EntityType};
use crate::field::Field;
use crate::table::Value;

/// Adds the derivation of the entity at `position` to its parent.
pub(super) fn derivation(
    document: &Document,
    position: usize,
    names: &Names<'_>,
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
        let what = if names.position(parent_name).is_some() {
            "is part of a circle"
        } else if names.is_unknown(parent_name) {
            "is no entity"
        } else {
            return;
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
        .map(|field| origin(field, derivation, of, complaints));
    let compiled = Derivation {
        entity: position,
        list: derivation
            .repeated_for
            .as_ref()
            .map(|list| list.value.clone()),
        origins: origins.collect(),
        conditions: conditions(derivation, entity, complaints),
    };
    catalog.entities[parent].derived.push(compiled);
}

fn origin(
    field: &Field,
    derivation: &document::Derivation,
    parent: &Entity,
    complaints: &mut Complaints<'_>,
) -> Origin {
    let declared = derivation.fields.get(field.name());
    let given = declared.map_or(0, |origin| {
        let given = [
            origin.parent.is_some(),
            origin.item.is_some(),
            origin.constant.is_some(),
        ];
        given.iter().filter(|given| **given).count()
    });
    if declared.is_some() && given != 1 {
        complaints.at(
            &derivation.parent,
            format!(
                "field {:?} comes from just one of parent, item, constant",
                field.name()
            ),
        );
    }
    if let Some(constant) = declared.and_then(|origin| origin.constant.as_ref()) {
        let value = field.read_json(&constant.value).unwrap_or_else(|reason| {
            complaints.at(constant, format!("constant {reason}"));
            Value::Null
        });
        return Origin::Constant(value);
    }
    if let Some(from) = declared.and_then(|origin| origin.parent.as_ref()) {
        let index = parent.fields.iter().position(|f| f.name() == from.value);
        let Some(index) = index else {
            complaints.at(
                from,
                format!("{} has no field {:?}", parent.name, from.value),
            );
            return Origin::Constant(Value::Null);
        };
        let there = parent.fields[index].column.field_type;
        if discriminant(&there) != discriminant(&field.column.field_type) {
            complaints.at(from, format!("{:?} has another type there", from.value));
        }
        return Origin::Parent(index);
    }
    if derivation.repeated_for.is_none() {
        complaints.at(
            &derivation.parent,
            format!(
                "field {:?} comes from an item, and without repeated_for there is none: name a parent's field or a constant",
                field.name()
            ),
        );
    }
    let item = declared.and_then(|origin| origin.item.clone());
    Origin::Item(item.unwrap_or_else(|| field.name().to_owned()))
}

fn conditions(
    derivation: &document::Derivation,
    entity: &Entity,
    complaints: &mut Complaints<'_>,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for condition in &derivation.when {
        let name = &condition.field;
        let (one_of, not_in) = (&condition.one_of, &condition.not_in);
        if one_of.is_none() && not_in.is_none() && condition.present.is_none() {
            complaints.at(name, "when: needs one of in, not_in, present");
        }
        match entity.fields.iter().position(|f| f.name() == name.value) {
            Some(field) => conditions.push(Condition {
                field,
                one_of: one_of.clone(),
                not_in: not_in.clone(),
                present: condition.present,
            }),
            None => complaints.at(name, format!("when: there is no field {:?}", name.value)),
        }
    }
    conditions
}
