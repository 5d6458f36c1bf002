//! The rows of a table that nobody has asked a server for.

use ponix_sink::Record;
use serde_json::{Map, Value};

use super::described::{DefaultKind, Described, DescribedColumn};
use super::plan::plan;
use super::rows::Rows;
use super::{TableConfig, TableError, ddl};
use crate::encode::BatchLimits;

/// Tells what becomes of records in a table as it is declared, without a server.
#[derive(Debug, Clone)]
pub struct DeclaredRows(Rows);

impl DeclaredRows {
    /// Takes the declared columns, and those that the sink fills.
    ///
    /// # Errors
    /// As [`TableConfig::ddl`].
    pub fn new(config: &TableConfig) -> Result<Self, TableError> {
        config.ddl()?;
        let declared = config.columns.as_deref().unwrap_or_default();
        let columns = ddl::columns(config, declared).into_iter();
        let columns = columns.map(|(name, type_text)| DescribedColumn {
            name,
            type_text,
            default_kind: DefaultKind::None,
            default_expression: String::new(),
        });
        let table = Described {
            engine: String::new(),
            distributed: None,
            sorting_key: String::new(),
            partition_key: String::new(),
            columns: columns.collect(),
        };
        Ok(Self(plan(config, &table)?))
    }

    /// Returns the row of a record: the value of each column, as JSON.
    ///
    /// # Errors
    /// Why the record would be rejected, with path, value and type.
    pub fn row(&self, record: &Record) -> Result<Map<String, Value>, String> {
        let limits = BatchLimits {
            rows_max: 1,
            bytes_max: usize::MAX,
            months_max: 1,
        };
        let mut encoded = self.0.encode(std::slice::from_ref(record), limits);
        match encoded.misfits.pop() {
            Some((_, misfit)) => Err(misfit.to_string()),
            None => Ok(self.0.shown(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::table::{Delivery, Identity, Schema, UnknownFields};

    #[test]
    fn a_row_is_shown_or_its_misfit() {
        let column = |name: &str, type_text: &str| (name.to_owned(), type_text.to_owned());
        let config = TableConfig {
            database: None,
            table: "t".into(),
            columns: Some(vec![
                column("meter", "String"),
                column("note", "Nullable(String)"),
            ]),
            identity: Identity::Message,
            partition_by: None,
            unknown_fields: UnknownFields::JsonColumn,
            schema: Schema::Create,
            delivery: Delivery::ExactlyOnce,
        };
        let rows = DeclaredRows::new(&config).expect("it does");
        let record = |fields: Value| Record {
            fields: fields.as_object().expect("an object").clone(),
            identity: Uuid::nil(),
            published_at_ns: 5,
            stream_sequence: 7,
        };
        assert_eq!(
            rows.row(&record(json!({"meter": "m", "x": 1})))
                .map(Value::Object),
            Ok(json!({
                "meter": "m",
                "note": null,
                "data": {"x": 1},
                "event_id": Uuid::nil(),
                "published_at": 5,
                "stream_sequence": 7
            }))
        );
        assert_eq!(
            rows.row(&record(json!({"meter": null}))),
            Err("meter: null does not fit String: it is not Nullable".into())
        );
    }
}
