//! The engine offers what Ponix's tables need.

use hyper::StatusCode;
use serde_json::Value;

use crate::server::{Server, server_or_skip};

const CREATE: &str = "CREATE TABLE envelopes_all (organization_id LowCardinality(String), \
    occurred_at DateTime64(9, 'UTC'), data JSON, event_id UUID, published_at DateTime64(9, 'UTC'), \
    version UInt64 MATERIALIZED 18446744073709551615 - toUnixTimestamp64Nano(published_at)) \
    ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(occurred_at) \
    ORDER BY (organization_id, occurred_at, event_id)";
const VIEW: &str = "CREATE VIEW envelopes AS SELECT * FROM envelopes_all FINAL \
    SETTINGS do_not_merge_across_partitions_select_final = 1";

fn put_text(row: &mut Vec<u8>, text: &str) {
    row.push(u8::try_from(text.len()).unwrap());
    row.extend_from_slice(text.as_bytes());
}

/// A row in RowBinary; times in nanoseconds.
fn row(data: &str, event_id: u8, occurred_at: i64, published_at: i64) -> Vec<u8> {
    let mut row = Vec::new();
    put_text(&mut row, "org");
    row.extend(occurred_at.to_le_bytes());
    put_text(&mut row, data);
    row.extend([event_id; 16]);
    row.extend(published_at.to_le_bytes());
    row
}

async fn insert(server: &Server, rows: Vec<u8>) {
    let parameters = [
        ("query", "INSERT INTO envelopes_all FORMAT RowBinary"),
        ("input_format_binary_read_json_as_string", "1"),
        ("json_type_escape_dots_in_keys", "1"),
        ("async_insert", "0"),
        ("insert_deduplicate", "0"),
    ];
    let reply = server.post(&parameters, rows).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

#[tokio::test]
async fn envelopes_are_stored_whole_and_once() {
    let server = server_or_skip!();
    server.sql(CREATE).await;
    server.sql(VIEW).await;
    let occurred_at = 1_767_312_245_123_456_789_i64;
    let data = r#"{"a.b":1.0,"a":{"b":72.0},"list":[1.0,"x",null],"flag":true}"#;
    insert(&server, row(data, 1, occurred_at, 5_000)).await;
    insert(
        &server,
        [row(data, 1, occurred_at, 4_000), row("{}", 2, 0, 1)].concat(),
    )
    .await;
    insert(&server, row(data, 1, occurred_at, 6_000)).await;

    assert_eq!(server.sql("SELECT count() FROM envelopes_all").await, "4");
    assert_eq!(
        server
            .sql("SELECT count(), uniqExact(event_id) FROM envelopes")
            .await,
        "2\t2"
    );
    let kept = "SELECT toUnixTimestamp64Nano(occurred_at), toUnixTimestamp64Nano(published_at), data FROM envelopes \
                WHERE occurred_at > 0 SETTINGS json_type_escape_dots_in_keys = 1 FORMAT JSONCompactEachRow";
    let kept: Value = serde_json::from_str(&server.sql(kept).await).unwrap();
    assert_eq!(
        kept[0].to_string().trim_matches('"'),
        occurred_at.to_string()
    );
    assert_eq!(
        kept[1].to_string().trim_matches('"'),
        "4000",
        "the earliest publish wins"
    );
    assert_eq!(
        (&kept[2]["a.b"], &kept[2]["a"]["b"], &kept[2]["flag"]),
        (&1.into(), &72.into(), &true.into())
    );
    let types = "SELECT dynamicType(data.a.b) FROM envelopes WHERE occurred_at > 0";
    assert_eq!(server.sql(types).await, "Float64");
}

#[tokio::test]
async fn parts_are_merged_in_the_background() {
    let server = server_or_skip!();
    server.sql("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS old_parts_lifetime = 1").await;
    for n in 0..40 {
        server
            .sql(&format!(
                "INSERT INTO t SELECT number + {n} FROM numbers(1000)"
            ))
            .await;
    }
    let parts = "SELECT count() FROM system.parts WHERE table = 't' AND active";
    ponix_stack::eventually(
        "parts are merged",
        std::time::Duration::from_mins(1),
        async || {
            let parts = server.sql(parts).await;
            if parts.parse::<u32>().unwrap() < 20 {
                Ok(())
            } else {
                Err(parts)
            }
        },
    )
    .await
    .unwrap();
    assert_eq!(server.sql("SELECT count() FROM t").await, "40000");
}
