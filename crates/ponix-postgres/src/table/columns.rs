//! The columns of a table, as the database has them.

use ponix_entities::quoted;

use super::{TableConfig, UnknownFields, quoted_table};
use crate::{EntitiesError, ErrorKind, Postgres, StoreError};

/// The column of the fields that no other takes.
const DATA: &str = "data";

/// A table that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// It is not there.
    #[error("there is no table {table}: make it, or declare its columns with `schema: create`")]
    Missing {
        /// Its name.
        table: String,
    },
    /// It is not as declared.
    #[error("table {table}: {problem}")]
    Differs {
        /// Its name.
        table: String,
        /// What differs, and what to do.
        problem: String,
    },
    /// It cannot be made or extended.
    #[error("table {table} cannot be made as declared")]
    Make {
        /// Its name.
        table: String,
        /// Why not.
        #[source]
        source: EntitiesError,
    },
    /// The database does not answer.
    #[error("the table cannot be looked at")]
    Store(#[from] StoreError),
}

impl TableError {
    /// Tells whether the same can succeed later.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Differs { .. } => ErrorKind::Fatal,
            Self::Make { source, .. } => source.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

/// A column that takes a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its type as SQL writes it.
    pub(super) sql_type: String,
    /// Whether an event may come without the field.
    pub(super) optional: bool,
    /// Whether the database has a value where none comes.
    pub(super) has_default: bool,
    pub(super) is_json: bool,
    pub(super) is_array: bool,
}

/// A table as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) config: TableConfig,
    /// Quoted.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Place of the column that takes what no other takes.
    pub(super) data: Option<usize>,
}

impl Table {
    /// Makes or extends the table where its columns are declared, and reads those that it has.
    pub(super) async fn prepare(
        postgres: &Postgres,
        config: TableConfig,
    ) -> Result<Self, TableError> {
        let table = config.table.clone();
        if let Some(ddl) = config.ddl() {
            if table.contains('.') {
                let problem =
                    "a table in a named schema is not made: make it, and leave the columns out"
                        .into();
                return Err(TableError::Differs { table, problem });
            }
            let made = postgres.extend_tables(&[&table], &ddl).await;
            made.map_err(|source| match source {
                EntitiesError::Store(error) if error.kind() == ErrorKind::Transient => error.into(),
                source => TableError::Make {
                    table: table.clone(),
                    source,
                },
            })?;
        }
        let columns = postgres
            .within(columns(postgres, &quoted_table(&table)))
            .await?;
        if columns.is_empty() {
            return Err(TableError::Missing { table });
        }
        let data = columns
            .iter()
            .position(|column| column.name == DATA && column.is_json);
        let data = data.filter(|_| config.unknown_fields == UnknownFields::JsonColumn);
        if data.is_none() && config.unknown_fields == UnknownFields::JsonColumn {
            let problem = format!(
                "unknown_fields: json_column needs a column {} of type json or jsonb",
                quoted(DATA)
            );
            return Err(TableError::Differs { table, problem });
        }
        Ok(Self {
            name: quoted_table(&table),
            config,
            columns,
            data,
        })
    }
}

/// Returns the columns that can be written, none when there is no such table.
async fn columns(postgres: &Postgres, table: &str) -> Result<Vec<Column>, StoreError> {
    const SQL: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
         a.attnotnull, a.atthasdef OR a.attidentity <> '', t.typname IN ('json', 'jsonb'), \
         t.typcategory = 'A' \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.attgenerated = '' AND a.attidentity <> 'a' ORDER BY a.attnum";
    let client = postgres.client().await?;
    let rows = client.query(SQL, &[&table]).await?;
    let columns = rows.iter().map(|row| {
        let (not_null, has_default): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Column {
            name: row.try_get(0)?,
            sql_type: row.try_get(1)?,
            optional: !not_null || has_default,
            has_default,
            is_json: row.try_get(4)?,
            is_array: row.try_get(5)?,
        })
    });
    let columns = columns.collect::<Result<_, StoreError>>()?;
    client.give_back();
    Ok(columns)
}
