//! What a request says beside its statement: database, roles and settings, for this statement alone.

use crate::engine::{quote_name, quote_text};
use crate::exception::Exception;
use crate::ffi::Connection;
use crate::native;
use crate::request::Parameters;

/// The surroundings of a statement, and what takes them back.
///
/// A connection that ends with its statement takes everything with it. That of a session goes on, so what it had
/// before is read first and set again afterwards.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    undo: Vec<String>,
}

impl Surroundings {
    /// Sets what `parameters` say; an unknown database or setting is the engine's own exception.
    pub(crate) fn enter(
        connection: &mut Connection,
        parameters: &Parameters,
    ) -> Result<Self, Exception> {
        let mut surroundings = Self::default();
        if parameters.session.is_some() {
            surroundings.undo = undo(connection, parameters)?;
        }
        match set(connection, parameters) {
            Ok(()) => Ok(surroundings),
            Err(exception) => {
                surroundings.leave(connection);
                Err(exception)
            }
        }
    }

    /// Takes back what [`Surroundings::enter`] set.
    pub(crate) fn leave(self, connection: &mut Connection) {
        for statement in self.undo {
            if let Err(error) = connection.query(statement.as_bytes(), "Null", &[]) {
                // `readonly=1` in the URL forbids its own undoing, and then everything in this session.
                tracing::warn!(error, "a session keeps a setting of its last statement");
            }
        }
    }
}

fn set(connection: &mut Connection, parameters: &Parameters) -> Result<(), Exception> {
    if let Some(database) = &parameters.database {
        run(connection, &format!("USE {}", quote_name(database)))?;
    }
    if !parameters.roles.is_empty() {
        let roles: Vec<_> = parameters
            .roles
            .iter()
            .map(|role| quote_name(role))
            .collect();
        run(connection, &format!("SET ROLE {}", roles.join(", ")))?;
    }
    if native::needs_types(parameters.protocol_revision) {
        // The layout of JSON is known as text only, which clickhouse-go takes; what the URL says comes later and wins.
        run(
            connection,
            "SET output_format_native_write_json_as_string = 1",
        )?;
    }
    if !parameters.settings.is_empty() {
        let settings: Vec<_> = parameters
            .settings
            .iter()
            .map(|(name, value)| format!("{} = {}", quote_name(name), quote_text(value)))
            .collect();
        run(connection, &format!("SET {}", settings.join(", ")))?;
    }
    Ok(())
}

/// The statements that bring back the present state of what `parameters` are going to change.
fn undo(connection: &mut Connection, parameters: &Parameters) -> Result<Vec<String>, Exception> {
    let mut undo = Vec::new();
    if parameters.database.is_some() {
        // RowBinary would need its length cut off; RawBLOB is the bytes of the one value.
        let present = query(connection, "SELECT currentDatabase()", "RawBLOB")?;
        undo.push(format!("USE {}", quote_name(&present)));
    }
    if !parameters.settings.is_empty() {
        let names: Vec<_> = parameters
            .settings
            .iter()
            .map(|(name, _)| quote_text(name))
            .collect();
        let statement = format!(
            "SELECT name, changed, value FROM system.settings WHERE name IN ({})",
            names.join(", ")
        );
        let present = query(connection, &statement, "TabSeparated")?;
        let assignments: Vec<_> = present.lines().filter_map(assignment).collect();
        if !assignments.is_empty() {
            undo.push(format!("SET {}", assignments.join(", ")));
        }
    }
    Ok(undo)
}

/// `name = value` from a line of `name, changed, value`. The escapes of TabSeparated are those of a string literal.
fn assignment(line: &str) -> Option<String> {
    let mut fields = line.split('\t');
    let (name, changed, value) = (fields.next()?, fields.next()?, fields.next()?);
    Some(if changed == "1" {
        format!("`{name}` = '{value}'")
    } else {
        format!("`{name}` = DEFAULT")
    })
}

fn run(connection: &mut Connection, statement: &str) -> Result<(), Exception> {
    query(connection, statement, "Null").map(drop)
}

fn query(connection: &mut Connection, statement: &str, format: &str) -> Result<String, Exception> {
    let result = connection
        .query(statement.as_bytes(), format, &[])
        .map_err(Exception::from_engine)?;
    Ok(String::from_utf8_lossy(result.as_ref()).into_owned())
}
