//! Records of declared pipelines in a table of any shape.

use ponix_postgres::table::{TableConfig, TableError, TableSink, UnknownFields};
use ponix_postgres::{ErrorKind, Postgres};
use ponix_sink::{
    Around, Attempt, Record, RejectGuard, RejectedBy, RowOutcome, Sink as _, WriteError,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, MendUnderWriter, id};

const READINGS: &str = "CREATE TABLE readings (
    meter text NOT NULL, at timestamptz NOT NULL, value double precision, count integer,
    price numeric(6,2), ok boolean, tags text[], raw bytea, id uuid, day date, data jsonb,
    noted timestamptz NOT NULL DEFAULT now(), number bigint GENERATED ALWAYS AS IDENTITY)";

fn config(table: &str) -> TableConfig {
    TableConfig {
        table: table.to_owned(),
        columns: None,
        unknown_fields: UnknownFields::Reject,
    }
}

fn record(number: u64, fields: Value) -> Record {
    let Value::Object(fields) = fields else {
        panic!("{fields}")
    };
    Record {
        fields,
        identity: id(number),
        published_at_ns: 1_790_000_000_000_000_000,
        stream_sequence: number,
    }
}

pub(crate) fn reading(number: u64) -> Record {
    record(
        number,
        json!({"meter": format!("m{number}"), "at": "2026-03-01T12:00:00Z", "value": 1.5}),
    )
}

pub(crate) async fn write(
    sink: &TableSink,
    guard: &RejectGuard,
    records: &[Record],
) -> Result<Vec<RowOutcome>, WriteError> {
    let give_up = CancellationToken::new();
    let attempt = Attempt {
        guard,
        around: Around::default(),
        give_up: &give_up,
    };
    let rows = sink.encode(records.to_vec()).await?;
    sink.write(&rows, attempt).await
}

async fn made(db: &Database, ddl: &str, config: TableConfig) -> TableSink {
    db.sql.batch_execute(ddl).await.expect("made");
    TableSink::prepare(db.postgres.clone(), config)
        .await
        .expect("prepared")
}

/// A sink by another way to the database.
pub(crate) async fn sink(db: &Database, postgres: Postgres) -> TableSink {
    db.sql.batch_execute(READINGS).await.expect("made");
    let sink = TableSink::prepare(postgres, config("readings")).await;
    sink.expect("prepared")
}

#[tokio::test]
async fn values_of_many_types_are_stored_once_however_often_they_come() {
    let db = Database::new("table_types").await;
    let sink = made(&db, READINGS, config("readings")).await;
    let all = json!({"meter": "tab\there\\ \"and\"\nthere", "at": "2026-03-01T12:00:00.25+01:00",
        "value": 1e300, "count": -7, "price": "12.50", "ok": true, "tags": ["a,b", "c\"d", null, "\\"],
        "raw": "\\xdeadbeef", "id": id(7).to_string(), "day": "2026-02-28",
        "data": {"deep": [1, {"x": null}], "text": "a\\b\tc"}});
    let records = [record(1, all), reading(2), reading(2)];
    let guard = RejectGuard::default();
    for _ in 0..2 {
        let outcomes = write(&sink, &guard, &records).await.expect("written");
        assert_eq!(outcomes, vec![RowOutcome::Stored; 3]);
    }
    assert_eq!(db.count("readings").await, 2);
    let sql = "SELECT concat_ws('|', meter, at AT TIME ZONE 'UTC', value, count, price, ok, tags[2], tags[3] IS NULL, \
               tags[4], encode(raw, 'hex'), id, day, data, number, noted > '2026-01-01') FROM readings WHERE count = -7";
    let row = db.sql.query_one(sql, &[]).await.expect("it answers");
    let text: String = row.get(0);
    assert_eq!(
        text,
        format!(
            "tab\there\\ \"and\"\nthere|2026-03-01 11:00:00.25|1e+300|-7|12.50|t|c\"d|t|\\|deadbeef|{}|2026-02-28|\
             {{\"deep\": [1, {{\"x\": null}}], \"text\": \"a\\\\b\\tc\"}}|1|t",
            id(7)
        )
    );
    // Of another pipeline with another table, the same message is another row.
    db.sql
        .batch_execute("CREATE TABLE others (LIKE readings)")
        .await
        .expect("made");
    let other = made(
        &db,
        "ALTER TABLE others ALTER noted DROP NOT NULL, ALTER number DROP NOT NULL",
        config("others"),
    )
    .await;
    write(&other, &guard, &records[1..]).await.expect("written");
    assert_eq!(db.count("others").await, 1);
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_column_value_and_type_and_its_neighbours_are_stored() {
    let db = Database::new("table_misfits").await;
    let sink = made(&db, READINGS, config("readings")).await;
    let with = |number, name: &str, value: Value| {
        let mut record = reading(number);
        record.fields.insert(name.to_owned(), value);
        record
    };
    let missing = record(7, json!({"meter": "m"}));
    let wrong = [
        with(1, "count", json!("seven")),
        with(2, "count", json!(3_000_000_000_u64)),
        with(3, "at", json!("yesterday-ish")),
        with(4, "value", json!({"x": 1})),
        with(5, "price", json!(123_456)),
        with(6, "colour", json!("red")),
        missing,
        with(8, "meter", json!("nul\u{0}")),
    ];
    let expected = [
        "count: \"seven\" does not fit integer: invalid input syntax",
        "count: 3000000000 does not fit integer: value \"3000000000\" is out of range",
        "at: \"yesterday-ish\" does not fit timestamp with time zone",
        "value: {\"x\":1} does not fit double precision",
        "price: 123456 does not fit numeric(6,2): numeric field overflow",
        "colour: table readings has no such column",
        "at: nothing does not fit timestamp with time zone",
        "meter: \"nul\\u0000\" does not fit text",
    ];
    let mut batch: Vec<_> = (100..400).map(reading).collect();
    for (index, wrong) in wrong.iter().enumerate() {
        batch.insert(index * 37, wrong.clone());
    }
    let outcomes = write(&sink, &RejectGuard::default(), &batch)
        .await
        .expect("written");
    let rejected: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            RowOutcome::Rejected(rejection) => Some(rejection),
            _ => None,
        })
        .collect();
    assert_eq!(rejected.len(), expected.len(), "{rejected:?}");
    for (rejection, expected) in rejected.iter().zip(expected) {
        assert_eq!(rejection.by, RejectedBy::Decoder, "{rejection:?}");
        assert!(
            rejection.text.starts_with(expected),
            "{expected}: {rejection:?}"
        );
    }
    assert_eq!(db.count("readings").await, 300);
}

#[tokio::test]
async fn a_table_that_is_mended_under_a_writer_rejects_nothing() {
    let db = Database::new("table_mended_under_writer").await;
    let sink = made(&db, READINGS, config("readings")).await;
    let guard = RejectGuard::default();
    write(&sink, &guard, &[reading(1)]).await.expect("stored");
    let plant = "ALTER TABLE readings ADD CONSTRAINT planted CHECK (value < 0) NOT VALID";
    db.sql.batch_execute(plant).await.expect("planted");
    let mend = MendUnderWriter::prepare(&db, "readings").await;
    let batch = [reading(2), reading(3)];
    let (written, ()) = tokio::join!(write(&sink, &guard, &batch), mend.mend());
    assert_eq!(written.expect("mended"), vec![RowOutcome::Stored; 2]);
    assert_eq!(db.count("readings").await, 3);
}

#[tokio::test]
async fn a_table_at_fault_is_held_and_goes_on_after_the_mend() {
    let db = Database::new("table_held").await;
    let sink = made(&db, READINGS, config("readings")).await;
    let guard = RejectGuard::default();
    write(&sink, &guard, &[reading(1)]).await.expect("stored");
    for (fault, mend) in [
        (
            "ALTER TABLE readings ADD CONSTRAINT c CHECK (value < 0) NOT VALID",
            "ALTER TABLE readings DROP CONSTRAINT c",
        ),
        (
            "ALTER TABLE readings RENAME value TO amount",
            "ALTER TABLE readings RENAME amount TO value",
        ),
        (
            "ALTER TABLE readings RENAME TO gone",
            "ALTER TABLE gone RENAME TO readings",
        ),
        (
            "ALTER TABLE readings ALTER meter TYPE integer USING 1",
            "ALTER TABLE readings ALTER meter TYPE text",
        ),
    ] {
        db.sql.batch_execute(fault).await.expect(fault);
        let batch: Vec<_> = (10..40).map(reading).collect();
        let error = write(&sink, &guard, &batch).await.expect_err(fault);
        assert_eq!(error.stored().count(), 0, "{fault}");
        if fault.contains("CHECK") {
            let WriteError::RefusedAlike { source, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(source.refused, 1, "the others are not looked for");
        }
        db.sql.batch_execute(mend).await.expect(mend);
    }
    let batch: Vec<_> = (1..40).map(reading).collect();
    let outcomes = write(&sink, &guard, &batch).await.expect("mended");
    assert_eq!(outcomes, vec![RowOutcome::Stored; 39]);
    assert_eq!(db.count("readings").await, 39);
}

#[tokio::test]
async fn a_declared_table_is_made_and_extended_and_a_missing_one_told() {
    let db = Database::new("table_made").await;
    let prepare = |config| TableSink::prepare(db.postgres.clone(), config);
    let error = prepare(config("nowhere")).await.expect_err("missing");
    assert!(matches!(error, TableError::Missing { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Fatal);

    let columns = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()));
        Some(all.collect::<Vec<_>>())
    };
    let mut declared = TableConfig {
        columns: columns(&[("meter", "text NOT NULL"), ("value", "double precision")]),
        ..config("meters")
    };
    assert_eq!(
        declared.ddl().as_deref(),
        Some(
            "CREATE TABLE \"meters\" (\n    \"meter\" text NOT NULL,\n    \"value\" double precision\n);\n"
        )
    );
    prepare(declared.clone()).await.expect("made");
    declared.columns = columns(&[
        ("meter", "text NOT NULL"),
        ("value", "double precision"),
        ("data", "jsonb"),
    ]);
    declared.unknown_fields = UnknownFields::JsonColumn;
    let sink = prepare(declared.clone()).await.expect("extended");
    let rest = record(1, json!({"meter": "m", "colour": "red", "size": {"x": 1}}));
    write(&sink, &RejectGuard::default(), &[rest])
        .await
        .expect("stored");
    let sql = "SELECT data::text FROM meters";
    let data: String = db.sql.query_one(sql, &[]).await.expect("it answers").get(0);
    assert_eq!(data, r#"{"size": {"x": 1}, "colour": "red"}"#);

    declared.columns = columns(&[("meter", "integer")]);
    let error = prepare(declared).await.expect_err("narrowed");
    assert!(matches!(error, TableError::Make { .. }), "{error}");
    let no_data = TableConfig {
        unknown_fields: UnknownFields::JsonColumn,
        ..config("customers")
    };
    let error = prepare(no_data).await.expect_err("no column data");
    assert!(
        error.to_string().contains("json_column needs a column"),
        "{error}"
    );
}
