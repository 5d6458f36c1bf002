//! All entities of a folder, and what their messages become.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::document::EntityType;
use crate::field::Field;
use crate::load::{self, LoadErrors};
use crate::table::{Row, Table, TableIndex, Value};

/// All declared entities.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Referenced ones first; the position is the table's.
    pub(crate) entities: Vec<Entity>,
    pub(crate) by_name: HashMap<String, usize>,
    pub(crate) by_prefix: HashMap<String, usize>,
}

/// One declared entity.
#[derive(Debug, Clone)]
pub struct Entity {
    pub(crate) name: String,
    pub(crate) kind: EntityType,
    pub(crate) doc: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) fields: Vec<Field>,
    pub(crate) lists: Vec<String>,
    pub(crate) table: Table,
    /// What is derived from its messages.
    pub(crate) derived: Vec<Derivation>,
}

/// How rows of another entity are made of a message.
#[derive(Debug, Clone)]
pub(crate) struct Derivation {
    /// The position of the entity whose rows these are.
    pub(crate) entity: usize,
    pub(crate) list: Option<String>,
    /// Where each of its fields comes from, in their order.
    pub(crate) origins: Vec<Origin>,
    pub(crate) conditions: Vec<Condition>,
}

/// Where a derived field comes from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The parent's field at this position.
    Parent(usize),
    /// This member of the item.
    Item(String),
    Constant(Value),
}

/// What must hold for a derived row.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) field: usize,
    pub(crate) one_of: Option<Vec<String>>,
    pub(crate) not_in: Option<Vec<String>>,
    pub(crate) present: Option<bool>,
}

/// The form of a raw message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `PREFIX|value|value|…`, the values in the order of the fields.
    Line,
    /// A JSON object.
    Json,
}

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
    fn new(reason: impl Into<String>) -> Self {
        Self {
            entity: None,
            field: None,
            reason: reason.into(),
        }
    }

    fn of(mut self, entity: &Entity) -> Self {
        self.entity = Some(entity.name.clone());
        self
    }

    fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(reason)
        }
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

impl Entity {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where its rows come from.
    pub fn entity_type(&self) -> EntityType {
        self.kind
    }

    /// Returns the first value of its lines.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Returns what it stands for.
    pub fn doc(&self) -> Option<&str> {
        self.doc.as_deref()
    }

    /// Returns its table.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl Catalog {
    /// Reads every `*.yaml` and `*.yml` of a folder, not of the folders in it.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, line and column.
    pub fn load(dir: &Path) -> Result<Self, LoadErrors> {
        load::load(dir)
    }

    /// Returns all entities; one that is referred to stands before those that refer to it.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// Returns the entity of this name.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.by_name.get(name).map(|index| &self.entities[*index])
    }

    /// Returns all tables, in an order in which they can be created; the positions are those of
    /// [`TableIndex`].
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &Table> {
        self.entities.iter().map(|entity| &entity.table)
    }

    /// Returns the table at a position, as [`Row::table`] names it.
    ///
    /// # Panics
    /// When the position is of another catalog with more tables.
    pub fn table(&self, index: TableIndex) -> &Table {
        &self.entities[index.0].table
    }

    /// Tells which entity a message is of, without reading all of it: by its prefix, by `hint`, or
    /// by the member `entity_type`.
    pub fn identify(&self, format: Format, payload: &[u8], hint: Option<&str>) -> Option<&str> {
        let found = match (hint, format) {
            (Some(hint), _) => self.by_name.get(hint),
            (None, Format::Line) => self.by_prefix.get(prefix_of(payload)?),
            (None, Format::Json) => self.by_name.get(&entity_type_of(payload)?),
        };
        found.map(|index| self.entities[*index].name.as_str())
    }

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
        let text = std::str::from_utf8(payload)
            .map_err(|err| {
                MessageError::new(format!("not UTF-8 from byte {} on", err.valid_up_to()))
            })?
            .trim_end_matches(['\r', '\n']);
        let (prefix, values) = text.split_once('|').unwrap_or((text, ""));
        let index = *self.by_prefix.get(prefix).ok_or_else(|| {
            let prefix: String = prefix.chars().take(20).collect();
            MessageError::new(format!("no entity has the prefix {prefix:?}"))
        })?;
        let entity = &self.entities[index];
        if hint.is_some_and(|hint| hint != entity.name) {
            return Err(MessageError::new("the line's prefix is of another entity").of(entity));
        }
        entity
            .values_of_line(values)
            .map(|values| self.message(index, values, Vec::new()))
            .map_err(|err| err.of(entity))
    }

    fn parse_json(
        &self,
        payload: &[u8],
        hint: Option<&str>,
    ) -> Result<ParsedMessage, MessageError> {
        let json = crate::json::parse(payload).map_err(|err| MessageError::new(err.to_string()))?;
        let Json::Object(mut object) = json else {
            return Err(MessageError::new("the message is not an object"));
        };
        let named = object.remove("entity_type");
        object.remove("message_id");
        let name = match (hint, &named) {
            (Some(hint), Some(Json::String(named))) if hint != named => {
                return Err(MessageError::at(
                    "entity_type",
                    "is another entity than the request's",
                ));
            }
            (Some(hint), _) => hint,
            (None, Some(Json::String(named))) => named,
            (None, _) => return Err(MessageError::at("entity_type", "is missing")),
        };
        let index = *self.by_name.get(name).ok_or_else(|| {
            let name: String = name.chars().take(60).collect();
            MessageError::at("entity_type", format!("there is no entity {name:?}"))
        })?;
        let entity = &self.entities[index];
        self.rows_of_object(index, &object)
            .map_err(|err| err.of(entity))
    }

    fn rows_of_object(
        &self,
        index: usize,
        object: &serde_json::Map<String, Json>,
    ) -> Result<ParsedMessage, MessageError> {
        let entity = &self.entities[index];
        let values = entity.values_of_object(object, &entity.lists, "")?;
        let mut derived = Vec::new();
        for derivation in &entity.derived {
            let of = &self.entities[derivation.entity];
            let items = derivation.items(object)?;
            for (position, item) in items.iter().enumerate() {
                let row = derivation.row(of, &values, item);
                let row = row.map_err(|(field, reason)| {
                    let place = match &derivation.list {
                        Some(list) => format!("{list}.{position}.{field}"),
                        None => format!("{}.{field}", of.name),
                    };
                    MessageError::at(place, reason)
                })?;
                if let Some(values) = row {
                    derived.push(Row {
                        table: TableIndex(derivation.entity),
                        values,
                    });
                }
            }
        }
        Ok(self.message(index, values, derived))
    }

    fn message(&self, index: usize, values: Vec<Value>, derived: Vec<Row>) -> ParsedMessage {
        let own = Row {
            table: TableIndex(index),
            values,
        };
        ParsedMessage {
            entity: self.entities[index].name.clone(),
            rows: std::iter::once(own).chain(derived).collect(),
        }
    }
}

impl Entity {
    fn values_of_line(&self, text: &str) -> Result<Vec<Value>, MessageError> {
        let mut texts: Vec<&str> = text.split('|').collect();
        // Files of TPC-H end each line with a bar.
        if texts.len() == self.fields.len() + 1 && texts.last() == Some(&"") {
            texts.pop();
        }
        if texts.len() != self.fields.len() {
            return Err(MessageError::new(format!(
                "{} values, expected {}",
                texts.len(),
                self.fields.len()
            )));
        }
        let values = self.fields.iter().zip(texts).map(|(field, text)| {
            field
                .read_text(text)
                .map_err(|reason| MessageError::at(field.name(), reason))
        });
        values.collect()
    }

    fn values_of_object(
        &self,
        object: &serde_json::Map<String, Json>,
        lists: &[String],
        place: &str,
    ) -> Result<Vec<Value>, MessageError> {
        let known = |name: &String| {
            lists.contains(name) || self.fields.iter().any(|field| field.name() == name)
        };
        if let Some(unknown) = object.keys().find(|name| !known(name)) {
            let unknown: String = unknown.chars().take(60).collect();
            return Err(MessageError::at(
                format!("{place}{unknown}"),
                "is no field of the entity",
            ));
        }
        let values = self.fields.iter().map(|field| {
            let value = match object.get(field.name()) {
                Some(json) => field.read_json(json),
                None => field.absent(),
            };
            value.map_err(|reason| MessageError::at(format!("{place}{}", field.name()), reason))
        });
        values.collect()
    }
}

impl Derivation {
    /// The items that a row each is made of; one that is empty where there is no list.
    fn items<'a>(
        &self,
        object: &'a serde_json::Map<String, Json>,
    ) -> Result<Vec<&'a Json>, MessageError> {
        let Some(list) = &self.list else {
            return Ok(vec![&Json::Null]);
        };
        match object.get(list) {
            None | Some(Json::Null) => Ok(Vec::new()),
            Some(Json::Array(items)) => Ok(items.iter().collect()),
            Some(_) => Err(MessageError::at(list.clone(), "is not a list")),
        }
    }

    /// The values of one row; `None` when a condition does not hold. An error names the field.
    fn row(
        &self,
        entity: &Entity,
        parent: &[Value],
        item: &Json,
    ) -> Result<Option<Vec<Value>>, (String, String)> {
        let members = match item {
            Json::Object(members) => Some(members),
            Json::Null if self.list.is_none() => None,
            _ => return Err(("item".to_owned(), "is not an object".to_owned())),
        };
        let known = |name: &String| {
            let is_it = |origin: &Origin| matches!(origin, Origin::Item(item) if item == name);
            self.origins.iter().any(is_it)
        };
        if let Some(unknown) = members
            .into_iter()
            .flat_map(|m| m.keys())
            .find(|n| !known(n))
        {
            let unknown: String = unknown.chars().take(60).collect();
            return Err((unknown, "is no field of the item".to_owned()));
        }
        let mut values = Vec::with_capacity(entity.fields.len());
        for (field, origin) in entity.fields.iter().zip(&self.origins) {
            let value = match origin {
                Origin::Parent(index) => field.check(parent[*index].clone()),
                Origin::Item(name) => match members.and_then(|members| members.get(name)) {
                    Some(json) => field.read_json(json),
                    None => field.absent(),
                },
                Origin::Constant(value) => Ok(value.clone()),
            };
            values.push(value.map_err(|reason| (field.name().to_owned(), reason))?);
        }
        let holds = self
            .conditions
            .iter()
            .all(|condition| condition.holds(&values[condition.field]));
        Ok(holds.then_some(values))
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        let text = match value {
            Value::Null => None,
            Value::Text(text) | Value::Json(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Decimal(number) => Some(number.normalize().to_string()),
            Value::Boolean(value) => Some(value.to_string()),
            Value::Date(date) => Some(date.to_string()),
            Value::DateTime(time) => Some(time.to_string()),
        };
        let among = |texts: &Vec<String>| text.as_ref().is_some_and(|text| texts.contains(text));
        self.present.is_none_or(|present| present == text.is_some())
            && self.one_of.as_ref().is_none_or(among)
            && !self.not_in.as_ref().is_some_and(among)
    }
}

fn prefix_of(payload: &[u8]) -> Option<&str> {
    let end = payload
        .iter()
        .position(|byte| b"|\r\n".contains(byte))
        .unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).ok()
}

fn entity_type_of(payload: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        entity_type: Option<String>,
    }
    let named: Named = serde_json::from_slice(payload).ok()?;
    named.entity_type
}
