//! Events into tables of any shape.

mod changing;
mod types;

use std::sync::Arc;

use ponix_clickhouse::table::{Delivery, Identity, Schema, UnknownFields};
use ponix_clickhouse::{
    ClickHouseMetrics, Client, ErrorKind, Presence, TableConfig, TableError, TableSink,
};
use ponix_sink::{
    Around, Attempt, Record, RejectGuard, RejectedBy, RowOutcome, Sink as _, WriteError,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{self, NEW_YEAR_NS};

/// A database of its own, and a sink into one of its tables.
struct Tables {
    client: Client,
    sink: TableSink,
    guard: Arc<RejectGuard>,
}

/// Identity of fields, what no column takes is refused, exactly once.
fn config(table: &str, identity: &[&str]) -> TableConfig {
    TableConfig {
        database: None,
        table: table.into(),
        partition_by: None,
        columns: None,
        identity: Identity::Fields(identity.iter().map(|name| (*name).into()).collect()),
        unknown_fields: UnknownFields::Reject,
        schema: Schema::Require,
        delivery: Delivery::ExactlyOnce,
    }
}

fn columns(columns: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, column_type): &(&str, &str)| ((*name).into(), (*column_type).into());
    columns.iter().map(own).collect()
}

async fn database(name: &str) -> Client {
    let client = support::client(name).await;
    let create = format!("CREATE DATABASE IF NOT EXISTS {name}");
    let default = support::client("default").await;
    default
        .raw()
        .query_raw(&create)
        .execute()
        .await
        .expect("created");
    client
}

impl Tables {
    /// Executes the statements in a new database, and prepares a sink.
    async fn new(name: &str, statements: &[&str], config: TableConfig) -> Self {
        Self::prepare(name, statements, config)
            .await
            .expect("the table does")
    }

    async fn prepare(
        name: &str,
        statements: &[&str],
        config: TableConfig,
    ) -> Result<Self, TableError> {
        let client = database(name).await;
        for sql in statements {
            execute(&client, sql).await;
        }
        let sink = TableSink::prepare(&client, config, ClickHouseMetrics::default()).await?;
        let guard = Arc::default();
        Ok(Self {
            client,
            sink,
            guard,
        })
    }

    async fn write(&self, records: &[Record]) -> Result<Vec<RowOutcome>, WriteError> {
        let attempt = Attempt {
            guard: &self.guard,
            around: Around::default(),
            give_up: &CancellationToken::new(),
        };
        let rows = self.sink.encode(records.to_vec()).await?;
        self.sink.write(&rows, attempt).await
    }

    /// Writes events that all are stored.
    async fn store(&self, records: &[Record]) {
        let outcomes = self.write(records).await.expect("stored");
        assert_eq!(outcomes, vec![RowOutcome::Stored; records.len()]);
    }

    async fn execute(&self, sql: &str) {
        execute(&self.client, sql).await;
    }

    async fn number(&self, sql: &str) -> u64 {
        let query = self.client.raw().query_raw(sql);
        query.fetch_one().await.expect(sql)
    }

    async fn text(&self, sql: &str) -> String {
        let query = self.client.raw().query_raw(sql);
        query.fetch_one().await.expect(sql)
    }
}

async fn execute(client: &Client, sql: &str) {
    client.raw().query_raw(sql).execute().await.expect(sql);
}

fn record(n: u64, fields: Value) -> Record {
    let Value::Object(fields) = fields else {
        panic!("{fields} is no object")
    };
    Record {
        fields,
        identity: Uuid::from_u128(u128::from(n) + 1),
        published_at_ns: NEW_YEAR_NS + n as i64,
        stream_sequence: n + 1,
    }
}

fn rejection(outcome: &RowOutcome) -> (RejectedBy, &str) {
    match outcome {
        RowOutcome::Rejected(rejection) => (rejection.by, &rejection.text),
        other => panic!("{other:?}"),
    }
}

const METERS: &str = "CREATE TABLE meters (meter String, read_at DateTime64(3, 'UTC'), \
                      value Float64) ENGINE = ReplacingMergeTree ORDER BY (meter, read_at)";

fn reading(n: u64, value: impl Into<Value>) -> Record {
    let read_at = NEW_YEAR_NS / 1_000_000 + n as i64;
    let value: Value = value.into();
    record(n, json!({"meter": "m", "read_at": read_at, "value": value}))
}

#[tokio::test]
async fn events_that_do_not_fit_are_rejected_by_ourselves_and_alone() {
    let config = config("meters", &["meter", "read_at"]);
    let tables = Tables::new("tables_misfits", &[METERS], config).await;
    // All but two are wrong, which would be too many if the store had said so.
    let mut records: Vec<_> = (0..100).map(|n| reading(n, "much")).collect();
    records[17] = reading(17, 1.5);
    records[99] = reading(99, "2.5");
    records[5].fields.insert("color".into(), json!("red"));
    let outcomes = tables.write(&records).await.expect("no fault of the store");
    let stored = outcomes
        .iter()
        .filter(|outcome| **outcome == RowOutcome::Stored);
    assert_eq!(stored.count(), 2);
    assert_eq!(
        rejection(&outcomes[0]),
        (
            RejectedBy::Decoder,
            r#"value: "much" does not fit Float64: expected a number"#
        )
    );
    assert_eq!(
        tables
            .number("SELECT toUInt64(sum(value)) FROM meters")
            .await,
        4
    );
}

#[tokio::test]
async fn what_the_store_refuses_is_found_among_misfits() {
    let config = config("meters", &["meter", "read_at"]);
    let tables = Tables::new("tables_refused", &[METERS], config).await;
    tables
        .execute("ALTER TABLE meters ADD CONSTRAINT c CHECK value < 1000")
        .await;
    let mut records: Vec<_> = (0..300).map(|n| reading(n, n)).collect();
    records[3] = reading(3, "x");
    records[200] = reading(200, 5_000);
    let outcomes = tables.write(&records).await.expect("one of 300");
    let (by, text) = rejection(&outcomes[200]);
    assert_eq!(by, RejectedBy::Store);
    assert!(text.starts_with("Code: 469. "), "{text}");
    assert_eq!(rejection(&outcomes[3]).0, RejectedBy::Decoder);
    let stored = "SELECT count() FROM meters FINAL";
    assert_eq!(tables.number(stored).await, 298);
}

#[tokio::test]
async fn what_is_stored_is_told_by_the_positions_of_all_records() {
    let config = config("meters", &["meter", "read_at"]);
    let tables = Tables::new("tables_positions", &[METERS], config).await;
    tables
        .execute("ALTER TABLE meters ADD CONSTRAINT c CHECK value % 4 != 0")
        .await;
    let value = |n: u64| {
        if n.is_multiple_of(3) {
            json!("x")
        } else {
            json!(n)
        }
    };
    let records: Vec<_> = (0..900).map(|n| reading(n, value(n))).collect();
    let error = tables
        .write(&records)
        .await
        .expect_err("a quarter is refused");
    assert!(
        matches!(error, WriteError::RefusedAlike { .. }),
        "{error:?}"
    );
    let told: Vec<_> = (0..900)
        .filter(|n| error.stored().contains(*n))
        .map(|n| n.to_string())
        .collect();
    assert!(!told.is_empty(), "the search stores some");
    let stored = "SELECT arrayStringConcat(arraySort(x -> toUInt32(x), \
                  groupUniqArray(toString(value))), ' ') FROM meters";
    assert_eq!(tables.text(stored).await, told.join(" "));
}

#[tokio::test]
async fn a_created_table_shows_readers_each_event_once() {
    let mut config = config("meter_readings", &["meter", "read_at"]);
    config.columns = Some(columns(&[
        ("meter", "LowCardinality(String)"),
        ("read_at", "DateTime64(3, 'UTC')"),
        ("value", "Nullable(Decimal(18, 3))"),
    ]));
    config.unknown_fields = UnknownFields::JsonColumn;
    config.schema = Schema::Create;
    let tables = Tables::new("tables_created", &[], config.clone()).await;
    tables.execute("SYSTEM STOP MERGES meter_readings").await;
    for late in [0, 5] {
        let event = json!({"meter": "m", "read_at": 7, "value": "1.5", "late": late});
        tables.store(&[record(late, event)]).await;
    }
    assert_eq!(tables.number("SELECT count() FROM meter_readings").await, 2);
    let read = "SELECT concat_ws(' ', meter, toString(read_at), toString(assumeNotNull(value)), \
                data.late::String, toString(stream_sequence)) FROM meter_readings_final";
    assert_eq!(
        tables.text(read).await,
        "m 1970-01-01 00:00:00.007 1.5 0 1",
        "the earliest publish"
    );
    // It is there now, and what was created passes the check.
    config.schema = Schema::Require;
    let metrics = ClickHouseMetrics::default();
    let again = TableSink::prepare(&tables.client, config, metrics).await;
    assert_eq!(again.expect("it does").columns().len(), 6);
    let in_range = NEW_YEAR_NS..=NEW_YEAR_NS + 5;
    let stored = tables.sink.stored_between(1..=5, in_range.clone()).await;
    assert_eq!(stored.expect("it answers"), Some(1));
    let stored = tables.sink.stored_between(1..=6, in_range.clone()).await;
    assert_eq!(stored.expect("it answers"), Some(2));
    // A message may carry many events, and each may be there more than once.
    let event = json!({"meter": "n", "read_at": 7, "value": "1.5"});
    tables.store(&[record(5, event.clone())]).await;
    tables.store(&[record(5, event)]).await;
    let stored = tables.sink.stored_between(1..=6, in_range).await;
    assert_eq!(stored.expect("it answers"), Some(3));
}

#[tokio::test]
async fn the_messages_identity_makes_copies_one() {
    let mut config = config("events", &[]);
    config.identity = Identity::Message;
    config.columns = Some(columns(&[("name", "String")]));
    config.schema = Schema::Create;
    let tables = Tables::new("tables_message", &[], config).await;
    tables.execute("SYSTEM STOP MERGES events").await;
    let events: Vec<_> = (0..3).map(|n| record(n, json!({"name": "x"}))).collect();
    tables.store(&events).await;
    tables.store(&events[1..]).await;
    assert_eq!(tables.number("SELECT count() FROM events").await, 5);
    assert_eq!(tables.number("SELECT count() FROM events_final").await, 3);
}

#[tokio::test]
async fn records_are_found_by_their_identity() {
    let mut config = config("meters", &["meter", "read_at"]);
    let tables = Tables::new("tables_presence", &[METERS], config.clone()).await;
    tables.execute("SYSTEM STOP MERGES meters").await;
    let readings: Vec<_> = (0..4).map(|n| reading(n, 1)).collect();
    tables.store(&readings[..3]).await;
    tables.store(&readings[1..2]).await;
    let mut nowhere = reading(5, 1);
    nowhere.fields.remove("meter");
    let identities = tables.sink.identities();
    assert_eq!(identities.of(&nowhere), None);
    assert!(identities.fits(&readings[0]) && !identities.fits(&nowhere));
    let found: Vec<_> = presence(&tables, &readings)
        .await
        .iter()
        .map(|presence| (presence.copies, presence.readable))
        .collect();
    assert_eq!(found, [(1, 1), (2, 1), (1, 1), (0, 0)]);
    assert_eq!(presence(&tables, &[]).await, []);

    config.table = "events".into();
    config.identity = Identity::Message;
    config.columns = Some(columns(&[("meter", "String")]));
    config.schema = Schema::Create;
    let tables = Tables::new("tables_presence", &[], config).await;
    let events = [0, 1].map(|n| record(n, json!({"meter": "it's a `meter`"})));
    tables.store(&events[..1]).await;
    let found = presence(&tables, &events).await;
    assert_eq!((found[0].readable, found[1].readable), (1, 0));
}

async fn presence(tables: &Tables, records: &[Record]) -> Vec<Presence> {
    let identities = tables.sink.identities();
    let wanted: Vec<_> = records
        .iter()
        .filter_map(|one| identities.of(one))
        .collect();
    let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
    identities.presence(&wanted).await.expect("it answers")
}

#[tokio::test]
async fn a_table_that_keeps_copies_is_refused_with_one_that_does_not() {
    let keeps = "CREATE TABLE meters (meter String, read_at DateTime, value Float64, \
                 stored_at DateTime DEFAULT now()) ENGINE = MergeTree \
                 PARTITION BY toYYYYMM(stored_at) ORDER BY meter";
    let mut config = config("meters", &["meter", "read_at"]);
    let refused = Tables::prepare("tables_keeps", &[keeps], config.clone()).await;
    let error = refused.err().expect("it keeps copies");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let TableError::KeepsCopies { problems, ddl, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(problems.len(), 3, "{problems:?}");

    config.delivery = Delivery::AtLeastOnce;
    let tables = Tables::prepare("tables_keeps", &[], config.clone()).await;
    let event = json!({"meter": "m", "read_at": 1, "value": 1});
    tables
        .expect("as declared")
        .store(&[record(0, event)])
        .await;

    config.delivery = Delivery::ExactlyOnce;
    let statements = ["DROP TABLE meters", &ddl.table, &ddl.view];
    let tables = Tables::new("tables_keeps", &statements, config).await;
    let event = json!({"meter": "m", "read_at": 1, "value": 1, "stored_at": 1});
    tables
        .store(&[record(0, event.clone()), record(1, event)])
        .await;
    assert_eq!(tables.number("SELECT count() FROM meters_final").await, 1);
}

#[tokio::test]
async fn a_missing_table_is_told_with_what_creates_it() {
    let mut config = config("gone", &["meter"]);
    let bare = Tables::prepare("tables_missing", &[], config.clone()).await;
    assert_eq!(
        bare.err().expect("missing").to_string(),
        "there is no table gone; declare `schema: create`, or create it"
    );
    config.columns = Some(columns(&[("meter", "String")]));
    let error = Tables::prepare("tables_missing", &[], config).await;
    let message = error.err().expect("missing").to_string();
    assert!(
        message.contains("CREATE TABLE IF NOT EXISTS `gone`"),
        "{message}"
    );
}

#[tokio::test]
async fn a_default_is_stored_for_what_an_event_does_not_say() {
    let table = "CREATE TABLE meters (meter String, unit String DEFAULT 'kWh', \
                 note Nullable(String) DEFAULT 'none', twice String MATERIALIZED concat(meter, meter)) \
                 ENGINE = ReplacingMergeTree ORDER BY meter";
    let config = config("meters", &["meter"]);
    let tables = Tables::new("tables_defaults", &[table], config).await;
    let events = [
        json!({"meter": "a"}),
        json!({"meter": "b", "unit": null, "note": null}),
        json!({"meter": "c", "unit": "l", "note": "x"}),
    ];
    let records: Vec<_> = (0..)
        .zip(events)
        .map(|(n, event)| record(n, event))
        .collect();
    tables.store(&records).await;
    let read = "SELECT arrayStringConcat(groupArray(concat_ws(' ', meter, unit, \
                ifNull(note, 'NULL'), twice)), '|') FROM (SELECT *, twice FROM meters ORDER BY meter)";
    assert_eq!(
        tables.text(read).await,
        "a kWh none aa|b kWh NULL bb|c l x cc"
    );
}

#[tokio::test]
async fn a_nested_takes_objects() {
    let table = "CREATE TABLE meters (meter String, phases Nested(name String, volts Float32)) \
                 ENGINE = ReplacingMergeTree ORDER BY meter";
    let config = config("meters", &["meter"]);
    let tables = Tables::new("tables_nested", &[table], config).await;
    let phases = json!([{"name": "a", "volts": 230}, {"name": "b", "volts": 231.5}]);
    tables
        .store(&[record(0, json!({"meter": "m", "phases": phases}))])
        .await;
    let read = "SELECT concat(toString(phases.name), toString(phases.volts)) FROM meters";
    assert_eq!(tables.text(read).await, "['a','b'][230,231.5]");
}

#[tokio::test]
async fn large_wide_and_deep_events_are_stored_whole() {
    let mut config = config("events", &["id"]);
    config.columns = Some(columns(&[("id", "UInt64")]));
    config.unknown_fields = UnknownFields::JsonColumn;
    config.schema = Schema::Create;
    let tables = Tables::new("tables_large", &[], config).await;
    let deep = (0..33).fold(json!(1), |inner, _| json!({"d": inner}));
    let mut wide = serde_json::Map::from_iter([("id".to_owned(), json!(2))]);
    wide.extend((0..10_000).map(|n| (format!("f{n}"), json!(n))));
    let events = [
        record(1, json!({"id": 1, "text": support::noise(1 << 20)})),
        record(2, Value::Object(wide)),
        record(3, json!({"id": 3, "deep": deep})),
    ];
    tables.store(&events).await;
    let text = "SELECT length(data.text::String) FROM events WHERE id = 1";
    assert_eq!(tables.number(text).await, 1 << 20);
    let fields = "SELECT toUInt64(length(JSONAllPaths(data))) FROM events WHERE id = 2";
    assert_eq!(tables.number(fields).await, 10_000);
    let path = "SELECT JSONAllPaths(data)[1] FROM events WHERE id = 3";
    assert_eq!(tables.text(path).await, format!("deep{}", ".d".repeat(33)));
}

#[tokio::test]
async fn more_partitions_than_an_insert_may_have_are_halved() {
    let table = "CREATE TABLE meters (meter String, day Date) ENGINE = ReplacingMergeTree \
                 PARTITION BY day ORDER BY (meter, day)";
    let config = config("meters", &["meter", "day"]);
    let tables = Tables::new("tables_partitions", &[table], config).await;
    let records: Vec<_> = (0..250)
        .map(|n| record(n, json!({"meter": "m", "day": n})))
        .collect();
    tables.store(&records).await;
    assert_eq!(tables.number("SELECT count() FROM meters").await, 250);
}
