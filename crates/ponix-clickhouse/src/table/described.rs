//! What the server says of a table.

use clickhouse::Row;
use serde::Deserialize;

use crate::Client;
use crate::error::RequestError;

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) engine: String,
    pub(super) sorting_key: String,
    pub(super) partition_key: String,
    pub(super) columns: Vec<DescribedColumn>,
}

/// A column as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DescribedColumn {
    pub(super) name: String,
    pub(super) type_text: String,
    pub(super) default_kind: DefaultKind,
    /// Empty without a default.
    pub(super) default_expression: String,
}

/// Who gives a column its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultKind {
    /// The INSERT.
    None,
    /// The INSERT, else the table.
    Default,
    /// The table: `MATERIALIZED`, `ALIAS` and `EPHEMERAL`.
    Computed,
}

impl Described {
    /// Asks for a table, `None` if there is none.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub(super) async fn ask(
        client: &Client,
        database: Option<&str>,
        table: &str,
    ) -> Result<Option<Self>, RequestError> {
        #[derive(Row, Deserialize)]
        struct Found {
            engine: String,
            sorting_key: String,
            partition_key: String,
        }
        #[derive(Row, Deserialize)]
        struct FoundColumn {
            name: String,
            type_text: String,
            default_kind: String,
            default_expression: String,
        }
        let name = literal(table);
        let database = database.map_or("currentDatabase()".to_owned(), literal);
        let sql = format!(
            "SELECT engine, sorting_key, partition_key FROM system.tables \
             WHERE database = {database} AND name = {name}"
        );
        let mut found: Vec<Found> = client.fetch_all(&sql).await?;
        let Some(found) = found.pop() else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT name, type AS type_text, default_kind, default_expression \
             FROM system.columns WHERE database = {database} AND table = {name} \
             ORDER BY position"
        );
        let columns: Vec<FoundColumn> = client.fetch_all(&sql).await?;
        let columns = columns.into_iter().map(|column| DescribedColumn {
            name: column.name,
            type_text: column.type_text,
            default_kind: match column.default_kind.as_str() {
                "" => DefaultKind::None,
                "DEFAULT" => DefaultKind::Default,
                _ => DefaultKind::Computed,
            },
            default_expression: column.default_expression,
        });
        Ok(Some(Self {
            engine: found.engine,
            sorting_key: found.sorting_key,
            partition_key: found.partition_key,
            columns: columns.collect(),
        }))
    }

    /// Tells whether its engine makes copies of a row one.
    pub(super) fn merges_copies(&self) -> bool {
        let engine = self.engine.strip_prefix("Replicated");
        let engine = engine.or_else(|| self.engine.strip_prefix("Shared"));
        engine.unwrap_or(&self.engine) == "ReplacingMergeTree"
    }

    pub(super) fn column(&self, name: &str) -> Option<&DescribedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A text as SQL takes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
