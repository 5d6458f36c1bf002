//! Tables spread over a cluster, as far as one process can be one: shards that it is itself, a shard
//! that is gone, and, where ZooKeeper is installed, the replicated engines' DDL.
//!
//! `ON CLUSTER` is for real servers (`scripts/test-cluster`): here the engine reads the statements, and
//! executes them without it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ponix_clickhouse::layout::{Copies, Layout};
use ponix_clickhouse::migration::MigrationFile;
use ponix_clickhouse::table::{Delivery, Identity, Schema, UnknownFields};
use ponix_clickhouse::{
    ClickHouseConfig, ClickHouseMetrics, Client, ErrorKind, EventKey, LayoutError, MigrateError,
    Migrator, TableConfig, TableError, TableSink,
};
use ponix_sink::{ErrorClass, WriteError};
use ponix_stack::{ClickHouse, eventually};
use tempfile::TempDir;

use crate::support::{self, NEW_YEAR_NS, REFUSED_JSON, Store, rejected, row, rows};

/// The server takes what names its own `tcp_port` for itself, so `one` is it; of `half` a shard is gone.
const CLUSTERS: &str = "<clickhouse>
  <tcp_port>19000</tcp_port>
  <interserver_http_port>19009</interserver_http_port>
  <macros><shard>01</shard><replica>a</replica></macros>
  <remote_servers>
    <one><shard><internal_replication>true</internal_replication>
      <replica><host>127.0.0.1</host><port>19000</port></replica></shard></one>
    <half>
      <shard><internal_replication>true</internal_replication>
        <replica><host>127.0.0.1</host><port>19000</port></replica></shard>
      <shard><internal_replication>true</internal_replication>
        <replica><host>127.0.0.1</host><port>1</port></replica></shard>
    </half>
    <each><shard><replica><host>127.0.0.1</host><port>1</port></replica>
      <replica><host>127.0.0.1</host><port>2</port></replica></shard>
      <shard><replica><host>127.0.0.1</host><port>3</port></replica></shard></each>
  </remote_servers>
  KEEPER
</clickhouse>";

/// A server of its own that knows clusters.
struct Server {
    server: ClickHouse,
    _folder: TempDir,
}

impl Server {
    async fn start(keeper: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("config.xml");
        std::fs::write(&file, CLUSTERS.replace("KEEPER", keeper)).expect("written");
        let option = format!("config-file={}", file.display());
        let server = ClickHouse::builder().arg("--engine").arg(option);
        Self {
            server: server.start().await.expect("it starts"),
            _folder: folder,
        }
    }

    fn config(&self, cluster: Option<&str>) -> ClickHouseConfig {
        ClickHouseConfig {
            cluster: cluster.map(str::to_owned),
            connect_timeout: Duration::from_secs(1),
            ..support::config(&self.server, "p")
        }
    }

    fn client(&self, cluster: Option<&str>) -> Client {
        Client::new(&self.config(cluster)).expect("valid")
    }

    /// The tables of the migrations behind `Distributed` ones over a cluster.
    async fn sharded(&self, cluster: &str) -> Store {
        let store = Store::without_tables(self.client(None));
        let create = "CREATE DATABASE p";
        let outside = self.server.url();
        let outside = ClickHouseConfig {
            url: outside,
            database: "default".into(),
            ..self.config(None)
        };
        let outside = Client::new(&outside).expect("valid");
        let created = outside.raw().query_raw(create).execute().await;
        created.expect("created");
        let layout = Layout::Shards {
            cluster: cluster.into(),
        };
        for sql in up(&layout) {
            store.execute(&alone(&sql, cluster)).await;
        }
        store
    }
}

/// The migrations as a layout has them.
fn up(layout: &Layout) -> Vec<String> {
    let files = MigrationFile::embedded();
    let statements = files.iter().flat_map(|file| &file.section().up);
    let spread = |sql: &str| layout.spread("p", Copies::PerShard, sql).expect("known");
    statements
        .flat_map(|statement| spread(&statement.sql))
        .collect()
}

/// A statement for this server only, and without Keeper.
fn alone(sql: &str, cluster: &str) -> String {
    let path = "Replicated ReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', ";
    let path = path.replacen(' ', "", 1);
    sql.replace(&format!(" ON CLUSTER `{cluster}`"), "")
        .replace(&path, "ReplacingMergeTree(")
}

#[tokio::test]
async fn the_statements_of_every_layout_can_be_read() {
    let store = Store::new("layouts").await;
    let cluster = || "c".to_owned();
    for layout in [
        Layout::ReplicatedDatabase,
        Layout::Replicas { cluster: cluster() },
        Layout::Shards { cluster: cluster() },
    ] {
        let down = MigrationFile::embedded();
        let down = down.iter().flat_map(|file| &file.section().down);
        let down = down.flat_map(|sql| {
            layout
                .spread("p", Copies::PerShard, &sql.sql)
                .expect("known")
        });
        let columns = "ALTER TABLE processed_envelopes ADD COLUMN IF NOT EXISTS x UInt8";
        let change = layout
            .spread("p", Copies::PerShard, columns)
            .expect("known");
        for sql in up(&layout).into_iter().chain(down).chain(change) {
            let literal = sql.replace('\\', "\\\\").replace('\'', "\\'");
            let read = store
                .text(&format!("SELECT formatQuery('{literal}')"))
                .await;
            assert_eq!(
                read.contains("ON CLUSTER"),
                sql.contains("ON CLUSTER"),
                "{read}"
            );
        }
    }
}

#[tokio::test]
async fn rows_go_through_a_distributed_table_and_readers_see_each_once() {
    let server = Server::start("").await;
    let store = server.sharded("one").await;
    store
        .execute("SYSTEM STOP MERGES processed_envelopes_local")
        .await;
    let batch = rows(500);
    for _ in 0..2 {
        store.write(&batch).await.expect("stored");
    }
    assert_eq!(
        (store.envelopes().await, store.copies().await),
        (500, 1_000)
    );
    let local = store
        .number("SELECT count() FROM processed_envelopes_local")
        .await;
    assert_eq!(local, 1_000);

    let mut mixed = rows(64);
    mixed.push(row(1_000, REFUSED_JSON));
    let outcomes = store.write(&mixed).await.expect("answered");
    assert_eq!(rejected(&outcomes), [(64, 117)]);
    assert_eq!(store.envelopes().await, 500);

    let presence = store
        .client
        .presence(&[batch[7].event_id])
        .await
        .expect("answered");
    let key = EventKey {
        organization_id: "org".into(),
        end_device_id: "device-7".into(),
        occurred_at_ns: NEW_YEAR_NS + 7_000_000,
        event_id: batch[7].event_id,
    };
    assert_eq!((presence[&key].copies, presence[&key].readable), (3, 1));
}

#[tokio::test]
async fn a_shard_that_is_gone_is_no_success() {
    let server = Server::start("").await;
    let store = server.sharded("half").await;
    let error = store.write(&rows(100)).await.expect_err("a shard is gone");
    let WriteError::Unusable { stored, class, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((stored.count(), class), (0, ErrorClass::Transient));
    let waiting = "SELECT sum(data_files) FROM system.distribution_queue";
    assert_eq!(store.number(waiting).await, 0, "nothing is kept for later");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_or_not_fit_is_refused() {
    let server = Server::start("").await;
    let up = async |cluster| {
        let client = server.client(Some(cluster));
        Migrator::new(&client)
            .up()
            .await
            .expect_err("it is refused")
    };
    let MigrateError::Layout(error) = up("eu").await else {
        panic!("another error")
    };
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let known = error.to_string();
    assert!(
        known.contains("no cluster eu") && known.contains("each, half, one"),
        "{known}"
    );
    assert!(matches!(
        up("each").await,
        MigrateError::Layout(LayoutError::WritesToEveryReplica { .. })
    ));
    // One that is there is asked: this engine has no queue for it.
    let MigrateError::DatabaseMissing { source, .. } = up("one").await else {
        panic!("another error")
    };
    assert_eq!(source.code(), Some(392), "{source}");
}

#[tokio::test]
async fn a_table_of_one_server_is_not_taken_for_a_clusters() {
    let server = Server::start("").await;
    Migrator::new(&server.client(None))
        .up()
        .await
        .expect("tables of one server");
    // The same server twice: it cannot be told from two.
    let twice = ClickHouseConfig {
        url: format!("{0},{0}", server.server.url()),
        ..server.config(None)
    };
    for config in [twice, server.config(Some("one"))] {
        let client = Client::new(&config).expect("valid");
        let refused = Migrator::new(&client).up().await.expect_err("refused");
        assert!(
            matches!(
                refused,
                MigrateError::Layout(LayoutError::OtherTable { .. })
            ),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn another_server_is_asked_when_one_is_gone() {
    let server = Server::start("").await;
    server.sharded("one").await;
    let second = ClickHouse::start().await.expect("it starts");
    let gone = second.url();
    second.kill().await.expect("it is gone");
    for urls in [
        format!("{gone},{}", server.server.url()),
        format!("{}, {gone}", server.server.url()),
    ] {
        let config = ClickHouseConfig {
            url: urls,
            ..server.config(None)
        };
        let store = Store::without_tables(Client::new(&config).expect("valid"));
        let written = store.write_patiently(&rows(50)).await;
        assert_eq!(written.len(), 50);
        assert_eq!(store.envelopes().await, 50);
    }
}

#[tokio::test]
async fn a_declared_table_over_shards_must_keep_copies_together() {
    let server = Server::start("").await;
    let store = server.sharded("one").await;
    let layout = Layout::Shards {
        cluster: "one".into(),
    };
    let config = |table: &str| TableConfig {
        database: None,
        table: table.into(),
        columns: Some(vec![
            ("meter".into(), "String".into()),
            ("read_at".into(), "DateTime".into()),
        ]),
        identity: Identity::Fields(vec!["meter".into(), "read_at".into()]),
        partition_by: None,
        unknown_fields: UnknownFields::Reject,
        schema: Schema::Create,
        delivery: Delivery::ExactlyOnce,
    };
    let ddl = config("readings").ddl().expect("columns are declared");
    for sql in layout
        .spread("p", Copies::PerShard, &ddl.table)
        .expect("known")
    {
        store.execute(&alone(&sql, "one")).await;
    }
    let prepare = async |table| {
        TableSink::prepare(&store.client, config(table), ClickHouseMetrics::default()).await
    };
    prepare("readings").await.expect("it does");
    store
        .execute(
            "CREATE TABLE anywhere AS readings_local \
             ENGINE = Distributed('one', 'p', 'readings_local', rand())",
        )
        .await;
    let Err(TableError::KeepsCopies { problems, .. }) = prepare("anywhere").await else {
        panic!("it is not refused")
    };
    assert!(
        problems[0].contains("different shards: rand()"),
        "{problems:?}"
    );
}

/// ZooKeeper as a process; gone with this.
struct ZooKeeper(
    Child,
    #[expect(dead_code, reason = "is kept until the end")] TempDir,
);

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ZooKeeper {
    /// Starts it, where Debian's package is installed.
    fn start(port: u16) -> Option<Self> {
        let jars = Path::new("/usr/share/java");
        if !jars.join("zookeeper.jar").exists() {
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let child = Command::new("java")
            .args(["-Dzookeeper.admin.enableServer=false", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(port.to_string())
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self(child.ok()?, folder))
    }
}

#[tokio::test]
#[ignore = "needs Debian's zookeeper; the engine did not reach it within two minutes where it was tried last"]
async fn the_replicated_engines_take_their_tables() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = port.local_addr().expect("its address").port();
    let Some(_zookeeper) = ZooKeeper::start(port) else {
        println!("skipped: ZooKeeper (Debian's package zookeeper) is not installed");
        return;
    };
    // The engine waits long for one that is not there when it first asks.
    eventually("zookeeper listens", Duration::from_mins(1), || async {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        connected.is_ok()
    })
    .await
    .expect("zookeeper starts");
    let keeper =
        format!("<zookeeper><node><host>127.0.0.1</host><port>{port}</port></node></zookeeper>");
    let server = Server::start(&keeper).await;
    let store = server.sharded("one").await;
    let layout = Layout::Replicas {
        cluster: "one".into(),
    };
    let table = &up(&layout)[0]
        .replace(" ON CLUSTER `one`", "")
        .replace("`processed_envelopes`", "`r`");
    eventually("zookeeper answers", Duration::from_mins(2), || async {
        store.client.raw().query_raw(table).execute().await.is_ok()
    })
    .await
    .expect("the engine takes the table");
    let records = "CREATE TABLE IF NOT EXISTS v (a Int64) ENGINE = MergeTree() ORDER BY (a)";
    for sql in layout
        .spread("p", Copies::Everywhere, records)
        .expect("known")
    {
        store.execute(&sql.replace(" ON CLUSTER `one`", "")).await;
    }
    let replicas = "SELECT toString(arraySort(groupArray(concat(zookeeper_path, ' ', replica_name)))) \
                    FROM system.replicas";
    assert_eq!(
        store.text(replicas).await,
        "['/clickhouse/tables/01/p/r a','/clickhouse/tables/all/p/v 01-a']"
    );
    // A second server that is given the same statement finds the first one there.
    let engine = "SELECT engine FROM system.tables WHERE database = 'p' AND name = 'r'";
    assert_eq!(store.text(engine).await, "ReplicatedReplacingMergeTree");
}
