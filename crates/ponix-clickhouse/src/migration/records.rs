//! The two tables that say what is applied.
//!
//! # Source
//! `internal/dialects/clickhouse.go` of goose 3 for the first one: a row with version 0 when the
//! table is made, a row per migration applied, all rows of a version deleted when it is reverted.

use std::collections::BTreeMap;

use super::file::MigrationFile;
use super::plan::Applied;
use crate::Client;
use crate::error::RequestError;
use crate::layout::{Copies, Layout, SpreadError, literal};

const VERSIONS: &str = "\
CREATE TABLE IF NOT EXISTS goose_db_version (
    version_id Int64,
    is_applied UInt8,
    date Date DEFAULT now(),
    tstamp DateTime DEFAULT now()
) ENGINE = MergeTree() ORDER BY (version_id)";

const CHECKSUMS: &str = "\
CREATE TABLE IF NOT EXISTS ponix_migration_checksums (
    version_id Int64,
    file String,
    checksum String,
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree(recorded_at) ORDER BY (version_id)";

/// When and what, of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// When it was applied, in seconds since 1970.
    pub(crate) applied_at: i64,
    /// The checksum that was recorded for that application.
    pub(crate) checksum: Option<String>,
}

/// What is applied, by version, without goose's version 0.
pub(crate) type Records = BTreeMap<i64, Record>;

/// Leaves of the records what a plan needs.
pub(crate) fn applied(records: &Records) -> Applied {
    records
        .iter()
        .map(|(version, record)| (*version, record.checksum.clone()))
        .collect()
}

/// Makes both tables, and the row with version 0 without which goose fails.
pub(crate) async fn create(client: &Client, layout: &Layout) -> Result<(), RequestError> {
    for (name, sql) in [
        ("goose_db_version", VERSIONS),
        ("ponix_migration_checksums", CHECKSUMS),
    ] {
        // Where it is there, nothing is asked of servers that may be down.
        if layout.is_spread() && is_there(client, name).await? {
            continue;
        }
        for statement in spread(client, layout, sql) {
            client.execute_spread(&statement).await?;
        }
    }
    insert_version(client, 0).await
}

/// What is applied is the same for all shards.
fn spread(client: &Client, layout: &Layout, sql: &str) -> Vec<String> {
    let database = &client.config().database;
    let spread: Result<_, SpreadError> = layout.spread(database, Copies::Everywhere, sql);
    spread.expect("a unit test spreads each of them")
}

async fn is_there(client: &Client, table: &str) -> Result<bool, RequestError> {
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = {}",
        literal(table)
    );
    Ok(!client.fetch_all::<String>(&sql).await?.is_empty())
}

/// Waits until this server has what others recorded: of a part of the records a gap would be seen.
pub(crate) async fn catch_up(client: &Client) -> Result<(), RequestError> {
    for table in ["goose_db_version", "ponix_migration_checksums"] {
        let sync = format!("SYSTEM SYNC REPLICA {table} LIGHTWEIGHT");
        match client.execute_slow(&sync).await {
            Err(error) if error.code() == Some(ACCESS_DENIED) => {
                tracing::warn!(
                    table,
                    "the user may not SYSTEM SYNC REPLICA: migrations may not see what another server applied"
                );
            }
            // A table from before there were replicas: this server alone has it.
            Err(error) if error.code() == Some(BAD_ARGUMENTS) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// `ACCESS_DENIED`
const ACCESS_DENIED: u32 = 497;
/// `BAD_ARGUMENTS`, said of a table that is not replicated.
const BAD_ARGUMENTS: u32 = 36;

/// Reads both tables; one that does not exist yet is read as empty.
pub(crate) async fn read(client: &Client) -> Result<Records, RequestError> {
    // Of a version's rows the latest counts: goose before 2.7 recorded a revert by another row.
    let versions = "SELECT version_id, toInt64(toUnixTimestamp(min(tstamp))) AS first \
                    FROM goose_db_version WHERE version_id > 0 \
                    GROUP BY version_id HAVING argMax(is_applied, tstamp) = 1";
    let checksums = "SELECT version_id, argMax(checksum, recorded_at) AS latest, \
                     toInt64(toUnixTimestamp(max(recorded_at))) AS at \
                     FROM ponix_migration_checksums GROUP BY version_id";
    let there = "SELECT name FROM system.tables WHERE database = currentDatabase() \
                 AND name IN ('goose_db_version', 'ponix_migration_checksums')";
    let there = client.fetch_all::<String>(there).await?;
    let is_there = |table: &str| there.iter().any(|name| name == table);

    let mut applied: Vec<(i64, i64)> = Vec::new();
    if is_there("goose_db_version") {
        applied = client.fetch_all(versions).await?;
    }
    let mut recorded: Vec<(i64, String, i64)> = Vec::new();
    if is_there("ponix_migration_checksums") {
        recorded = client.fetch_all(checksums).await?;
    }
    Ok(join(applied, recorded))
}

/// A checksum older than the application it should belong to is from before goose reverted and
/// applied the migration once more: it says nothing.
fn join(versions: Vec<(i64, i64)>, checksums: Vec<(i64, String, i64)>) -> Records {
    let mut checksums: BTreeMap<_, _> = checksums
        .into_iter()
        .map(|(version, checksum, at)| (version, (checksum, at)))
        .collect();
    versions
        .into_iter()
        .map(|(version, applied_at)| {
            let checksum = checksums.remove(&version);
            let checksum = checksum
                .filter(|(_, at)| *at >= applied_at)
                .map(|(checksum, _)| checksum);
            (
                version,
                Record {
                    applied_at,
                    checksum,
                },
            )
        })
        .collect()
}

/// Records a migration that was applied: goose's row first, then the checksum.
pub(crate) async fn record(client: &Client, file: &MigrationFile) -> Result<(), RequestError> {
    insert_version(client, file.version()).await?;
    record_checksum(client, file).await
}

/// Records the checksum of a migration that goose applied.
pub(crate) async fn record_checksum(
    client: &Client,
    file: &MigrationFile,
) -> Result<(), RequestError> {
    let insert = format!(
        "INSERT INTO ponix_migration_checksums (version_id, file, checksum) VALUES ({}, {}, '{}')",
        file.version(),
        literal(file.name()),
        file.checksum(),
    );
    client.execute_once_more(&insert).await
}

/// Forgets a migration that was reverted, and waits until it is forgotten, by every replica.
pub(crate) async fn forget(client: &Client, version: i64) -> Result<(), RequestError> {
    for table in ["goose_db_version", "ponix_migration_checksums"] {
        let delete = format!(
            "ALTER TABLE {table} DELETE WHERE version_id = {version} SETTINGS mutations_sync = 2"
        );
        client.execute_slow(&delete).await?;
    }
    Ok(())
}

/// Two instances can still both insert: goose and we read a version twice as once.
async fn insert_version(client: &Client, version: i64) -> Result<(), RequestError> {
    let insert = format!(
        "INSERT INTO goose_db_version (version_id, is_applied) \
         SELECT {version}, 1 WHERE NOT EXISTS \
         (SELECT 1 FROM goose_db_version WHERE version_id = {version} AND is_applied = 1)"
    );
    client.execute_once_more(&insert).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_can_be_spread() {
        for sql in [VERSIONS, CHECKSUMS] {
            for layout in [
                Layout::ReplicatedDatabase,
                Layout::Replicas {
                    cluster: "c".into(),
                },
                Layout::Shards {
                    cluster: "c".into(),
                },
            ] {
                let spread = layout.spread("p", Copies::Everywhere, sql).expect("known");
                assert_eq!(spread.len(), 1, "all servers have the same: {spread:?}");
                assert!(spread[0].contains("ENGINE = Replicated"), "{spread:?}");
            }
        }
    }

    #[test]
    fn a_checksum_belongs_to_the_application_it_followed() {
        let records = join(
            vec![(1, 100), (2, 100), (3, 100)],
            vec![
                (1, "a".into(), 100),
                (2, "b".into(), 99),
                (4, "d".into(), 100),
            ],
        );
        let checksum = |version| records[&version].checksum.as_deref();
        assert_eq!(
            (checksum(1), checksum(2), checksum(3)),
            (Some("a"), None, None)
        );
        assert_eq!(records.len(), 3, "a checksum alone is no application");
    }
}
