//! Raw messages, and the rows they become.

use ponix_wire::message::Format;
use ponix_wire::{JsonError, JsonReader, JsonRules};
use serde_json::{Map, Value as Json};

use crate::catalog::{Catalog, Entity};
use crate::table::{Row, TableIndex, Value};

/// More of a name from a message than this is not shown in an error, in characters.
const NAME_SHOWN_CHARS_MAX: usize = 60;
/// What JSON may hold here; integers go into columns of 64 bits or decimals.
pub(crate) const JSON_RULES: JsonRules = JsonRules {
    members_max: usize::MAX,
    large_integers: true,
    nul: false,
};
/// Derived rows of one message at most.
const DERIVED_ROWS_MAX: usize = 10_000;

/// What a message holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedMessage {
    /// The name of its entity.
    pub entity: String,
    /// The entity's own row, then the derived ones.
    pub rows: Vec<Row>,
}

/// Why a message is none of an entity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct MessageError {
    /// The entity's name, where it could be told.
    pub entity: Option<String>,
    /// The field that is wrong, where it is one: `quantity`, `line_items.2.quantity`.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl MessageError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            entity: None,
            field: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(reason)
        }
    }

    fn of(mut self, entity: &Entity) -> Self {
        self.entity = Some(entity.name.clone());
        self
    }

    fn text(&self) -> String {
        let parts = [self.entity.as_deref(), self.field.as_deref()];
        let place: Vec<&str> = parts.into_iter().flatten().collect();
        if place.is_empty() {
            return self.reason.clone();
        }
        format!("{}: {}", place.join("."), self.reason)
    }
}

impl From<JsonError> for MessageError {
    fn from(err: JsonError) -> Self {
        match err {
            JsonError::Value { field, reason } => Self::at(field, reason),
            other => Self::new(other.to_string()),
        }
    }
}

/// A name from a message as part of an error: bounded, on one line.
pub(crate) fn shown_name(name: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars()
        .take(NAME_SHOWN_CHARS_MAX)
        .map(printable)
        .collect()
}

impl Catalog {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it; the same for the same message and catalog, always.
    pub fn parse(
        &self,
        format: Format,
        payload: &[u8],
        hint: Option<&str>,
    ) -> Result<ParsedMessage, MessageError> {
        match format {
            Format::Line => self.parse_line(payload, hint),
            Format::Json => self.parse_json(payload, hint),
        }
    }

    fn parse_line(
        &self,
        payload: &[u8],
        hint: Option<&str>,
    ) -> Result<ParsedMessage, MessageError> {
        let text = std::str::from_utf8(payload).map_err(|err| {
            MessageError::new(format!("not UTF-8 from byte {} on", err.valid_up_to()))
        })?;
        let text = text.trim_end_matches(['\r', '\n']);
        let (prefix, values) = text.split_once('|').unwrap_or((text, ""));
        let index = self.position_of_prefix(prefix)?;
        let entity = &self.entities[index];
        if hint.is_some_and(|hint| !hint.eq_ignore_ascii_case(&entity.name)) {
            return Err(MessageError::new("the line's prefix is of another entity").of(entity));
        }
        let values = entity.values_of_line(values);
        values
            .and_then(|values| self.message(index, values, &Map::new()))
            .map_err(|err| err.of(entity))
    }

    fn parse_json(
        &self,
        payload: &[u8],
        hint: Option<&str>,
    ) -> Result<ParsedMessage, MessageError> {
        let json = JsonReader::new(JSON_RULES).value(payload)?;
        let Json::Object(mut object) = json else {
            return Err(MessageError::new("the message is not an object"));
        };
        let named = object.remove("entity_type");
        object.remove("message_id");
        let index = self.entity_of_object(named.as_ref(), hint)?;
        let entity = &self.entities[index];
        entity
            .values_of_object(&object)
            .and_then(|values| self.message(index, values, &object))
            .map_err(|err| err.of(entity))
    }

    fn entity_of_object(
        &self,
        named: Option<&Json>,
        hint: Option<&str>,
    ) -> Result<usize, MessageError> {
        let wrong = |reason: &str| Err(MessageError::at("entity_type", reason));
        let name = match (hint, named) {
            (Some(hint), Some(Json::String(named))) if !hint.eq_ignore_ascii_case(named) => {
                return wrong("is another entity than the request's");
            }
            (Some(hint), _) => hint,
            (None, Some(Json::String(named))) => named,
            (None, Some(_)) => return wrong("is not a text"),
            (None, None) => return self.default_position(),
        };
        self.position(name)
    }

    /// The message's own row, and those derived from it.
    fn message(
        &self,
        index: usize,
        values: Vec<Value>,
        object: &Map<String, Json>,
    ) -> Result<ParsedMessage, MessageError> {
        let entity = &self.entities[index];
        let mut derived = Vec::new();
        for derivation in &entity.derived {
            let items = derivation.items(object)?;
            if derived.len() + items.len() > DERIVED_ROWS_MAX {
                let reason = format!("holds more than {DERIVED_ROWS_MAX} derived rows");
                return Err(MessageError::new(reason));
            }
            for (position, item) in items.iter().enumerate() {
                let members = derivation.members(item, &entity.derived);
                let row = members
                    .and_then(|members| derivation.row(&self.entities, &values, members))
                    .map_err(|(field, reason)| {
                        let place = derivation.list.as_ref().map_or_else(
                            || self.entities[derivation.entity].name.clone(),
                            |list| format!("{list}.{position}"),
                        );
                        MessageError::at(format!("{place}.{field}"), reason)
                    })?;
                derived.extend(row);
            }
        }
        let mut rows = Vec::with_capacity(1 + derived.len());
        rows.push(Row {
            table: TableIndex(index),
            values,
        });
        rows.append(&mut derived);
        Ok(ParsedMessage {
            entity: entity.name.clone(),
            rows,
        })
    }
}

impl Entity {
    fn values_of_line(&self, text: &str) -> Result<Vec<Value>, MessageError> {
        let expected = self.fields.len();
        let count = |text: &str| 1 + text.bytes().filter(|byte| *byte == b'|').count();
        let mut found = count(text);
        let mut text = text;
        // Files of TPC-H end each line with a bar.
        if found == expected + 1
            && let Some(before) = text.strip_suffix('|')
        {
            (found, text) = (expected, before);
        }
        if found != expected {
            return Err(MessageError::new(format!(
                "{found} values, expected {expected}"
            )));
        }
        if text.contains(['\n', '\r']) {
            return Err(MessageError::new("has more than one line"));
        }
        let mut values = Vec::with_capacity(expected);
        for (field, text) in self.fields.iter().zip(text.split('|')) {
            let value = field.read_text(text);
            values.push(value.map_err(|reason| MessageError::at(field.name(), reason))?);
        }
        Ok(values)
    }

    fn values_of_object(&self, object: &Map<String, Json>) -> Result<Vec<Value>, MessageError> {
        let mut known = 0;
        let mut values = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let json = object.get(field.name());
            known += usize::from(json.is_some());
            let value = json.map_or_else(|| field.absent(), |json| field.read_json(json));
            values.push(value.map_err(|reason| MessageError::at(field.name(), reason)));
        }
        known += self
            .lists
            .iter()
            .filter(|list| object.contains_key(*list))
            .count();
        // A misspelt name is told before the field that is missing for it.
        if known < object.len()
            && let Some(unknown) = object.keys().find(|name| !self.knows(name))
        {
            return Err(MessageError::at(
                shown_name(unknown),
                "is no field of the entity",
            ));
        }
        values.into_iter().collect()
    }

    fn knows(&self, name: &String) -> bool {
        self.lists.contains(name) || self.fields.iter().any(|field| field.name() == name)
    }
}
