//! What the server says of a table.

use clickhouse::Row;
use serde::Deserialize;

use crate::Client;
use crate::error::RequestError;
use crate::layout::literal;

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) engine: String,
    /// Of a `Distributed` table: what it stands in front of. The keys are then those of the tables there.
    pub(super) distributed: Option<Distributed>,
    pub(super) sorting_key: String,
    pub(super) partition_key: String,
    pub(super) columns: Vec<DescribedColumn>,
}

/// What a `Distributed` table says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distributed {
    /// Engine of the table behind it on this server, `None` if there is none.
    pub(super) engine: Option<String>,
    /// Empty where rows can go to one shard only.
    pub(super) sharding_key: String,
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
            engine_full: String,
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
        let find = async |database: &str, name: &str| {
            let sql = format!(
                "SELECT engine, engine_full, sorting_key, partition_key FROM system.tables \
                 WHERE database = {database} AND name = {name}"
            );
            let mut found: Vec<Found> = client.fetch_all(&sql).await?;
            Ok::<_, RequestError>(found.pop())
        };
        let Some(mut found) = find(&database, &name).await? else {
            return Ok(None);
        };
        let mut distributed = None;
        if let Some(behind) = Behind::read(&found.engine_full) {
            let local = find(&behind.database, &behind.table).await?;
            distributed = Some(Distributed {
                engine: local.as_ref().map(|local| local.engine.clone()),
                sharding_key: behind.sharding_key,
            });
            if let Some(local) = local {
                (found.sorting_key, found.partition_key) = (local.sorting_key, local.partition_key);
            }
        }
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
            distributed,
            sorting_key: found.sorting_key,
            partition_key: found.partition_key,
            columns: columns.collect(),
        }))
    }

    /// Tells whether its engine makes copies of a row one.
    pub(super) fn merges_copies(&self) -> bool {
        let engine = self.storing_engine();
        let plain = engine.strip_prefix("Replicated");
        let plain = plain.or_else(|| engine.strip_prefix("Shared"));
        plain.unwrap_or(engine) == "ReplacingMergeTree"
    }

    /// Returns the engine of the table that rows end in.
    pub(super) fn storing_engine(&self) -> &str {
        let behind = self.distributed.as_ref();
        let behind = behind.and_then(|behind| behind.engine.as_deref());
        behind.unwrap_or(&self.engine)
    }

    pub(super) fn column(&self, name: &str) -> Option<&DescribedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The table behind a `Distributed` one; names as SQL takes them in a comparison.
#[derive(Debug, PartialEq, Eq)]
struct Behind {
    database: String,
    table: String,
    sharding_key: String,
}

impl Behind {
    /// Reads `Distributed('cluster', 'database', 'table', key, 'policy')`.
    fn read(engine: &str) -> Option<Self> {
        let arguments = engine.strip_prefix("Distributed(")?;
        let mut parts = parts(arguments).into_iter().skip(1);
        let (database, table) = (parts.next()?, parts.next()?);
        let database = if database == "''" {
            "currentDatabase()".to_owned()
        } else {
            database
        };
        Some(Self {
            database,
            table,
            sharding_key: parts.next().unwrap_or_default(),
        })
    }
}

/// Splits arguments at their commas, up to the parenthesis that ends them.
fn parts(arguments: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut open, mut quote, mut escaped) = (0, None, false);
    for character in arguments.chars() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(end), _) if character == end => quote = None,
            (None, '\'' | '`' | '"') => quote = Some(character),
            (None, '(' | '[') => open += 1,
            (None, ')' | ']') if open == 0 => break,
            (None, ')' | ']') => open -= 1,
            (None, ',') if open == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is one").push(character);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distributed_table_tells_what_is_behind_it() {
        let read = Behind::read(
            "Distributed('eu', 'p', 'it\\'s, (local)', sipHash64(a, `b)`), 'policy') SETTINGS x = 1",
        );
        let behind = Behind {
            database: "'p'".into(),
            table: "'it\\'s, (local)'".into(),
            sharding_key: "sipHash64(a, `b)`)".into(),
        };
        assert_eq!(read, Some(behind));
        let bare = Behind::read("Distributed('eu', '', 't')").expect("it is one");
        assert_eq!(
            (&*bare.database, &*bare.sharding_key),
            ("currentDatabase()", "")
        );
        assert_eq!(Behind::read("ReplacingMergeTree(v) ORDER BY a"), None);
    }
}
