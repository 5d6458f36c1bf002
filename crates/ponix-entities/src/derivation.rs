//! Rows of one entity made of a message of another.

use serde_json::{Map, Value as Json};

use crate::catalog::Entity;
use crate::field::Field;
use crate::message::{MessageError, no_field_of, shown_name};
use crate::table::{Row, TableIndex, Value};

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

/// A field, and why its value is wrong.
type Wrong = (String, String);

impl Derivation {
    /// The items that a row each is made of; one that is empty where there is no list.
    pub(crate) fn items<'a>(
        &self,
        object: &'a Map<String, Json>,
    ) -> Result<&'a [Json], MessageError> {
        let Some(list) = &self.list else {
            return Ok(&[Json::Null]);
        };
        match object.get(list) {
            None | Some(Json::Null) => Ok(&[]),
            Some(Json::Array(items)) => Ok(items),
            Some(_) => Err(MessageError::at(list.clone(), "is not a list")),
        }
    }

    /// The members of an item, all of them used by some derivation of the same list.
    pub(crate) fn members<'a>(
        &self,
        item: &'a Json,
        all: &[Self],
    ) -> Result<Option<&'a Map<String, Json>>, Vec<Wrong>> {
        let members = match item {
            Json::Object(members) => members,
            Json::Null if self.list.is_none() => return Ok(None),
            _ => return Err(vec![("item".to_owned(), "is not an object".to_owned())]),
        };
        let used = || {
            let same_list = all.iter().filter(|other| other.list == self.list);
            let origins = same_list.flat_map(|derivation| &derivation.origins);
            origins.filter_map(|origin| match origin {
                Origin::Item(name) => Some(name.as_str()),
                _ => None,
            })
        };
        let unknown = members.keys().filter(|name| !used().any(|it| it == *name));
        let wrong: Vec<Wrong> = unknown
            .map(|name| (shown_name(name), no_field_of("item", name, used())))
            .collect();
        if wrong.is_empty() {
            Ok(Some(members))
        } else {
            Err(wrong)
        }
    }

    /// One row, or all that is wrong with it; `None` when a condition does not hold.
    pub(crate) fn row(
        &self,
        entities: &[Entity],
        parent: &[Value],
        members: Option<&Map<String, Json>>,
    ) -> Result<Option<Row>, Vec<Wrong>> {
        let fields = &entities[self.entity].fields;
        // First of all: an item that gives no row may lack what the row would need.
        for condition in &self.conditions {
            let (field, origin) = (&fields[condition.field], &self.origins[condition.field]);
            let is_there = origin.is_there(parent, members) || field.default.is_some();
            let value = if is_there {
                let value = origin.value(field, parent, members);
                value.map_err(|wrong| vec![wrong])?
            } else {
                Value::Null
            };
            if !condition.holds(&value) {
                return Ok(None);
            }
        }
        let mut values = Vec::with_capacity(fields.len());
        let mut wrong = Vec::new();
        for (field, origin) in fields.iter().zip(&self.origins) {
            match origin.value(field, parent, members) {
                Ok(value) => values.push(value),
                Err(found) => wrong.push(found),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let table = TableIndex(self.entity);
        Ok(Some(Row { table, values }))
    }
}

impl Origin {
    fn is_there(&self, parent: &[Value], members: Option<&Map<String, Json>>) -> bool {
        match self {
            Self::Parent(index) => parent[*index] != Value::Null,
            Self::Item(name) => members
                .and_then(|members| members.get(name))
                .is_some_and(|json| !json.is_null()),
            Self::Constant(value) => *value != Value::Null,
        }
    }

    fn value(
        &self,
        field: &Field,
        parent: &[Value],
        members: Option<&Map<String, Json>>,
    ) -> Result<Value, Wrong> {
        let value = match self {
            Self::Parent(index) => match &parent[*index] {
                Value::Null => field.absent(),
                value => field.check(value.clone()),
            },
            Self::Item(name) => match members.and_then(|members| members.get(name)) {
                Some(json) => field.read_json(json),
                None => field.absent(),
            },
            Self::Constant(value) => Ok(value.clone()),
        };
        // The item's own name is what the sender knows.
        let name = match self {
            Self::Item(name) => name,
            Self::Parent(_) | Self::Constant(_) => field.name(),
        };
        value.map_err(|reason| (name.to_owned(), reason))
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
