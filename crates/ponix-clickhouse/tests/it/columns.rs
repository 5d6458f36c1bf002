//! Data that is sent as columns reads as the same data sent as text, to the last digit.

use ponix_clickhouse::{ClickHouseConfig, Client, EnvelopeRow};
use ponix_sink::Sink as _;
use ponix_wire::decode_envelope_of;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::{self, NEW_YEAR_NS, Store};

/// A store with the tables, whose sink sends columns, and one on the same tables that sends text.
async fn stores(database: &str) -> (Store, Store) {
    let columns = Store::new(database).await;
    let config = ClickHouseConfig {
        insert_paths_max: 0,
        ..support::config(support::server().await, database)
    };
    let text = Store::without_tables(Client::new(&config).expect("valid"));
    (columns, text)
}

/// A row as a worker would decode it; `None` for data that no envelope may have.
fn row(n: usize, data: &Value) -> Option<EnvelopeRow> {
    let payload = json!({
        "organization_id": "org",
        "end_device_id": format!("device-{n}"),
        "occurred_at": "2026-01-01T00:00:00Z",
        "data": data,
    });
    let envelope = decode_envelope_of(
        payload.to_string().as_bytes(),
        Some("application/json"),
        NEW_YEAR_NS,
    );
    Some(EnvelopeRow {
        envelope: envelope.ok()?,
        event_id: Uuid::from_u128(n as u128 + 1),
        published_at_ns: NEW_YEAR_NS + n as i64,
        stream_sequence: n as u64,
    })
}

const VALUES: &str = "toString(data)";
const VALUES_AND_TYPES: &str = "(toString(data), toString(mapSort(JSONAllPathsWithTypes(data))))";

/// Writes the same rows both ways, and tells which of them do not read alike.
async fn differences(columns: &Store, text: &Store, rows: &[EnvelopeRow], reading: &str) -> String {
    let mut as_columns = rows.to_vec();
    for row in &mut as_columns {
        row.envelope.organization_id = "columns".into();
    }
    for (store, rows) in [(text, rows.to_vec()), (columns, as_columns)] {
        for outcome in store.write(&rows).await.expect("written") {
            assert_eq!(outcome, ponix_sink::RowOutcome::Stored);
        }
    }
    let of = |organization: &str| {
        format!(
            "(SELECT * EXCEPT (organization_id, data, version), {reading} AS read \
             FROM processed_envelopes WHERE organization_id = '{organization}')"
        )
    };
    let differing = format!(
        "SELECT toString(groupArray((a.read, b.read))) FROM {} AS a FULL JOIN {} AS b \
         USING (end_device_id, occurred_at, processed_at, event_id, published_at, \
                stream_sequence) WHERE a.read != b.read",
        of("org"),
        of("columns"),
    );
    let differing = columns.text(&differing).await;
    let counts = "SELECT toString(count()) FROM processed_envelopes";
    assert_eq!(columns.text(counts).await, (2 * rows.len()).to_string());
    columns.execute("TRUNCATE TABLE processed_envelopes").await;
    differing
}

async fn has_block(store: &Store, rows: &[EnvelopeRow]) -> bool {
    let batches = store.sink.encode(rows.to_vec()).await.expect("encoded");
    batches.iter().all(|batch| batch.block().is_some())
}

/// Values that have columns; lists have `least` elements at least, of which the first is not null.
fn value(least: usize) -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<f64>().prop_filter_map("finite", |number| {
            serde_json::Number::from_f64(number).map(Value::from)
        }),
        (-1_000_000_i64..1_000_000).prop_map(Value::from),
        Just(json!(-0.0)),
    ];
    let text = prop_oneof![
        any::<String>().prop_map(Value::from),
        Just(json!("2026-01-01")),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("12")),
        Just(json!("true")),
        Just(json!("")),
        Just(json!("a\u{0}\"\\\n\u{1f600}")),
    ];
    let list = |element: BoxedStrategy<Value>| {
        let first = prop::collection::vec(element.clone(), least);
        let element = prop_oneof![4 => element, 1 => Just(Value::Null)];
        let more = prop::collection::vec(element, 0..5);
        (first, more).prop_map(|(first, more)| Value::from([first, more].concat()))
    };
    let number = number.boxed();
    let text = text.boxed();
    let truth = any::<bool>().prop_map(Value::from).boxed();
    prop_oneof![
        4 => number.clone(),
        3 => text.clone(),
        1 => truth.clone(),
        1 => Just(Value::Null),
        1 => list(number),
        1 => list(text),
        1 => list(truth),
    ]
}

fn object(least: usize) -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "a", "b", "c", "n", "", "a.b", "a%2Eb", ".", "%", "ü", "a\"b", "\n", "\u{0}",
    ]);
    value(least).prop_recursive(3, 40, 6, move |inner| {
        prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|members| {
            let members = members.into_iter();
            Value::from(
                members
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<Map<_, _>>(),
            )
        })
    })
}

#[tokio::test]
async fn generated_data_reads_the_same_both_ways() {
    let (columns, text) = stores("columns_generated").await;
    compare_generated(&columns, &text, 1, VALUES_AND_TYPES).await;
}

/// The type of a list that holds nothing, or nulls, the server takes from what it met before under
/// the path in the same INSERT.
#[tokio::test]
async fn generated_data_with_empty_lists_reads_the_same_but_for_their_types() {
    let (columns, text) = stores("columns_generated_empty").await;
    compare_generated(&columns, &text, 0, VALUES).await;
}

async fn compare_generated(columns: &Store, text: &Store, least: usize, reading: &str) {
    let mut runner = TestRunner::default();
    for _ in 0..12 {
        let objects = prop::collection::vec(object(least), 400)
            .new_tree(&mut runner)
            .expect("values")
            .current();
        let objects = objects.iter().filter(|value| value.is_object());
        let rows: Vec<_> = objects
            .enumerate()
            .filter_map(|(n, data)| row(n, data))
            .collect();
        assert!(rows.len() > 64, "{} rows", rows.len());
        assert!(has_block(columns, &rows).await);
        assert!(!has_block(text, &rows).await);
        assert_eq!(differences(columns, text, &rows, reading).await, "[]");
    }
}

#[tokio::test]
async fn rows_alike_rows_of_several_kinds_and_empty_rows_read_the_same() {
    let (columns, text) = stores("columns_kinds").await;
    let data = |n: usize| match n % 5 {
        0 => json!({}),
        1 => json!({"t": 1.5, "site": {"name": "x", "at": {"lat": 1, "lon": 2}}, "on": true}),
        2 => json!({"site": {"at": {"lon": 2}, "name": 7}, "t": "hot"}),
        3 => json!({"t": [1, null, 3], "n": null, "site": {}}),
        _ => json!({"t": true, "other": n}),
    };
    let rows: Vec<_> = (0..500).filter_map(|n| row(n, &data(n))).collect();
    assert_eq!(rows.len(), 500);
    assert!(has_block(&columns, &rows).await);
    assert_eq!(
        differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
        "[]"
    );
    let rows: Vec<_> = (0..100).filter_map(|n| row(n, &json!({}))).collect();
    assert!(has_block(&columns, &rows).await);
    assert_eq!(
        differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
        "[]"
    );
}

/// Paths are kept whole: many under one long name would take more memory than all rows.
#[tokio::test]
async fn long_paths_go_as_text() {
    let (columns, text) = stores("columns_long_paths").await;
    let members = (0..200).map(|n| (format!("k{n}"), json!(n)));
    let members = Value::from(members.collect::<Map<_, _>>());
    let data = |n: usize| {
        if n == 50 {
            let mut object = Map::new();
            object.insert("x".repeat(10_000), members.clone());
            Value::from(object)
        } else {
            json!({"t": n})
        }
    };
    let rows: Vec<_> = (0..100).filter_map(|n| row(n, &data(n))).collect();
    let batches = columns.sink.encode(rows.clone()).await.expect("encoded");
    let sizes: Vec<_> = batches
        .iter()
        .map(|batch| (batch.rows(), batch.block().is_some()))
        .collect();
    assert_eq!(sizes, [(99, true), (1, false)]);
    assert_eq!(
        differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
        "[]"
    );
}

#[tokio::test]
async fn rows_without_columns_go_beside_those_that_have_them() {
    let (columns, text) = stores("columns_beside").await;
    let data = |n: usize| match n % 10 {
        7 => json!({"t": 1.5, "list": [{"x": n}, 1]}),
        _ => json!({"t": n, "site": {"name": "x"}}),
    };
    let rows: Vec<_> = (0..500).filter_map(|n| row(n, &data(n))).collect();
    let batches = columns.sink.encode(rows.clone()).await.expect("encoded");
    let sizes: Vec<_> = batches
        .iter()
        .map(|batch| (batch.rows(), batch.block().is_some()))
        .collect();
    assert_eq!(sizes, [(450, true), (50, false)]);
    assert_eq!(
        differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
        "[]"
    );
}

#[tokio::test]
async fn paths_with_types_of_their_own_are_read_from_text() {
    let (columns, text) = stores("columns_typed").await;
    let rows: Vec<_> = (0..100)
        .filter_map(|n| row(n, &json!({"t": 1.5})))
        .collect();
    columns
        .execute("ALTER TABLE processed_envelopes MODIFY COLUMN data JSON(t Float64)")
        .await;
    assert!(!has_block(&columns, &rows).await);
    assert_eq!(
        differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
        "[]"
    );
}

#[tokio::test]
async fn what_has_no_columns_goes_as_text() {
    let (columns, text) = stores("columns_none").await;
    type Data = fn(usize) -> Value;
    let data: [(&str, Data); 5] = [
        ("objects", |n| json!({"list": [{"x": n}]})),
        ("mixed", |n| json!({"list": [n, "a"]})),
        ("lists", |n| json!({"list": [[n]]})),
        ("numbers and truth", |n| json!({"list": [n, true]})),
        ("paths", |n| {
            let members = (0..10).map(|k| (format!("k{}", n * 10 + k), json!(1)));
            Value::from(members.collect::<Map<_, _>>())
        }),
    ];
    for (what, data) in data {
        let rows: Vec<_> = (0..100).filter_map(|n| row(n, &data(n))).collect();
        assert_eq!(rows.len(), 100, "{what}");
        assert!(!has_block(&columns, &rows).await, "{what}");
        assert_eq!(
            differences(&columns, &text, &rows, VALUES_AND_TYPES).await,
            "[]",
            "{what}"
        );
    }
}
