//! Names that PostgreSQL takes without surprises.

use serde_saphyr::Spanned;

use super::{Complaints, NAME_BYTES_MAX};

/// Columns that every table of PostgreSQL has.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];
/// How the tables begin that are the system's or Ponix's own.
const OWN_TABLES: [&str; 4] = [
    "message_claims",
    "message_status",
    "pg_",
    "refinery_schema_history",
];

/// Checks the name of a table.
pub(super) fn table(name: &Spanned<String>, complaints: &mut Complaints<'_>) {
    identifier(name, "table", complaints);
    if OWN_TABLES.iter().any(|own| name.value.starts_with(own)) {
        complaints.at(
            name,
            format!("table {:?} is a name that is in use already", name.value),
        );
    }
}

/// Checks the name of a column.
pub(super) fn column(name: &Spanned<String>, what: &str, complaints: &mut Complaints<'_>) {
    identifier(name, what, complaints);
    if SYSTEM_COLUMNS.contains(&name.value.as_str()) {
        complaints.at(
            name,
            format!(
                "{what} {:?} is a column that every table has already",
                name.value
            ),
        );
    }
}

/// Checks a name of any use.
pub(super) fn identifier(name: &Spanned<String>, what: &str, complaints: &mut Complaints<'_>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let text = &name.value;
    if !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(plain)
        || text.len() > NAME_BYTES_MAX
    {
        complaints.at(
            name,
            format!(
                "{what} {text:?} must be 1 to {NAME_BYTES_MAX} lower-case letters, digits or '_', a letter first"
            ),
        );
    }
}
