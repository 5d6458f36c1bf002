//! The table changes while events are written.

use ponix_sink::ErrorClass;

use super::*;

/// Returns the chain of an error for which nothing is stored until somebody mends the table.
fn held(result: Result<Vec<RowOutcome>, WriteError>) -> String {
    match result {
        Err(WriteError::Unusable {
            stored,
            class: ErrorClass::Fatal,
            source,
        }) => {
            assert_eq!(stored.count(), 0);
            source.to_string()
        }
        other => panic!("{other:?}"),
    }
}

async fn meters(database: &str) -> Tables {
    Tables::new(database, &[METERS], config("meters", &["meter", "read_at"])).await
}

#[tokio::test]
async fn a_column_that_is_dropped_holds_until_it_is_back() {
    let tables = meters("tables_dropped_column").await;
    tables.store(&[reading(0, 1)]).await;
    tables.execute("ALTER TABLE meters DROP COLUMN value").await;
    let told = held(tables.write(&[reading(1, 1)]).await);
    assert!(told.contains("No such column value"), "{told}");
    tables
        .execute("ALTER TABLE meters ADD COLUMN value Float64")
        .await;
    tables.store(&[reading(1, 2)]).await;
    assert_eq!(
        tables
            .number("SELECT toUInt64(sum(value)) FROM meters")
            .await,
        2
    );
}

#[tokio::test]
async fn a_column_that_is_declared_and_dropped_is_named() {
    let mut config = config("meters", &["meter", "read_at"]);
    config.columns = Some(columns(&[("value", "Float64")]));
    let tables = Tables::new("tables_declared_column", &[METERS], config).await;
    tables.execute("ALTER TABLE meters DROP COLUMN value").await;
    held(tables.write(&[reading(1, 1)]).await);
    let told = held(tables.write(&[reading(1, 1)]).await);
    assert_eq!(told, "table meters has no column value");
    tables
        .execute("ALTER TABLE meters ADD COLUMN value Float64")
        .await;
    tables.store(&[reading(1, 2)]).await;
}

#[tokio::test]
async fn a_column_of_another_type_never_gets_the_old_bytes() {
    let tables = meters("tables_other_type").await;
    tables.store(&[reading(0, 1.5)]).await;
    // As many bytes: without a check they would be read as another number.
    tables
        .execute("ALTER TABLE meters MODIFY COLUMN value Int64")
        .await;
    let told = held(tables.write(&[reading(1, 2)]).await);
    assert!(
        told.contains("Type of 'value' must be Int64, not Float64"),
        "{told}"
    );
    let outcomes = tables.write(&[reading(1, 2), reading(2, 2.5)]).await;
    let outcomes = outcomes.expect("the sink has looked again");
    assert_eq!(outcomes[0], RowOutcome::Stored);
    assert_eq!(rejection(&outcomes[1]).0, RejectedBy::Decoder);
    assert_eq!(
        tables
            .number("SELECT toUInt64(sum(value)) FROM meters")
            .await,
        3
    );
}

#[tokio::test]
async fn a_table_that_is_dropped_holds_until_it_is_back() {
    let tables = meters("tables_dropped").await;
    tables.execute("DROP TABLE meters").await;
    held(tables.write(&[reading(1, 1)]).await);
    let told = held(tables.write(&[reading(1, 1)]).await);
    assert!(told.starts_with("there is no table meters"), "{told}");
    // A table that keeps copies is none that was asked for.
    tables
        .execute("CREATE TABLE meters (meter String, read_at DateTime64(3, 'UTC'), value Float64) ENGINE = MergeTree ORDER BY meter")
        .await;
    let told = held(tables.write(&[reading(1, 1)]).await);
    assert!(told.contains("keeps copies"), "{told}");
    tables.execute("DROP TABLE meters").await;
    tables.execute(METERS).await;
    tables.store(&[reading(1, 1)]).await;
}

#[tokio::test]
async fn what_is_stored_is_told_when_the_rest_is_held() {
    let table = "CREATE TABLE meters (meter String, stored_at DateTime DEFAULT now()) \
                 ENGINE = ReplacingMergeTree ORDER BY meter";
    let tables = Tables::new("tables_partly", &[table], config("meters", &["meter"])).await;
    tables
        .execute("ALTER TABLE meters DROP COLUMN stored_at")
        .await;
    // Those that leave the column out do not miss it.
    let records = [
        record(0, json!({"meter": "a"})),
        record(1, json!({"meter": "b", "stored_at": 1})),
        record(2, json!({"meter": "c"})),
        record(3, json!({"stored_at": 1})),
    ];
    let error = tables.write(&records).await.expect_err("no such column");
    let stored: Vec<_> = (0..4).map(|n| error.stored().contains(n)).collect();
    assert_eq!(stored, [true, false, true, false]);
    assert_eq!(tables.number("SELECT count() FROM meters").await, 2);
    tables
        .execute("ALTER TABLE meters ADD COLUMN stored_at DateTime DEFAULT now()")
        .await;
    tables.store(&records[1..2]).await;
    let named = "SELECT count() FROM meters WHERE toUnixTimestamp(stored_at) = 1";
    assert_eq!(tables.number(named).await, 1);
}

#[tokio::test]
async fn another_table_in_its_place_is_noticed_and_stays_noticed() {
    let tables = meters("tables_replaced").await;
    // It takes all that the other did, and keeps copies.
    tables.execute("DROP TABLE meters").await;
    let keeps = METERS.replace("ReplacingMergeTree", "MergeTree");
    tables.execute(&keeps).await;
    // A field that no column takes makes the sink look.
    let mut reading = reading(0, 1);
    reading.fields.insert("unit".into(), json!("kWh"));
    let noticed = ponix_stack::eventually("a look", std::time::Duration::from_secs(30), || async {
        tables.write(std::slice::from_ref(&reading)).await.is_err()
    });
    noticed.await.expect("the sink looks again");
    reading.fields.remove("unit");
    let told = held(tables.write(&[reading.clone()]).await);
    assert!(told.contains("keeps copies"), "{told}");
    assert_eq!(tables.number("SELECT count() FROM meters").await, 0);
    tables.execute("DROP TABLE meters").await;
    tables.execute(METERS).await;
    tables.store(&[reading]).await;
}

#[tokio::test]
async fn a_column_that_is_added_is_written_into_before_long() {
    let tables = meters("tables_added").await;
    tables
        .execute("ALTER TABLE meters ADD COLUMN unit Nullable(String)")
        .await;
    let mut reading = reading(0, 1);
    reading.fields.insert("unit".into(), json!("kWh"));
    let written = ponix_stack::eventually(
        "the new column",
        std::time::Duration::from_secs(30),
        || async {
            let outcomes = tables
                .write(&[reading.clone()])
                .await
                .expect("no fault of the store");
            outcomes == [RowOutcome::Stored]
        },
    );
    written.await.expect("the sink looks again");
    assert_eq!(
        tables.text("SELECT assumeNotNull(unit) FROM meters").await,
        "kWh"
    );
}

#[tokio::test]
async fn an_evolving_table_gets_a_column_for_each_new_field() {
    let mut config = config("meters", &["meter", "read_at"]);
    config.columns = Some(columns(&[
        ("meter", "String"),
        ("read_at", "DateTime64(3, 'UTC')"),
    ]));
    config.schema = Schema::Evolve;
    let tables = Tables::new("tables_evolving", &[], config.clone()).await;
    let mut with_unit = reading(1, 2.5);
    with_unit.fields.insert("unit".into(), json!("kWh"));
    with_unit.fields.insert("on".into(), json!(true));
    tables.store(&[reading(0, 1), with_unit]).await;
    let mut nested = reading(2, 3);
    nested.fields.insert("list".into(), json!([1]));
    let outcomes = tables
        .write(&[nested])
        .await
        .expect("no fault of the store");
    assert_eq!(
        rejection(&outcomes[0]).1,
        "list: [1] does not fit the table: no column takes it"
    );
    let read = "SELECT arrayStringConcat(groupArray(concat_ws(' ', toString(value), \
                ifNull(unit, '-'), ifNull(toString(on), '-'))), '|') \
                FROM (SELECT * FROM meters_final ORDER BY read_at)";
    assert_eq!(tables.text(read).await, "1 - -|2.5 kWh true");
    // Another worker, and one that comes back.
    let metrics = ClickHouseMetrics::default();
    let again = TableSink::prepare(&tables.client, config, metrics).await;
    assert_eq!(again.expect("it does").columns().len(), 7);
}
