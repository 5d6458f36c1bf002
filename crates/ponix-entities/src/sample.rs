//! Messages that fit an entity, to begin with.

mod pattern;

use ponix_wire::message::Format;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Map, Value as Json, json};

use crate::catalog::{Catalog, Entity};
use crate::derivation::Origin;
use crate::field::Field;
use crate::table::FieldType;

/// Messages of an entity that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// A text line; `None` for an entity without a prefix, or with values that no line can hold.
    pub line: Option<String>,
    /// A JSON message, with an item in each list.
    pub json: String,
}

/// Makes samples; the same ones every time. Constraints that leave hardly a value, such as a
/// pattern beside a short `max_length`, may ask for more than a sample can guess.
pub fn sample(catalog: &Catalog, entity: &Entity) -> Sample {
    let line = entity.prefix().map(|prefix| {
        let texts = entity.fields.iter().map(text);
        let values: Vec<String> = std::iter::once(prefix.to_owned()).chain(texts).collect();
        values.join("|")
    });
    let mut object = Map::new();
    object.insert("entity_type".to_owned(), json!(entity.name()));
    for field in &entity.fields {
        object.insert(field.name().to_owned(), value(field));
    }
    for (list, item) in items(catalog, entity) {
        object.insert(list.to_owned(), json!([item]));
    }
    Sample {
        line: line.filter(|line| {
            let read = catalog.parse(Format::Line, line.as_bytes(), None);
            read.is_ok_and(|read| read.entity == entity.name)
        }),
        json: Json::Object(object).to_string(),
    }
}

/// Each list with an item; those that are derived from one list share it.
fn items<'a>(catalog: &Catalog, entity: &'a Entity) -> Vec<(&'a str, Map<String, Json>)> {
    let mut lists: Vec<(&str, Map<String, Json>)> = Vec::new();
    for derivation in &entity.derived {
        let Some(list) = &derivation.list else {
            continue;
        };
        let mut item = Map::new();
        let of = &catalog.entities[derivation.entity];
        for (field, origin) in of.fields.iter().zip(&derivation.origins) {
            if let Origin::Item(name) = origin {
                item.insert(name.clone(), value(field));
            }
        }
        match lists.iter_mut().find(|(name, _)| name == list) {
            Some((_, members)) => members.append(&mut item),
            None => lists.push((list, item)),
        }
    }
    lists
}

fn text(field: &Field) -> String {
    match value(field) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn value(field: &Field) -> Json {
    match field.column.field_type {
        FieldType::String { max_length } => string(field, max_length),
        FieldType::Integer => number(field, 0),
        FieldType::Float => number(field, Decimal::MAX_SCALE),
        FieldType::Decimal { scale, .. } => number(field, u32::from(scale)),
        FieldType::Boolean => json!(true),
        FieldType::Date => json!("2026-03-01"),
        FieldType::DateTime => json!("2026-03-01T12:00:00Z"),
        FieldType::Json => json!({}),
    }
}

fn string(field: &Field, max_length: Option<u32>) -> Json {
    if let Some(first) = field.one_of.iter().flatten().next() {
        return json!(first);
    }
    if let Some(text) = field.pattern.as_ref().and_then(pattern::shortest) {
        return json!(text);
    }
    let most = max_length.map_or(usize::MAX, |most| most as usize);
    json!(field.name().chars().take(most).collect::<String>())
}

/// One, or what is nearest to it between the bounds, of so many digits behind the point.
fn number(field: &Field, scale: u32) -> Json {
    let up =
        |bound: Decimal| bound.round_dp_with_strategy(scale, RoundingStrategy::ToPositiveInfinity);
    let down =
        |bound: Decimal| bound.round_dp_with_strategy(scale, RoundingStrategy::ToNegativeInfinity);
    let (least, most) = (field.minimum.map(up), field.maximum.map(down));
    let candidates = [Some(Decimal::ONE), least, most, Some(Decimal::ZERO)].map(|candidate| {
        let number = candidate?.normalize().to_string();
        Some(Json::Number(number.parse().ok()?))
    });
    let mut fitting = candidates.iter().flatten();
    let fits = |json: &&Json| field.read_json(json).is_ok();
    fitting.find(fits).cloned().unwrap_or_else(|| json!(1))
}
