//! `format: entity`.

use std::path::Path;

use ponix_entities::{Catalog, Format, LoadErrors, MessageError, ParsedMessage, Value};
use ponix_wire::header;
use serde_json::{Number, Value as Json};
use time::format_description::well_known::Rfc3339;

use super::{DecodeError, FieldMap, FormatError, Message, Reason};

fn parse(
    catalog: &Catalog,
    message: &Message<'_>,
    entity: Option<&str>,
) -> Result<ParsedMessage, DecodeError> {
    let content_type = message.header(header::CONTENT_TYPE);
    let format = Format::of(content_type, message.payload);
    let hint = entity.or_else(|| message.header(header::ENTITY));
    let parsed = catalog.parse(format, message.payload, hint);
    parsed.map_err(|err: MessageError| DecodeError::new(Reason::Value, err.to_string()))
}

/// Reads messages of declared entities into the fields of their own row.
#[derive(Debug)]
pub(super) struct EntityFields {
    catalog: Catalog,
    entity: Option<String>,
}

impl EntityFields {
    pub(super) fn new(dir: Option<&Path>, entity: Option<&str>) -> Result<Self, Vec<FormatError>> {
        let Some(dir) = dir else {
            let text = "the entities are the service's own: nothing is known of them here";
            return Err(vec![FormatError::Here(text.to_owned())]);
        };
        let catalog = Catalog::load(dir).map_err(|LoadErrors(errors)| {
            errors.into_iter().map(FormatError::In).collect::<Vec<_>>()
        })?;
        if let Some(entity) = entity
            && catalog.entity(entity).is_none()
        {
            let known = catalog.entities().iter().map(ponix_entities::Entity::name);
            let meant = ponix_entities::loader::nearest(entity, known);
            let hint = meant
                .map(|meant| format!(", did you mean {meant:?}?"))
                .unwrap_or_default();
            return Err(FormatError::file(
                dir,
                format!("there is no entity {entity:?}{hint}"),
            ));
        }
        let entity = entity.map(str::to_owned);
        Ok(Self { catalog, entity })
    }

    pub(super) fn decode(&self, message: &Message<'_>) -> Result<FieldMap, DecodeError> {
        let parsed = parse(&self.catalog, message, self.entity.as_deref())?;
        if let Some(only) = &self.entity
            && *only != parsed.entity
        {
            let text = format!(
                "the message is of entity {}, expected {only}",
                parsed.entity
            );
            return Err(DecodeError::new(Reason::Value, text));
        }
        let own = parsed.rows.into_iter().next();
        let own = own.ok_or_else(|| DecodeError::new(Reason::Decode, "the message has no row"))?;
        let columns = &self.catalog.table(own.table).columns;
        let fields = columns.iter().zip(own.values);
        Ok(fields
            .map(|(column, value)| (column.name.clone(), json(value)))
            .collect())
    }
}

fn json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => Json::String(text),
        Value::Integer(number) => Json::from(number),
        Value::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::Decimal(number) => Json::String(number.to_string()),
        Value::Boolean(value) => Json::Bool(value),
        Value::Date(date) => Json::String(date.to_string()),
        Value::DateTime(time) => Json::String(time.format(&Rfc3339).unwrap_or_default()),
        Value::Json(text) => serde_json::from_str(&text).unwrap_or(Json::Null),
    }
}
