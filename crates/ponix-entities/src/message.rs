//! Raw messages, and the rows they become.

use std::fmt;

use ponix_wire::message::Format;
use ponix_wire::{JsonError, JsonReader, JsonRules};
use serde_json::{Map, Value as Json};

use crate::catalog::{Catalog, Entity};
use crate::field::Field;
use crate::loader::nearest;
use crate::table::{Row, TableIndex, Value};

/// More of a name from a message than this is not shown in an error, in characters.
const NAME_SHOWN_CHARS_MAX: usize = 60;
/// What JSON may hold here; integers go into columns of 64 bits or decimals.
pub(crate) const JSON_RULES: JsonRules = JsonRules {
    members_max: usize::MAX,
    large_integers: true,
    nul: false,
};
/// Wrong fields beside the first that are told of one message.
const OTHERS_MAX: usize = 19;
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
    /// What else is wrong, so many things at most that they fit into a status.
    pub others: Vec<FieldError>,
}

/// A field of a message that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field: `quantity`, `line_items.2.quantity`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl MessageError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            entity: None,
            field: None,
            reason: reason.into(),
            others: Vec::new(),
        }
    }

    /// The first of some wrong fields, with the others.
    ///
    /// # Errors
    /// There is one.
    fn check(errors: Vec<FieldError>) -> Result<(), Self> {
        let mut errors = errors.into_iter();
        let Some(FieldError { field, reason }) = errors.next() else {
            return Ok(());
        };
        let others = errors.take(OTHERS_MAX).collect();
        Err(Self {
            others,
            ..Self::at(field, reason)
        })
    }

    /// What is wrong with the field, and then what is wrong with others, in one text.
    pub fn reasons(&self) -> String {
        let others = self.others.iter().map(ToString::to_string);
        let all: Vec<String> = std::iter::once(self.reason.clone()).chain(others).collect();
        all.join("; ")
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
            return self.reasons();
        }
        format!("{}: {}", place.join("."), self.reasons())
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

/// What to say of a name that is none of the known ones.
pub(crate) fn no_field_of<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let hint = nearest(name, known).map(|like| format!(", did you mean {like}?"));
    format!("is no field of the {what}{}", hint.unwrap_or_default())
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
        let mut errors = Vec::new();
        for derivation in &entity.derived {
            let items = derivation.items(object)?;
            if derived.len() + items.len() > DERIVED_ROWS_MAX {
                let reason = format!("holds more than {DERIVED_ROWS_MAX} derived rows");
                return Err(MessageError::new(reason));
            }
            for (position, item) in items.iter().enumerate() {
                let members = derivation.members(item, &entity.derived);
                match members.and_then(|it| derivation.row(&self.entities, &values, it)) {
                    Ok(row) => derived.extend(row),
                    Err(_) if errors.len() > OTHERS_MAX => {}
                    Err(wrong) => {
                        let place = derivation.list.as_ref().map_or_else(
                            || self.entities[derivation.entity].name.clone(),
                            |list| format!("{list}.{position}"),
                        );
                        for (field, reason) in wrong {
                            let field = format!("{place}.{field}");
                            let error = FieldError { field, reason };
                            // Several derivations of a list find the same.
                            if !errors.contains(&error) {
                                errors.push(error);
                            }
                        }
                    }
                }
            }
        }
        MessageError::check(errors)?;
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
        let fields = self.fields.iter().zip(text.split('|'));
        collected(
            fields.map(|(field, text)| (field.name(), field.read_text(text))),
            Vec::new(),
        )
    }

    fn values_of_object(&self, object: &Map<String, Json>) -> Result<Vec<Value>, MessageError> {
        // A misspelt name is told before the field that is missing for it.
        let unknown = object.keys().filter(|name| !self.knows(name));
        let unknown = unknown.map(|name| self.unknown(name)).collect();
        let values = self.fields.iter().map(|field| {
            let json = object.get(field.name());
            let value = json.map_or_else(|| field.absent(), |json| field.read_json(json));
            (field.name(), value)
        });
        collected(values, unknown)
    }

    fn unknown(&self, name: &str) -> FieldError {
        let names = self.fields.iter().map(Field::name);
        let names = names.chain(self.lists.iter().map(String::as_str));
        FieldError {
            field: shown_name(name),
            reason: no_field_of("entity", name, names),
        }
    }

    fn knows(&self, name: &String) -> bool {
        self.lists.contains(name) || self.fields.iter().any(|field| field.name() == name)
    }
}

/// The values, or what is wrong with them, behind what is wrong already.
fn collected<'a>(
    read: impl Iterator<Item = (&'a str, Result<Value, String>)>,
    mut errors: Vec<FieldError>,
) -> Result<Vec<Value>, MessageError> {
    let mut values = Vec::with_capacity(read.size_hint().0);
    for (field, value) in read {
        match value {
            Ok(value) => values.push(value),
            Err(reason) => {
                let field = field.to_owned();
                errors.push(FieldError { field, reason });
            }
        }
    }
    MessageError::check(errors)?;
    Ok(values)
}
