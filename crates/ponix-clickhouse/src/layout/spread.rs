//! One statement for one server, as statements for a cluster.

use super::{Layout, literal};

/// Whose copies the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Each shard has rows of its own.
    PerShard,
    /// Every server of the cluster has all rows, whatever its shard.
    Everywhere,
}

/// A statement that cannot be spread over a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpreadError {
    /// It does not begin in a way that is known.
    #[error(
        "{beginning:?} cannot be spread over a cluster: it is none of CREATE TABLE IF NOT EXISTS, CREATE \
         VIEW IF NOT EXISTS, CREATE OR REPLACE VIEW, ALTER TABLE, DROP TABLE IF EXISTS, DROP VIEW IF EXISTS"
    )]
    Unknown {
        /// Its first words.
        beginning: String,
    },
    /// Nothing says which shard a row belongs to.
    #[error("table {table} cannot be spread over shards: it has no ORDER BY (…)")]
    NoSortingKey {
        /// The table.
        table: String,
    },
}

/// Where the replicas of a table find each other. The names are macros of each server; a path with the
/// table's UUID would make a server that is added later a replica of nothing.
const PATH_PER_SHARD: &str = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'";
const PATH_EVERYWHERE: &str = "'/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}'";

/// What is behind the name of a table that a `Distributed` one stands in front of.
const LOCAL: &str = "_local";

/// Beginnings of changes that the `Distributed` table has to follow.
const COLUMN_CHANGES: [&str; 5] = [
    "ADD COLUMN",
    "DROP COLUMN",
    "MODIFY COLUMN",
    "RENAME COLUMN",
    "COMMENT COLUMN",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    CreateTable,
    CreateView,
    Alter,
    DropTable,
    DropView,
}

const BEGINNINGS: [(&str, Verb); 6] = [
    ("CREATE TABLE IF NOT EXISTS ", Verb::CreateTable),
    ("CREATE VIEW IF NOT EXISTS ", Verb::CreateView),
    ("CREATE OR REPLACE VIEW ", Verb::CreateView),
    ("ALTER TABLE ", Verb::Alter),
    ("DROP TABLE IF EXISTS ", Verb::DropTable),
    ("DROP VIEW IF EXISTS ", Verb::DropView),
];

impl Layout {
    /// Returns the statements that do on every server what `sql` does on one, in their order.
    ///
    /// Names without a database get `database`, because elsewhere none is set. Each statement is safe to
    /// repeat if `sql` is.
    ///
    /// # Errors
    /// [`SpreadError`], only where the layout is a cluster's or a `Replicated` database's.
    pub fn spread(
        &self,
        database: &str,
        copies: Copies,
        sql: &str,
    ) -> Result<Vec<String>, SpreadError> {
        if *self == Self::Single {
            return Ok(vec![sql.to_owned()]);
        }
        let known = BEGINNINGS
            .iter()
            .find_map(|(words, verb)| Some((*words, *verb, sql.strip_prefix(words)?)));
        let Some((words, verb, rest)) = known else {
            return Err(SpreadError::Unknown {
                beginning: sql.chars().take(40).collect(),
            });
        };
        let (name, rest) = Name::read(rest, database);
        let statement = Statement {
            words,
            verb,
            name,
            rest,
        };
        match self {
            Self::Single => Ok(vec![sql.to_owned()]),
            Self::ReplicatedDatabase => Ok(vec![statement.in_replicated_database(sql)]),
            Self::Replicas { cluster } => {
                Ok(vec![statement.on_cluster(cluster, copies, "", database)])
            }
            Self::Shards { cluster } => statement.over_shards(cluster, copies, database),
        }
    }

    /// Returns the statement that creates the database, if the layout wants it on every server.
    pub(crate) fn create_database(cluster: Option<&str>, database: &str) -> String {
        let on_cluster = cluster.map_or(String::new(), |cluster| {
            format!(" ON CLUSTER {}", quoted(cluster))
        });
        format!(
            "CREATE DATABASE IF NOT EXISTS {}{on_cluster}",
            quoted(database)
        )
    }
}

struct Statement<'a> {
    words: &'static str,
    verb: Verb,
    name: Name,
    rest: &'a str,
}

impl Statement<'_> {
    /// The database says where its replicas meet, and carries the statement to them.
    fn in_replicated_database(&self, sql: &str) -> String {
        match self.verb {
            Verb::CreateTable => replicated(sql, ""),
            _ => sql.to_owned(),
        }
    }

    fn on_cluster(&self, cluster: &str, copies: Copies, suffix: &str, database: &str) -> String {
        let path = match copies {
            Copies::PerShard => PATH_PER_SHARD,
            Copies::Everywhere => PATH_EVERYWHERE,
        };
        let rest = match self.verb {
            Verb::CreateTable => replicated(self.rest, path),
            Verb::CreateView => qualified(self.rest, database),
            Verb::Alter => self.rest.to_owned(),
            // Else the path is taken until the table is gone for good, minutes later.
            Verb::DropTable | Verb::DropView => format!("{} SYNC", self.rest),
        };
        let (words, cluster) = (self.words, quoted(cluster));
        let name = self.name.sql(suffix);
        format!("{words}{name} ON CLUSTER {cluster}{rest}")
    }

    fn over_shards(
        &self,
        cluster: &str,
        copies: Copies,
        database: &str,
    ) -> Result<Vec<String>, SpreadError> {
        let same = |suffix| self.on_cluster(cluster, copies, suffix, database);
        if copies == Copies::Everywhere {
            return Ok(vec![same("")]);
        }
        Ok(match self.verb {
            Verb::CreateView | Verb::DropView => vec![same("")],
            Verb::CreateTable => vec![same(LOCAL), self.distributed(cluster)?],
            Verb::DropTable => vec![same(""), same(LOCAL)],
            Verb::Alter => {
                let change = self.rest.trim_start();
                let columns = COLUMN_CHANGES.iter().any(|words| change.starts_with(words));
                let in_front = columns.then(|| same(""));
                std::iter::once(same(LOCAL)).chain(in_front).collect()
            }
        })
    }

    /// Rows with the same sorting key, which merges make one, have the same shard.
    fn distributed(&self, cluster: &str) -> Result<String, SpreadError> {
        let key = sorting_key(self.rest).ok_or_else(|| SpreadError::NoSortingKey {
            table: self.name.table.clone(),
        })?;
        Ok(format!(
            "{}{} ON CLUSTER {} AS {}\nENGINE = Distributed({}, {}, {}, sipHash64({key}))",
            self.words,
            self.name.sql(""),
            quoted(cluster),
            self.name.sql(LOCAL),
            literal(cluster),
            literal(&self.name.database),
            literal(&format!("{}{LOCAL}", self.name.table)),
        ))
    }
}

/// A table's name, without quotes.
struct Name {
    database: String,
    table: String,
}

impl Name {
    /// Reads a name, and returns what is behind it.
    fn read<'a>(text: &'a str, database: &str) -> (Self, &'a str) {
        let (first, rest) = identifier(text);
        let behind = rest.strip_prefix('.').map(identifier);
        let (database, table, rest) = match behind {
            Some((second, rest)) => (first, second, rest),
            None => (database.to_owned(), first, rest),
        };
        (Self { database, table }, rest)
    }

    fn sql(&self, suffix: &str) -> String {
        let table = format!("{}{suffix}", self.table);
        format!("{}.{}", quoted(&self.database), quoted(&table))
    }
}

/// Reads one identifier, quoted or not, and returns what is behind it.
fn identifier(text: &str) -> (String, &str) {
    let Some(inside) = text.strip_prefix('`') else {
        let plain = |c: char| c.is_alphanumeric() || c == '_';
        let end = text.find(|c| !plain(c)).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut name = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '`' => return (name, &inside[at + 1..]),
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Makes the engine the replicated one, with `path` in front of its arguments.
fn replicated(sql: &str, path: &str) -> String {
    const ENGINE: &str = "ENGINE = ";
    let Some(at) = sql.find(ENGINE) else {
        return sql.to_owned();
    };
    let (head, engine) = sql.split_at(at + ENGINE.len());
    let (name, rest) = identifier(engine);
    if !name.ends_with("MergeTree") || name.starts_with("Replicated") {
        return sql.to_owned();
    }
    let (arguments, rest) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((arguments, rest)) => (arguments.trim(), rest),
        None => ("", rest),
    };
    let comma = if path.is_empty() || arguments.is_empty() {
        ""
    } else {
        ", "
    };
    format!("{head}Replicated{name}({path}{comma}{arguments}){rest}")
}

/// Names the database of the tables that a view reads.
fn qualified(sql: &str, database: &str) -> String {
    const FROM: &str = "\nFROM ";
    let Some((head, tail)) = sql.split_once(FROM) else {
        return sql.to_owned();
    };
    let (name, rest) = Name::read(tail, database);
    format!("{head}{FROM}{}{rest}", name.sql(""))
}

/// Finds what stands in the parentheses of `ORDER BY (…)`.
fn sorting_key(sql: &str) -> Option<&str> {
    let (_, key) = sql.split_once("ORDER BY (")?;
    let mut open = 1;
    for (at, character) in key.char_indices() {
        open += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if open == 0 {
            return Some(&key[..at]);
        }
    }
    None
}

/// A name as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::MigrationFile;

    const TABLE: &str = "CREATE TABLE IF NOT EXISTS t\n(\n    a String,\n    v UInt64\n)\n\
                         ENGINE = ReplacingMergeTree(v)\nPARTITION BY a\nORDER BY (a, toDate(v))";
    const VIEW: &str = "CREATE VIEW IF NOT EXISTS v AS\nSELECT a\nFROM t FINAL\nSETTINGS x = 1";

    fn replicas() -> Layout {
        Layout::Replicas {
            cluster: "eu".into(),
        }
    }

    fn shards() -> Layout {
        Layout::Shards {
            cluster: "eu".into(),
        }
    }

    fn spread(layout: &Layout, sql: &str) -> Vec<String> {
        let spread = layout.spread("p", Copies::PerShard, sql);
        spread.expect("it is known")
    }

    #[test]
    fn one_server_gets_statements_as_they_stand() {
        for sql in [TABLE, VIEW, "OPTIMIZE TABLE t"] {
            assert_eq!(spread(&Layout::Single, sql), [sql]);
        }
    }

    #[test]
    fn replicas_have_a_path_that_later_ones_find() {
        assert_eq!(
            spread(&replicas(), TABLE),
            [
                "CREATE TABLE IF NOT EXISTS `p`.`t` ON CLUSTER `eu`\n(\n    a String,\n    v UInt64\n)\n\
              ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', \
              '{replica}', v)\nPARTITION BY a\nORDER BY (a, toDate(v))"
            ]
        );
        let bare =
            "CREATE TABLE IF NOT EXISTS `x`.`a``\\`b` (a Int8) ENGINE = MergeTree() ORDER BY (a)";
        let bare = bare.replace("``", "");
        let everywhere = replicas()
            .spread("p", Copies::Everywhere, &bare)
            .expect("it is known");
        assert_eq!(
            everywhere,
            [
                "CREATE TABLE IF NOT EXISTS `x`.`a\\`b` ON CLUSTER `eu` (a Int8) ENGINE = \
              ReplicatedMergeTree('/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}') \
              ORDER BY (a)"
            ]
        );
    }

    #[test]
    fn views_and_changes_are_everywhere_and_name_their_database() {
        assert_eq!(
            spread(&replicas(), VIEW),
            [
                "CREATE VIEW IF NOT EXISTS `p`.`v` ON CLUSTER `eu` AS\nSELECT a\nFROM `p`.`t` FINAL\n\
              SETTINGS x = 1"
            ]
        );
        let add = "ALTER TABLE t ADD COLUMN IF NOT EXISTS b String";
        assert_eq!(
            spread(&replicas(), add),
            ["ALTER TABLE `p`.`t` ON CLUSTER `eu` ADD COLUMN IF NOT EXISTS b String"]
        );
        assert_eq!(
            spread(&replicas(), "DROP TABLE IF EXISTS t"),
            ["DROP TABLE IF EXISTS `p`.`t` ON CLUSTER `eu` SYNC"]
        );
    }

    #[test]
    fn shards_stand_behind_a_table_that_knows_them_by_the_sorting_key() {
        let [local, distributed] = &spread(&shards(), TABLE)[..] else {
            panic!("two tables")
        };
        assert!(local.starts_with("CREATE TABLE IF NOT EXISTS `p`.`t_local` ON CLUSTER `eu`\n("));
        assert!(
            local.contains("ENGINE = ReplicatedReplacingMergeTree('"),
            "{local}"
        );
        assert_eq!(
            distributed,
            "CREATE TABLE IF NOT EXISTS `p`.`t` ON CLUSTER `eu` AS `p`.`t_local`\n\
             ENGINE = Distributed('eu', 'p', 't_local', sipHash64(a, toDate(v)))"
        );
        let begins = |sql: &str| {
            let spread = spread(&shards(), sql);
            let head = |sql: &String| sql.split(" ON CLUSTER").next().map(str::to_owned);
            spread.iter().filter_map(head).collect::<Vec<_>>()
        };
        assert_eq!(
            begins("ALTER TABLE t ADD COLUMN b String"),
            ["ALTER TABLE `p`.`t_local`", "ALTER TABLE `p`.`t`"]
        );
        assert_eq!(
            begins("ALTER TABLE t MODIFY SETTING x = 1"),
            ["ALTER TABLE `p`.`t_local`"]
        );
        assert_eq!(
            begins("DROP TABLE IF EXISTS t"),
            [
                "DROP TABLE IF EXISTS `p`.`t`",
                "DROP TABLE IF EXISTS `p`.`t_local`"
            ]
        );
        assert!(spread(&shards(), VIEW)[0].contains("\nFROM `p`.`t` FINAL"));
        let no_key = shards().spread(
            "p",
            Copies::PerShard,
            "CREATE TABLE IF NOT EXISTS t (a Int8)",
        );
        assert_eq!(no_key, Err(SpreadError::NoSortingKey { table: "t".into() }));
    }

    #[test]
    fn a_replicated_database_gives_the_path_itself() {
        let table = spread(&Layout::ReplicatedDatabase, TABLE);
        assert!(
            table[0].contains("ENGINE = ReplicatedReplacingMergeTree(v)\n"),
            "{table:?}"
        );
        assert!(!table[0].contains("ON CLUSTER"), "{table:?}");
        assert_eq!(spread(&Layout::ReplicatedDatabase, VIEW), [VIEW]);
    }

    #[test]
    fn every_migration_can_be_spread() {
        for file in MigrationFile::embedded() {
            let section = file.section();
            for statement in section.up.iter().chain(&section.down) {
                for layout in [replicas(), shards(), Layout::ReplicatedDatabase] {
                    let spread = layout.spread("p", Copies::PerShard, &statement.sql);
                    let spread = spread.unwrap_or_else(|error| panic!("{}: {error}", file.name()));
                    let plain = |sql: &String| sql.contains("ENGINE = ReplacingMergeTree");
                    assert!(!spread.iter().any(plain), "{spread:?}");
                }
            }
        }
    }
}
