//! The event that a program works on, and how large it may become.

use std::cell::Cell;

use uuid::Uuid;
use vrl::compiler::{SecretTarget, Target};
use vrl::path::{OwnedTargetPath, PathPrefix};
use vrl::value::kind::{Collection, Field};
use vrl::value::{Kind, ObjectMap, Value};

use super::size;
use crate::decode::{FieldMap, Message};

/// How large an event may become, and whether it wanted more.
#[derive(Debug)]
pub(super) struct Limit {
    bytes_max: usize,
    is_exceeded: Cell<bool>,
}

impl Limit {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            is_exceeded: Cell::new(false),
        }
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }

    fn exceed(&self) -> String {
        self.is_exceeded.set(true);
        format!("more than {} bytes", self.bytes_max)
    }
}

/// The fields of an event as `.`, and what is known of its message as `%`.
#[derive(Debug)]
pub(super) struct Event<'a> {
    value: Value,
    metadata: Value,
    bytes: usize,
    limit: &'a Limit,
}

/// What `%subject`, `%identity` and `%published_at` are.
pub(super) fn metadata_kind() -> Kind {
    let known = [
        ("subject", Kind::bytes()),
        ("identity", Kind::bytes()),
        ("published_at", Kind::timestamp()),
    ];
    let known = known.map(|(name, kind)| (Field::from(name), kind));
    Kind::object(Collection::from_parts(known.into(), Kind::undefined()))
}

impl<'a> Event<'a> {
    pub(super) fn new(
        fields: FieldMap,
        message: &Message<'_>,
        identity: Uuid,
        limit: &'a Limit,
    ) -> Self {
        let value = Value::from(serde_json::Value::Object(fields));
        let published_at = chrono::DateTime::from_timestamp_nanos(message.published_at_ns);
        let metadata: ObjectMap = [
            ("subject", Value::from(message.subject)),
            ("identity", Value::from(identity.to_string())),
            ("published_at", Value::Timestamp(published_at)),
        ]
        .map(|(name, value)| (name.into(), value))
        .into();
        Self {
            bytes: size(&value),
            value,
            metadata: Value::Object(metadata),
            limit,
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.value
    }
}

impl Target for Event<'_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        if path.prefix == PathPrefix::Metadata {
            return Err("the metadata cannot be changed".to_owned());
        }
        let before = self.value.get(&path.path).map_or(0, size);
        // What lies on the way to the value counts too.
        let way = 16 * path.path.segments.len();
        self.bytes = self.bytes.saturating_sub(before) + size(&value);
        if before == 0 {
            self.bytes += way;
        }
        if self.bytes > self.limit.bytes_max {
            return Err(self.limit.exceed());
        }
        self.value.insert(&path.path, value);
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(match path.prefix {
            PathPrefix::Event => self.value.get(&path.path),
            PathPrefix::Metadata => self.metadata.get(&path.path),
        })
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        match path.prefix {
            PathPrefix::Event => Ok(self.value.get_mut(&path.path)),
            PathPrefix::Metadata => Err("the metadata cannot be changed".to_owned()),
        }
    }

    fn target_remove(
        &mut self,
        path: &OwnedTargetPath,
        compact: bool,
    ) -> Result<Option<Value>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Err("the metadata cannot be changed".to_owned());
        }
        let removed = self.value.remove(&path.path, compact);
        self.bytes = self.bytes.saturating_sub(removed.as_ref().map_or(0, size));
        Ok(removed)
    }
}

/// There are none.
impl SecretTarget for Event<'_> {
    fn get_secret(&self, _: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _: &str, _: &str) {}

    fn remove_secret(&mut self, _: &str) {}
}
