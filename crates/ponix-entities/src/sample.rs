//! Messages that fit an entity, to begin with.

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use crate::catalog::{Catalog, Entity, Origin};
use crate::field::Field;
use crate::table::FieldType;

/// Messages of an entity that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// A text line; `None` for an entity without a prefix.
    pub line: Option<String>,
    /// A JSON message, with an item in each list.
    pub json: String,
}

/// Makes samples; the same ones every time. A pattern may ask for more than a sample can guess.
pub fn sample(catalog: &Catalog, entity: &Entity) -> Sample {
    let texts = entity.fields.iter().map(text);
    let line = entity.prefix().map(|prefix| {
        let values: Vec<String> = std::iter::once(prefix.to_owned()).chain(texts).collect();
        values.join("|")
    });
    let mut object = Map::new();
    object.insert("entity_type".to_owned(), json!(entity.name()));
    for field in &entity.fields {
        object.insert(field.name().to_owned(), value(field));
    }
    for derivation in &entity.derived {
        let Some(list) = &derivation.list else {
            continue;
        };
        let of = &catalog.entities[derivation.entity];
        let mut item = Map::new();
        for (field, origin) in of.fields.iter().zip(&derivation.origins) {
            if let Origin::Item(name) = origin {
                item.insert(name.clone(), value(field));
            }
        }
        object.insert(list.clone(), json!([item]));
    }
    Sample {
        line,
        json: Json::Object(object).to_string(),
    }
}

fn text(field: &Field) -> String {
    match value(field) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn value(field: &Field) -> Json {
    match field.column.field_type {
        FieldType::String { max_length } => {
            if let Some(first) = field.one_of.iter().flatten().next() {
                return json!(first);
            }
            let most = max_length.map_or(usize::MAX, |most| most as usize);
            // The first of some texts that fits; a pattern may want digits or upper case.
            let name: String = field.name().chars().take(most).collect();
            let digits = "1".repeat(most.min(5));
            let upper = "A".repeat(most.min(1));
            let guesses = [name, digits, upper, format!("{}#000000001", "Clerk")];
            let fits = |guess: &&String| field.read_text(guess).is_ok();
            json!(guesses.iter().find(fits).unwrap_or(&guesses[0]))
        }
        FieldType::Integer | FieldType::Float | FieldType::Decimal { .. } => {
            let one = Decimal::ONE;
            let least = field.minimum.unwrap_or(one);
            let number = field
                .maximum
                .map_or(least.max(one), |most| most.min(least.max(one)));
            json!(number.to_string().parse::<serde_json::Number>().ok())
        }
        FieldType::Boolean => json!(true),
        FieldType::Date => json!("2026-03-01"),
        FieldType::DateTime => json!("2026-03-01T12:00:00Z"),
        FieldType::Json => json!({}),
    }
}
