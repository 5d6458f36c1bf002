//! All entities of a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ponix_wire::message::Format;

use crate::derivation::Derivation;
use crate::document::EntityType;
use crate::field::Field;
use crate::load;
use crate::loader::LoadErrors;
use crate::message::{MessageError, shown_name};
use crate::table::{Table, TableIndex};

/// More known names than these are not shown in an error.
const NAMES_SHOWN_MAX: usize = 20;

/// All declared entities.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Referenced ones first; the position is the table's.
    pub(crate) entities: Vec<Entity>,
    pub(crate) by_name: HashMap<String, usize>,
    pub(crate) by_prefix: HashMap<String, usize>,
    /// The entity of JSON messages that name none.
    pub(crate) default: Option<usize>,
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

    /// Sets the entity of JSON messages that name none.
    ///
    /// # Errors
    /// There is no such entity.
    pub fn with_default(mut self, name: &str) -> Result<Self, MessageError> {
        self.default = Some(self.position(name)?);
        Ok(self)
    }

    /// Tells which entity a message is of, without reading all of it: by `hint`, by its prefix, or
    /// by the member `entity_type`. Names count in any case.
    ///
    /// # Errors
    /// There is none; the reason has those that are known.
    pub fn identify(
        &self,
        format: Format,
        payload: &[u8],
        hint: Option<&str>,
    ) -> Result<&str, MessageError> {
        let named = match (hint, format) {
            (Some(hint), _) => self.position(hint),
            (None, Format::Line) => self.position_of_prefix(prefix_of(payload).unwrap_or_default()),
            (None, Format::Json) => match entity_type_of(payload) {
                Some(name) => self.position(&name),
                None => self.default_position(),
            },
        };
        named.map(|index| self.entities[index].name.as_str())
    }

    /// The position of the entity of a name, in any case.
    pub(crate) fn position(&self, name: &str) -> Result<usize, MessageError> {
        let same = |entity: &Entity| entity.name.eq_ignore_ascii_case(name);
        let found = self.by_name.get(name).copied();
        found
            .or_else(|| self.entities.iter().position(same))
            .ok_or_else(|| {
                let (name, known) = (shown_name(name), self.names());
                let reason = format!("there is no entity {name:?}, known are {known}");
                MessageError::at("entity_type", reason)
            })
    }

    /// The position of the entity of JSON messages that name none.
    pub(crate) fn default_position(&self) -> Result<usize, MessageError> {
        self.default.ok_or_else(|| {
            let reason = format!("is missing, known are {}", self.names());
            MessageError::at("entity_type", reason)
        })
    }

    /// The position of the entity of a prefix.
    pub(crate) fn position_of_prefix(&self, prefix: &str) -> Result<usize, MessageError> {
        self.by_prefix.get(prefix).copied().ok_or_else(|| {
            let known = shown_list(self.entities.iter().filter_map(Entity::prefix));
            MessageError::new(format!(
                "no entity has the prefix {:?}, known are {known}",
                shown_name(prefix)
            ))
        })
    }

    fn names(&self) -> String {
        shown_list(self.entities.iter().map(Entity::name))
    }
}

/// The first of some names: an error is a header of a dead letter, too.
fn shown_list<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let shown: Vec<&str> = names.clone().take(NAMES_SHOWN_MAX).collect();
    let more = names.count() - shown.len();
    let shown = shown.join(", ");
    if more == 0 {
        return shown;
    }
    format!("{shown} and {more} more")
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
