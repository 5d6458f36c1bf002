//! The `clickhouse` crate as a client, compression on.

use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};

use crate::server::{Server, server_or_skip};

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Reading {
    device: String,
    value: f64,
    n: u64,
    note: Option<String>,
}

fn reading(n: u64) -> Reading {
    Reading {
        device: format!("d{}", n % 7),
        value: n as f64 / 2.0,
        n,
        note: (n.is_multiple_of(2)).then(|| "even".to_owned()),
    }
}

fn client(server: &Server, compression: Compression) -> Client {
    Client::default()
        .with_url(server.url())
        .with_user("ponix")
        .with_password("secret")
        .with_database("x")
        .with_compression(compression)
}

const CREATE: &str = "CREATE TABLE readings (device LowCardinality(String), value Float64, n UInt64, \
                      note Nullable(String)) ENGINE = MergeTree ORDER BY n";

#[tokio::test]
async fn rows_go_in_and_come_out() {
    let server = server_or_skip!("--user", "ponix", "--password", "secret", "--database", "x");
    for compression in [Compression::Lz4, Compression::None] {
        let client = client(&server, compression);
        client
            .query("DROP TABLE IF EXISTS readings SYNC")
            .execute()
            .await
            .unwrap();
        client.query(CREATE).execute().await.unwrap();
        let expected: Vec<_> = (0..150_000).map(reading).collect();
        let mut insert = client.insert::<Reading>("readings").await.unwrap();
        for row in &expected {
            insert.write(row).await.unwrap();
        }
        insert.end().await.unwrap();
        let found = client
            .query("SELECT ?fields FROM readings ORDER BY n")
            .fetch_all::<Reading>()
            .await
            .unwrap();
        assert!(found == expected, "{compression:?}: {} rows", found.len());
        let one = client
            .query("SELECT ?fields FROM readings WHERE n = {n:UInt64}")
            .param("n", 3);
        assert_eq!(one.fetch_one::<Reading>().await.unwrap(), reading(3));
    }
}

#[tokio::test]
async fn an_insert_that_is_dropped_stores_nothing() {
    let server = server_or_skip!("--user", "ponix", "--password", "secret", "--database", "x");
    let client = client(&server, Compression::Lz4);
    client.query(CREATE).execute().await.unwrap();
    let mut insert = client.insert::<Reading>("readings").await.unwrap();
    for n in 0..50_000 {
        insert.write(&reading(n)).await.unwrap();
    }
    drop(insert);
    // A later insert that is answered comes after the broken one.
    let mut insert = client.insert::<Reading>("readings").await.unwrap();
    insert.write(&reading(1)).await.unwrap();
    insert.end().await.unwrap();
    assert_eq!(
        client
            .query("SELECT count() FROM readings")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn errors_carry_their_code() {
    let server = server_or_skip!("--user", "ponix", "--password", "secret", "--database", "x");
    let client = client(&server, Compression::Lz4);
    let text = |result: Result<Vec<u8>, clickhouse::error::Error>| result.unwrap_err().to_string();
    let unknown = text(client.query("SELECT * FROM nosuch").fetch_all::<u8>().await);
    assert!(unknown.contains("Code: 60."), "{unknown}");
    let late = "SELECT toUInt8(throwIf(number = 3000000)) FROM numbers(4000000)";
    let late = text(
        client
            .clone()
            .with_setting("max_threads", "1")
            .query(late)
            .fetch_all::<u8>()
            .await,
    );
    assert!(late.contains("Code: 395."), "{late}");
    let wrong = text(
        client
            .with_password("wrong")
            .query("SELECT 1")
            .fetch_all::<u8>()
            .await,
    );
    assert!(wrong.contains("Code: 516."), "{wrong}");
}
