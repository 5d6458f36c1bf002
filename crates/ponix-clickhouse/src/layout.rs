//! Where tables lie: on one server, on replicas, or on shards of replicas.
//!
//! Statements are written for one server, so that goose and people can use them as they stand.
//! [`Layout::spread`] makes of each what a cluster needs.

mod spread;

use crate::Client;
use crate::error::{ErrorKind, RequestError};

pub(crate) use self::spread::quoted;
pub use self::spread::{Copies, SpreadError};

/// How the tables of a database are spread over servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// One server, or a service that replicates by itself, as ClickHouse Cloud does.
    #[default]
    Single,
    /// A database of engine `Replicated`: it carries statements to its replicas itself, and only
    /// tables of replicated engines have the same rows there.
    ReplicatedDatabase,
    /// A cluster of one shard: every server has all rows.
    Replicas {
        /// Its name in `remote_servers`.
        cluster: String,
    },
    /// A cluster of several shards: each has the rows that the sorting key gives it, and a
    /// `Distributed` table in front of them has the name that one server's table would have.
    Shards {
        /// Its name in `remote_servers`.
        cluster: String,
    },
}

/// Servers and configuration that do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The server did not answer, or may not tell.
    #[error(
        "the server cannot be asked for its clusters; the user needs SELECT on system.clusters"
    )]
    Request(#[source] RequestError),
    /// The server does not know the cluster.
    #[error(
        "there is no cluster {cluster} in remote_servers of this server, only: {}",
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    )]
    NoCluster {
        /// The configured name.
        cluster: String,
        /// Those that it knows.
        known: Vec<String>,
    },
    /// A `Distributed` table would write to every replica by itself.
    #[error(
        "cluster {cluster} has shards without internal_replication, whose replicas would each be \
         written to: set it to true in remote_servers of every server"
    )]
    WritesToEveryReplica {
        /// The configured name.
        cluster: String,
    },
    /// A database of engine `Replicated` with several shards.
    #[error(
        "database {database} is of engine Replicated and has {shards} shards, which is not \
         supported: use one of engine Atomic and name the cluster, or one shard"
    )]
    ReplicatedDatabaseWithShards {
        /// The configured name.
        database: String,
        /// How many.
        shards: u64,
    },
    /// A statement is for one server only.
    #[error(transparent)]
    Spread(#[from] SpreadError),
    /// A table from before does not lie as the configuration says.
    #[error(
        "table {table} is there with engine {engine}, but {needs}: what is there is not changed, \
         see docs/deployment.md#clickhouse-clusters"
    )]
    OtherTable {
        /// The table.
        table: String,
        /// Its engine.
        engine: String,
        /// What does not go with it.
        needs: String,
    },
}

impl LayoutError {
    /// Tells whether waiting helps ([`ErrorKind::Transient`]) or not.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(source) => source.kind(),
            _ => ErrorKind::Fatal,
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// Engine of the database, empty if there is none.
    engine: String,
    is_cloud: bool,
    clusters: Vec<Cluster>,
}

#[derive(Debug, Clone)]
struct Cluster {
    name: String,
    shards: u64,
    /// Replicas beyond the first of shards without `internal_replication`.
    written_to_each: u64,
}

impl Layout {
    /// Asks the server of a client how its tables are to be spread.
    ///
    /// # Errors
    /// [`LayoutError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn ask(client: &Client) -> Result<Self, LayoutError> {
        Self::ask_for(client, &client.config().database).await
    }

    /// As [`Layout::ask`], for another database.
    pub(crate) async fn ask_for(client: &Client, database: &str) -> Result<Self, LayoutError> {
        let cluster = client.config().cluster.as_deref();
        let facts = Facts::ask(client, database, cluster.is_some());
        let facts = facts.await.map_err(LayoutError::Request)?;
        Self::of(cluster, database, &facts)
    }

    fn of(cluster: Option<&str>, database: &str, facts: &Facts) -> Result<Self, LayoutError> {
        let find = |name: &str| facts.clusters.iter().find(|known| known.name == name);
        if facts.is_cloud || facts.engine == "Shared" {
            return Ok(Self::Single);
        }
        if facts.engine == "Replicated" {
            let shards = find(database).map_or(1, |cluster| cluster.shards);
            if shards > 1 {
                return Err(LayoutError::ReplicatedDatabaseWithShards {
                    database: database.into(),
                    shards,
                });
            }
            return Ok(Self::ReplicatedDatabase);
        }
        let Some(cluster) = cluster.map(str::to_owned) else {
            return Ok(Self::Single);
        };
        match find(&cluster) {
            None => Err(LayoutError::NoCluster {
                cluster,
                known: facts
                    .clusters
                    .iter()
                    .map(|known| known.name.clone())
                    .collect(),
            }),
            Some(found) if found.shards <= 1 => Ok(Self::Replicas { cluster }),
            Some(found) if found.written_to_each > 0 => {
                Err(LayoutError::WritesToEveryReplica { cluster })
            }
            Some(_) => Ok(Self::Shards { cluster }),
        }
    }

    /// Tells whether several servers have parts of a table, or copies of it.
    pub(crate) fn is_spread(&self) -> bool {
        *self != Self::Single
    }

    /// Checks that a table which is there lies as this says, with that engine.
    pub(crate) fn check_table(
        &self,
        table: &str,
        engine: &str,
        urls: usize,
    ) -> Result<(), LayoutError> {
        let is_shared = engine.starts_with("Replicated") || engine.starts_with("Shared");
        let needs = match self {
            Self::Shards { cluster } if engine != "Distributed" => {
                format!("cluster {cluster} has several shards")
            }
            Self::Replicas { cluster } if !is_shared && engine != "Distributed" => {
                format!("cluster {cluster} is to have it on every server")
            }
            // Behind one URL it may be the only replica, or a balancer that stays with one.
            Self::ReplicatedDatabase if urls > 1 && !is_shared && engine != "Distributed" => {
                "its database is of engine Replicated, where each replica has rows of its own in it"
                    .into()
            }
            _ if urls > 1 && !is_shared && engine != "Distributed" => {
                format!("each of the {urls} servers in the URL has one of its own")
            }
            _ => return Ok(()),
        };
        Err(LayoutError::OtherTable {
            table: table.into(),
            engine: engine.into(),
            needs,
        })
    }
}

impl Facts {
    async fn ask(
        client: &Client,
        database: &str,
        wants_cluster: bool,
    ) -> Result<Self, RequestError> {
        let database = literal(database);
        let sql = format!(
            "SELECT engine, 0::UInt8 FROM system.databases WHERE name = {database} UNION ALL \
             SELECT name, 1::UInt8 FROM system.settings WHERE name = 'cloud_mode' AND value = '1'"
        );
        let mut facts = Self::default();
        for (text, is_cloud) in client.fetch_all_outside::<(String, u8)>(&sql).await? {
            if is_cloud == 0 {
                facts.engine = text;
            } else {
                facts.is_cloud = true;
            }
        }
        // Only then, because it takes a right of its own.
        if wants_cluster || facts.engine == "Replicated" {
            let sql = "SELECT cluster, uniqExact(shard_num), \
                       countIf(replica_num > 1 AND internal_replication = 0) \
                       FROM system.clusters GROUP BY cluster ORDER BY cluster";
            let found = client.fetch_all_outside::<(String, u64, u64)>(sql).await?;
            let clusters = found
                .into_iter()
                .map(|(name, shards, written_to_each)| Cluster {
                    name,
                    shards,
                    written_to_each,
                });
            facts.clusters = clusters.collect();
        }
        Ok(facts)
    }
}

/// A text as SQL takes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(engine: &str, clusters: &[(&str, u64, u64)]) -> Facts {
        let cluster = |&(name, shards, written_to_each): &(&str, u64, u64)| Cluster {
            name: name.into(),
            shards,
            written_to_each,
        };
        Facts {
            engine: engine.into(),
            is_cloud: false,
            clusters: clusters.iter().map(cluster).collect(),
        }
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal(r"1_it's\.sql"), r"'1_it\'s\\.sql'");
    }

    #[test]
    fn the_shards_of_the_cluster_decide() {
        let of = |cluster, facts: &Facts| Layout::of(cluster, "ponix", facts).expect("it does");
        let known = facts("Atomic", &[("one", 1, 1), ("two", 2, 0)]);
        let (one, two) = ("one".to_owned(), "two".to_owned());
        assert_eq!(of(None, &known), Layout::Single);
        assert_eq!(of(Some("one"), &known), Layout::Replicas { cluster: one });
        assert_eq!(of(Some("two"), &known), Layout::Shards { cluster: two });
        assert_eq!(of(None, &facts("", &[])), Layout::Single);
    }

    #[test]
    fn databases_that_replicate_by_themselves_are_left_to_it() {
        let replicated = facts("Replicated", &[("one", 2, 0), ("ponix", 1, 0)]);
        for cluster in [None, Some("one"), Some("gone")] {
            let layout = Layout::of(cluster, "ponix", &replicated).expect("it does");
            assert_eq!(layout, Layout::ReplicatedDatabase);
            let shared = Layout::of(cluster, "ponix", &facts("Shared", &[])).expect("it does");
            assert_eq!(shared, Layout::Single);
            let cloud = Facts {
                is_cloud: true,
                ..facts("", &[])
            };
            assert_eq!(
                Layout::of(cluster, "ponix", &cloud).expect("it does"),
                Layout::Single
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        let error = |cluster, facts: &Facts| {
            let error = Layout::of(cluster, "ponix", facts).expect_err("it cannot be");
            assert_eq!(error.kind(), ErrorKind::Fatal);
            error.to_string()
        };
        let known = facts("Atomic", &[("eu", 2, 1), ("us", 1, 0)]);
        let unknown = error(Some("asia"), &known);
        assert!(
            unknown.contains("no cluster asia") && unknown.contains("eu, us"),
            "{unknown}"
        );
        let each = error(Some("eu"), &known);
        assert!(each.contains("internal_replication"), "{each}");
        let sharded = error(None, &facts("Replicated", &[("ponix", 3, 0)]));
        assert!(sharded.contains("has 3 shards"), "{sharded}");
    }

    #[test]
    fn a_table_from_before_must_lie_as_asked() {
        let cluster = || "c".to_owned();
        let replicas = Layout::Replicas { cluster: cluster() };
        let shards = Layout::Shards { cluster: cluster() };
        for (layout, engine, urls, fits) in [
            (&Layout::Single, "ReplacingMergeTree", 1, true),
            (&Layout::Single, "ReplacingMergeTree", 2, false),
            (&Layout::Single, "SharedReplacingMergeTree", 2, true),
            (&Layout::Single, "Distributed", 2, true),
            (&replicas, "ReplacingMergeTree", 1, false),
            (&replicas, "ReplicatedReplacingMergeTree", 2, true),
            (&shards, "ReplicatedReplacingMergeTree", 1, false),
            (&shards, "Distributed", 4, true),
            (&Layout::ReplicatedDatabase, "ReplacingMergeTree", 1, true),
            (&Layout::ReplicatedDatabase, "ReplacingMergeTree", 2, false),
            (
                &Layout::ReplicatedDatabase,
                "ReplicatedReplacingMergeTree",
                1,
                true,
            ),
        ] {
            let checked = layout.check_table("t", engine, urls);
            assert_eq!(
                checked.is_ok(),
                fits,
                "{layout:?} {engine} {urls}: {checked:?}"
            );
        }
    }
}
