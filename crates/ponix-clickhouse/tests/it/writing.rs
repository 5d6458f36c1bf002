//! What is written can be read.

use ponix_clickhouse::InsertResult;
use ponix_sink::Sink as _;
use uuid::Uuid;

use crate::support::{self, NEW_YEAR_NS, Store, row, rows};

#[tokio::test]
async fn a_row_comes_back_field_by_field() {
    let store = Store::new("field_by_field").await;
    let data = concat!(
        r#"{"temperature":21.5,"count":72.0,"tiny":5e-324,"big":1.7976931348623157e308,"#,
        r#""name":"Gerät \"7\"\n","on":true,"tags":["a","b"],"#,
        r#""nested":{"list":[{"x":1.0},{"x":2.0}],"deep":{"er":false}}}"#
    );
    let mut row = row(0, data);
    row.envelope.organization_id = "Öffentliche Werke".into();
    row.envelope.end_device_id = "sensor/7 ✓".into();
    row.envelope.occurred_at_ns = NEW_YEAR_NS + 123_456_789;
    row.envelope.processed_at_ns = NEW_YEAR_NS + 999_999_999;
    row.published_at_ns = NEW_YEAR_NS + 1;
    row.stream_sequence = u64::MAX;
    row.event_id = Uuid::parse_str("018f4e2a-7c31-7d05-9b1e-3f2a4c5d6e7f").expect("a UUID");
    for batch in store.sink.encode(vec![row]).await.expect("encoded") {
        store.sink.insert(&batch).await.expect("it is stored");
    }

    let fields = "SELECT concat_ws('|', organization_id, end_device_id, toString(occurred_at), \
                  toString(processed_at), toString(event_id), toString(published_at), \
                  toString(stream_sequence)) FROM envelopes";
    assert_eq!(
        store.text(fields).await,
        "Öffentliche Werke|sensor/7 ✓|2026-01-01 00:00:00.123456789|2026-01-01 00:00:00.999999999\
         |018f4e2a-7c31-7d05-9b1e-3f2a4c5d6e7f|2026-01-01 00:00:00.000000001|18446744073709551615"
    );
    let values = "SELECT concat_ws('|', data.name::String, toString(data.temperature), \
                  toString(data.on), toString(data.tags), toString(data.nested.deep.er), \
                  toString(data.nested.list[].x), toString(data.tiny), toString(data.big)) \
                  FROM envelopes";
    assert_eq!(
        store.text(values).await,
        "Gerät \"7\"\n|21.5|true|['a','b']|false|[1,2]|5e-324|1.7976931348623157e308"
    );
    assert_eq!(
        store
            .text("SELECT dynamicType(data.count) FROM envelopes")
            .await,
        "Float64"
    );
}

#[tokio::test]
async fn a_dotted_key_beside_a_nested_one_is_kept() {
    let store = Store::new("dotted_keys").await;
    let data = r#"{"a.b":1.0,"a":{"b":2.0}}"#;
    let outcome = store.write(&[row(0, data)]).await;
    assert_eq!(support::rejected(&outcome.expect("it is stored")), []);
    let both = "SELECT toString(data.`a%2Eb`) || ' ' || toString(data.a.b) FROM envelopes";
    assert_eq!(store.text(both).await, "1 2");
}

#[tokio::test]
async fn texts_that_look_like_something_else_stay_texts() {
    let store = Store::new("texts_stay_texts").await;
    let data = r#"{"t":"2026-01-01T00:00:00Z","d":"2026-01-01","n":"12","b":"true"}"#;
    store.write(&[row(0, data)]).await.expect("stored");
    let texts = "SELECT arrayStringConcat(arrayMap(k -> dynamicType(k), \
                 [data.t, data.d, data.n, data.b]), ' ') || ' ' || data.t::String FROM envelopes";
    assert_eq!(
        store.text(texts).await,
        "String String String String 2026-01-01T00:00:00Z"
    );
}

#[tokio::test]
async fn a_thousand_rows_of_ten_organizations_are_one_insert() {
    let store = Store::new("ten_organizations").await;
    let mut rows = rows(1_000);
    for (n, row) in rows.iter_mut().enumerate() {
        row.envelope.organization_id = format!("org-{}", n % 10);
    }
    let outcome = store.write(&rows).await;
    assert_eq!(outcome.expect("all are stored").len(), 1_000);
    assert_eq!((store.inserts(), store.metrics.rows()), (1, 1_000));
    assert_eq!(store.envelopes().await, 1_000);
    let even = "SELECT uniqExact(organization_id) * 1000 + min(c) FROM \
                (SELECT organization_id, count() AS c FROM envelopes GROUP BY organization_id)";
    assert_eq!(store.number(even).await, 10_100);
}

#[tokio::test]
async fn no_block_is_deduplicated() {
    let store = Store::new("no_deduplication").await;
    // A view runs with the settings of the INSERT.
    for sql in [
        "CREATE TABLE effective (setting String) ENGINE = MergeTree ORDER BY setting",
        "CREATE MATERIALIZED VIEW reading TO effective AS \
         SELECT concat_ws(' ', getSetting('deduplicate_insert'), \
                toString(getSetting('insert_deduplicate')), \
                toString(getSetting('async_insert'))) AS setting FROM processed_envelopes",
    ] {
        store.execute(sql).await;
    }
    store.write(&rows(1)).await.expect("stored");
    let setting = store.text("SELECT setting FROM effective").await;
    assert_eq!(setting, "disable false false");
}

#[tokio::test]
async fn nothing_to_write_sends_nothing() {
    let store = Store::new("nothing_to_write").await;
    let outcome = store.write(&[]).await;
    assert_eq!(
        (outcome.expect("nothing fails").len(), store.inserts()),
        (0, 0)
    );
}

#[tokio::test]
async fn readers_see_the_earliest_publish_once() {
    let store = Store::new("earliest_publish").await;
    store.stop_merges().await;
    // (publish time, sequence) in the order of arrival; each is a part of its own.
    let arrivals = [(30, 7), (10, 9), (10, 8), (20, 1), (10, 8)];
    for (n, (published, sequence)) in arrivals.into_iter().enumerate() {
        let mut copy = row(0, format!(r#"{{"arrival":{n}.0}}"#));
        copy.published_at_ns = NEW_YEAR_NS + published;
        copy.stream_sequence = sequence;
        let other = row(1, "{}");
        store.write(&[copy, other]).await.expect("stored");
    }
    let winner = "SELECT concat_ws(' ', toString(toUnixTimestamp64Nano(published_at) % 1000), \
                  toString(stream_sequence)) FROM envelopes WHERE stream_sequence != 2";
    assert_eq!((store.copies().await, store.envelopes().await), (10, 2));
    assert_eq!(store.text(winner).await, "10 8");
    store
        .execute("SYSTEM START MERGES processed_envelopes")
        .await;
    store
        .execute("OPTIMIZE TABLE processed_envelopes FINAL")
        .await;
    assert_eq!((store.copies().await, store.envelopes().await), (2, 2));
    assert_eq!(store.text(winner).await, "10 8");
}

#[tokio::test]
async fn rows_of_many_months_are_split_before_clickhouse_refuses_them() {
    let store = Store::new("many_months").await;
    let mut rows = rows(2_400);
    for (n, row) in rows.iter_mut().enumerate() {
        // 120 months in turn.
        row.envelope.occurred_at_ns = (n as i64 % 120) * 31 * 86_400 * 1_000_000_000;
    }
    store.write(&rows).await.expect("all are stored");
    assert_eq!(store.metrics.inserts(InsertResult::Ok), 3);
    assert_eq!(store.inserts(), 3);
    assert_eq!(store.envelopes().await, 2_400);
    let months = "SELECT uniqExact(toYYYYMM(occurred_at)) FROM processed_envelopes";
    assert_eq!(store.number(months).await, 120);
}

#[tokio::test]
async fn a_batch_larger_than_a_chunk_arrives_whole() {
    let store = Store::new("large_batch").await;
    let text = "x".repeat(10_000);
    let rows: Vec<_> = (0..500)
        .map(|n| row(n, format!(r#"{{"text":"{text}"}}"#)))
        .collect();
    store.write(&rows).await.expect("all are stored");
    assert_eq!((store.inserts(), store.envelopes().await), (1, 500));
    let bytes = "SELECT sum(length(data.text::String)) FROM envelopes";
    assert_eq!(store.number(bytes).await, 5_000_000);
}

#[tokio::test]
async fn a_quiet_month_is_merged_by_itself() {
    let store = Store::new("table_settings").await;
    let table = "SELECT create_table_query FROM system.tables \
                 WHERE database = currentDatabase() AND name = 'processed_envelopes'";
    let table = store.text(table).await;
    for part in [
        "ReplacingMergeTree(version)",
        "PARTITION BY toYYYYMM(occurred_at)",
        "ORDER BY (organization_id, end_device_id, occurred_at, event_id)",
        "min_age_to_force_merge_seconds = 3600",
        "min_age_to_force_merge_on_partition_only = 1",
        "vertical_merge_algorithm_min_columns_to_activate = 1",
    ] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
}
