//! Reads through a JSON message without building it.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::error::ApiError;

/// Levels of objects and arrays at most.
const DEPTH_MAX: usize = 32;

/// The top-level members that are no fields of an entity.
#[derive(Debug, Default)]
pub(super) struct TopLevel {
    pub(super) message_id: Option<String>,
    pub(super) entity_type: Option<String>,
}

/// Checks a whole text and returns what its top level says.
pub(super) fn read(text: &str, keys_max: usize) -> Result<TopLevel, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut keys = 0;
    let seed = ObjectSeed(Walk {
        depth: 1,
        keys_max,
        keys: &mut keys,
    });
    seed.deserialize(&mut deserializer)
        .and_then(|top| deserializer.end().map(|()| top))
        .map_err(|err| ApiError::bad("invalid_json", err.to_string()))
}

/// How far the reading is.
struct Walk<'a> {
    depth: usize,
    keys_max: usize,
    keys: &'a mut usize,
}

impl Walk<'_> {
    fn deeper<E: Error>(&mut self) -> Result<Walk<'_>, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("more than {DEPTH_MAX} levels")));
        }
        Ok(Walk {
            depth: self.depth + 1,
            keys_max: self.keys_max,
            keys: self.keys,
        })
    }

    fn key<E: Error>(&mut self, seen: &mut HashSet<String>, key: &str) -> Result<(), E> {
        *self.keys += 1;
        if *self.keys > self.keys_max {
            return Err(E::custom(format_args!("more than {} keys", self.keys_max)));
        }
        check_text(key)?;
        if seen.insert(key.to_owned()) {
            return Ok(());
        }
        let shown: String = key.chars().take(64).collect();
        Err(E::custom(format_args!("duplicate key {shown:?}")))
    }
}

fn check_text<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(E::custom("a text has NUL, which cannot be stored"));
    }
    Ok(())
}

struct ObjectSeed<'a>(Walk<'a>);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = TopLevel;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TopLevel, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = TopLevel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<TopLevel, A::Error> {
        let mut top = TopLevel::default();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            self.0.key(&mut seen, &key)?;
            match key.as_str() {
                "message_id" => top.message_id = map.next_value()?,
                "entity_type" => top.entity_type = map.next_value()?,
                _ => map.next_value_seed(ValueSeed(&mut self.0))?,
            }
        }
        Ok(top)
    }
}

struct ValueSeed<'a, 'b>(&'a mut Walk<'b>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        check_text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut inner = self.0.deeper()?;
        while seq.next_element_seed(ValueSeed(&mut inner))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut inner = self.0.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            inner.key(&mut seen, &key)?;
            map.next_value_seed(ValueSeed(&mut inner))?;
        }
        Ok(())
    }
}
