//! What a table is like, as PostgreSQL tells.

use std::collections::BTreeMap;

use tokio_postgres::Transaction;

use crate::StoreError;

/// What a table is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// In the order of the table.
    pub(super) columns: Vec<Column>,
    pub(super) indexes: Vec<Index>,
    pub(super) constraints: Vec<Constraint>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// As `format_type` writes it, `character varying(10)` for instance.
    pub(super) sql_type: String,
    pub(super) nullable: bool,
    pub(super) default: Option<String>,
}

/// A key or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) unique: bool,
    pub(super) primary: bool,
    pub(super) columns: Vec<String>,
}

/// A foreign key or check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraint {
    pub(super) name: String,
    /// As `pg_get_constraintdef` writes it, without schemas.
    pub(super) definition: String,
}

/// Reads the tables of a schema that are there, by name, in the order in which they were asked for.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    schema: &str,
    tables: &[&str],
) -> Result<Vec<(String, Shape)>, StoreError> {
    const COLUMNS: &str = "SELECT t.relname::text, a.attname::text, \
         format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
         pg_get_expr(d.adbin, d.adrelid) \
         FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid \
         LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum \
         WHERE t.relnamespace = to_regnamespace(quote_ident($1)) AND t.relname = ANY($2) \
         AND t.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY t.relname, a.attnum";
    const INDEXES: &str = "SELECT t.relname::text, i.relname::text, x.indisunique, \
         x.indisprimary, array_agg(a.attname::text ORDER BY k.place) \
         FROM pg_class t JOIN pg_index x ON x.indrelid = t.oid \
         JOIN pg_class i ON i.oid = x.indexrelid \
         CROSS JOIN UNNEST(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum \
         WHERE t.relnamespace = to_regnamespace(quote_ident($1)) AND t.relname = ANY($2) \
         AND x.indpred IS NULL AND x.indexprs IS NULL \
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 4 DESC, 2";
    const CONSTRAINTS: &str = "SELECT t.relname::text, c.conname::text, pg_get_constraintdef(c.oid) \
         FROM pg_class t JOIN pg_constraint c ON c.conrelid = t.oid \
         WHERE t.relnamespace = to_regnamespace(quote_ident($1)) AND t.relname = ANY($2) \
         AND c.contype IN ('c', 'f') ORDER BY 1, 2";

    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for row in transaction.query(COLUMNS, &[&schema, &tables]).await? {
        let shape = shapes.entry(row.try_get(0)?).or_default();
        shape.columns.push(Column {
            name: row.try_get(1)?,
            sql_type: row.try_get(2)?,
            nullable: row.try_get(3)?,
            default: row.try_get(4)?,
        });
    }
    for row in transaction.query(INDEXES, &[&schema, &tables]).await? {
        let shape = shapes.entry(row.try_get(0)?).or_default();
        shape.indexes.push(Index {
            name: row.try_get(1)?,
            unique: row.try_get(2)?,
            primary: row.try_get(3)?,
            columns: row.try_get(4)?,
        });
    }
    for row in transaction.query(CONSTRAINTS, &[&schema, &tables]).await? {
        let shape = shapes.entry(row.try_get(0)?).or_default();
        let definition: String = row.try_get(2)?;
        shape.constraints.push(Constraint {
            name: row.try_get(1)?,
            definition: without_schema(&definition, schema),
        });
    }
    let found = tables
        .iter()
        .filter_map(|table| shapes.remove_entry(*table));
    Ok(found.collect())
}

/// A foreign key names the schema of the table it refers to, where that is not on the search path.
fn without_schema(definition: &str, schema: &str) -> String {
    definition
        .replace(&format!("REFERENCES {schema}."), "REFERENCES ")
        .replace("REFERENCES pg_temp.", "REFERENCES ")
}
