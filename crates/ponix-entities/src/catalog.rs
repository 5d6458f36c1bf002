//! All entities of a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ponix_wire::message::Format;

use crate::derivation::Derivation;
use crate::document::EntityType;
use crate::field::Field;
use crate::load;
use crate::loader::LoadErrors;
use crate::table::{Table, TableIndex};

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

    /// Reads files that are in memory already, each with the path that errors name.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, line and column.
    pub fn from_files(
        files: impl IntoIterator<Item = (PathBuf, String)>,
    ) -> Result<Self, LoadErrors> {
        load::from_files(files)
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

    /// Returns the table at a position, as [`Row::table`](crate::Row::table) names it.
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
