//! The readings of an envelope in JSON, straight into protobuf's Struct.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use ponix_wire::value::Kind;
use ponix_wire::{DATA_DEPTH_MAX, INTEGER_EXACT_MAX, ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::ApiError;

/// What was read, and the first thing wrong with it that JSON itself does not forbid.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) fields: Struct,
    pub(super) problem: Option<ApiError>,
}

/// Reads an object. Problems of single values are kept and not returned as errors, because an
/// error of serde's has no place for a field.
#[derive(Debug)]
pub(super) struct DataSeed {
    keys_max: usize,
}

impl DataSeed {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { keys_max }
    }
}

impl<'de> DeserializeSeed<'de> for DataSeed {
    type Value = Data;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        let reading = Reading {
            keys_left: RefCell::new(self.keys_max),
            keys_max: self.keys_max,
            problem: RefCell::new(None),
        };
        let kind = At {
            reading: &reading,
            path: Path {
                outer: None,
                segment: Segment::Member("data"),
            },
            depth: 0,
        }
        .deserialize(deserializer)?;
        let mut problem = reading.problem.into_inner();
        let fields = if let Kind::StructValue(fields) = kind {
            fields
        } else {
            problem.get_or_insert_with(|| {
                ApiError::bad("invalid_value", "data is not an object").at("data")
            });
            Struct::default()
        };
        Ok(Data { fields, problem })
    }
}

/// What is known while the values are read one inside the other.
struct Reading {
    keys_left: RefCell<usize>,
    keys_max: usize,
    problem: RefCell<Option<ApiError>>,
}

impl Reading {
    fn complain(&self, path: &Path<'_>, what: &str) {
        let mut problem = self.problem.borrow_mut();
        if problem.is_none() {
            let error = ApiError::bad("invalid_value", format!("{path} {what}"));
            *problem = Some(error.at(path.to_string()));
        }
    }

    /// Counts a member of an object.
    fn takes_key(&self) -> bool {
        let mut left = self.keys_left.borrow_mut();
        let taken = left.checked_sub(1);
        *left = taken.unwrap_or(0);
        taken.is_some()
    }
}

/// Where a value lies, from the inside out; written as `data.list.0.member`.
#[derive(Clone, Copy)]
struct Path<'a> {
    outer: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Member(&'a str),
    Item(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            write!(f, "{outer}.")?;
        }
        match self.segment {
            Segment::Member(name) => f.write_str(name),
            Segment::Item(index) => write!(f, "{index}"),
        }
    }
}

/// A value that lies in so many objects and lists.
#[derive(Clone, Copy)]
struct At<'a> {
    reading: &'a Reading,
    path: Path<'a>,
    depth: u32,
}

impl At<'_> {
    /// The place of a value in this one.
    fn inside<'a>(&'a self, segment: Segment<'a>) -> At<'a> {
        let path = Path {
            outer: Some(&self.path),
            segment,
        };
        At {
            reading: self.reading,
            path,
            depth: self.depth + 1,
        }
    }

    /// Tells whether anything may lie in this value.
    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < DATA_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("data is nested deeper than {DATA_DEPTH_MAX} levels");
        Err(E::custom(message))
    }

    fn integer(&self, magnitude: u64, value: f64) -> Kind {
        if magnitude > INTEGER_EXACT_MAX {
            self.reading
                .complain(&self.path, "is an integer beyond ±2^53");
        }
        Kind::NumberValue(value)
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(self.integer(value, value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(self.integer(value.unsigned_abs(), value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::StringValue(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut values = Vec::new();
        while let Some(kind) = list.next_element_seed(self.inside(Segment::Item(values.len())))? {
            values.push(Value { kind: Some(kind) });
        }
        Ok(Kind::ListValue(ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        self.check_depth::<A::Error>()?;
        let mut fields = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !self.reading.takes_key() {
                let most = self.reading.keys_max;
                return Err(A::Error::custom(format!(
                    "more than {most} members in data"
                )));
            }
            let inside = self.inside(Segment::Member(&name));
            let kind = map.next_value_seed(inside)?;
            if fields.contains_key(&name) {
                self.reading.complain(&inside.path, "is there twice");
            }
            fields.insert(name, Value { kind: Some(kind) });
        }
        Ok(Kind::StructValue(Struct { fields }))
    }
}
