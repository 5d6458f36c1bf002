//! An entity as it stands in its YAML file.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_saphyr::Spanned;

use crate::loader::{self, API_VERSION};

/// The only `kind` there is.
const KIND: &str = "Entity";

/// A file that declares one entity.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Ponix entity")]
pub(crate) struct Document {
    /// `ponix.dev/v1`.
    #[schemars(with = "String", extend("const" = API_VERSION))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(crate) api_version: Spanned<String>,
    /// `Entity`.
    #[schemars(with = "String", extend("const" = KIND))]
    #[expect(dead_code, reason = "checked with the shape of the document")]
    pub(crate) kind: Spanned<String>,
    /// What the entity is called.
    pub(crate) metadata: Metadata,
    /// What it is.
    pub(crate) spec: Spec,
}

/// What the entity is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    /// Letters and digits, an upper-case letter first: `OrderLineItem`.
    #[schemars(with = "String", regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub(crate) name: Spanned<String>,
    /// What it stands for.
    #[serde(default)]
    pub(crate) doc: Option<String>,
}

/// What an entity is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Where its rows come from.
    #[serde(rename = "type")]
    pub(crate) kind: EntityType,
    /// First value of its text lines: `O` for `O|…`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) prefix: Option<Spanned<String>>,
    /// Its fields, in the order of the values of a line.
    pub(crate) fields: Vec<Field>,
    /// Lists of objects that a JSON message may carry for derived entities; they are no fields.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) lists: Vec<Spanned<String>>,
    /// How its rows are made of a parent's message; for `derived` alone.
    #[serde(default)]
    pub(crate) derivation: Option<Derivation>,
    /// Where its rows are kept.
    pub(crate) persistence: Persistence,
}

/// Where the rows of an entity come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntityType {
    /// From messages of its own; others may be derived from them.
    Root,
    /// From the messages of a parent, and from lines of its own if it has a prefix.
    Derived,
    /// From messages of its own; others refer to it.
    Reference,
}

/// One field.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    /// Lower-case letters, digits and `_`, a letter first. Also the name of its column.
    #[schemars(with = "String", regex(pattern = "^[a-z][a-z0-9_]{0,62}$"))]
    pub(crate) name: Spanned<String>,
    /// What it holds.
    #[serde(rename = "type")]
    pub(crate) kind: TypeName,
    /// Digits of a Decimal, 1 to 28.
    #[serde(default)]
    #[schemars(with = "Option<u8>")]
    pub(crate) precision: Option<Spanned<u8>>,
    /// Digits of a Decimal behind the point.
    #[serde(default)]
    #[schemars(with = "Option<u8>")]
    pub(crate) scale: Option<Spanned<u8>>,
    /// Whether there may be none.
    #[serde(default)]
    pub(crate) nullable: bool,
    /// What it stands for.
    #[serde(default)]
    pub(crate) doc: Option<String>,
    /// What its values must be.
    #[serde(default)]
    pub(crate) constraints: Constraints,
}

/// The types of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum TypeName {
    String,
    Integer,
    Float,
    Decimal,
    Boolean,
    Date,
    DateTime,
    Json,
}

/// What the values of a field must be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Constraints {
    /// Characters of a String at most.
    #[serde(default)]
    #[schemars(with = "Option<u32>")]
    pub(crate) max_length: Option<Spanned<u32>>,
    /// Least value of a number.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub(crate) minimum: Option<Spanned<Json>>,
    /// Greatest value of a number.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub(crate) maximum: Option<Spanned<Json>>,
    /// Regular expression that a String must match as a whole.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) pattern: Option<Spanned<String>>,
    /// The only values there are.
    #[serde(default, rename = "enum")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) one_of: Option<Spanned<Vec<String>>>,
    /// The value when a message has none.
    #[serde(default)]
    #[schemars(with = "Option<Json>")]
    pub(crate) default: Option<Spanned<Json>>,
}

/// How the rows of a derived entity are made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Derivation {
    /// The entity whose messages it comes from.
    #[schemars(with = "String")]
    pub(crate) parent: Spanned<String>,
    /// The parent's list: one row for each of its items. One row per message without.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) repeated_for: Option<Spanned<String>>,
    /// Where the fields come from; a field that is not here comes from the item's of its name.
    #[serde(default)]
    pub(crate) fields: std::collections::BTreeMap<String, Origin>,
    /// Rows for which one of these does not hold are not made.
    #[serde(default)]
    pub(crate) when: Vec<Condition>,
}

/// Where a derived field comes from: just one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// A field of the parent.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) parent: Option<Spanned<String>>,
    /// A member of the list's item.
    #[serde(default)]
    pub(crate) item: Option<String>,
    /// Always the same.
    #[serde(default)]
    #[schemars(with = "Option<Json>")]
    pub(crate) constant: Option<Spanned<Json>>,
}

/// What must hold for a row to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// The derived entity's field that is looked at.
    #[schemars(with = "String")]
    pub(crate) field: Spanned<String>,
    /// It must be one of these texts.
    #[serde(default, rename = "in")]
    pub(crate) one_of: Option<Vec<String>>,
    /// It must not be one of these texts.
    #[serde(default)]
    pub(crate) not_in: Option<Vec<String>>,
    /// Whether it must be there, or must not.
    #[serde(default)]
    pub(crate) present: Option<bool>,
}

/// Where the rows of an entity are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Persistence {
    /// The table.
    #[schemars(with = "String", regex(pattern = "^[a-z][a-z0-9_]{0,62}$"))]
    pub(crate) table: Spanned<String>,
    /// The column of the row's own id, a UUID.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) id_column: Option<Spanned<String>>,
    /// Lists of fields that together occur once.
    #[serde(default)]
    #[schemars(with = "Vec<Vec<String>>")]
    pub(crate) unique: Vec<Vec<Spanned<String>>>,
    /// Fields that refer to unique fields of another entity.
    #[serde(default)]
    pub(crate) foreign_keys: Vec<Reference>,
    /// Lists of fields that are looked up together.
    #[serde(default)]
    #[schemars(with = "Vec<Vec<String>>")]
    pub(crate) indexes: Vec<Vec<Spanned<String>>>,
}

/// Fields that refer to unique fields of another entity.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    /// The fields here.
    #[schemars(with = "Vec<String>")]
    pub(crate) fields: Vec<Spanned<String>>,
    /// The other entity.
    #[schemars(with = "String")]
    pub(crate) entity: Spanned<String>,
    /// Its fields.
    #[schemars(with = "Vec<String>")]
    pub(crate) references: Vec<Spanned<String>>,
}

/// Returns the JSON schema of a file, for editors.
pub fn schema() -> String {
    loader::schema::<Document>()
}
