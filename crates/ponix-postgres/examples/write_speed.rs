//! Measures [`ponix_postgres::Postgres::write`]: claims, rows of one table with a second unique key,
//! and statuses, in one transaction per batch.
//!
//! ```text
//! cargo run --release -p ponix-postgres --example write_speed
//! ```
//!
//! It starts a PostgreSQL of its own.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use ponix_entities::{Catalog, ParsedMessage, Row, TableIndex, Value};
use ponix_postgres::{Accepted, MessageRow, Postgres, PostgresConfig, PostgresMetrics};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

const MESSAGES: usize = 300_000;
const ORDER: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Order}
spec:
  type: root
  prefix: O
  fields:
    - {name: order_key, type: Integer}
    - {name: customer_key, type: Integer}
    - {name: order_status, type: String}
    - {name: total_price, type: Decimal, precision: 15, scale: 2}
    - {name: order_date, type: Date}
    - {name: ship_priority, type: Integer}
    - {name: comment, type: String}
  persistence: {table: orders, unique: [[order_key]]}
";

fn batch(first: usize, count: usize, now: OffsetDateTime) -> Vec<MessageRow> {
    (first..first + count)
        .map(|key| MessageRow {
            message_id: Uuid::now_v7(),
            organization: Some("acme".into()),
            entity_type: Some("Order".into()),
            received_at: now,
            source: Some("192.0.2.1".into()),
            retry_count: 0,
            parsed: Ok(ParsedMessage {
                entity: "Order".into(),
                rows: vec![Row {
                    table: TableIndex(0),
                    values: vec![
                        Value::Integer(key as i64),
                        Value::Integer(key as i64 % 1_000),
                        Value::Text("O".into()),
                        Value::Decimal(Decimal::new(key as i64 * 37 % 10_000_000, 2)),
                        Value::Date(now.date()),
                        Value::Integer(0),
                        Value::Text("carefully packed, do not throw, ring twice".into()),
                    ],
                }],
            }),
        })
        .collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = ponix_stack::Postgres::start().await?;
    let config = PostgresConfig {
        url: server.url().into(),
        ..PostgresConfig::default()
    };
    let postgres = Postgres::connect(config, PostgresMetrics::default())?;
    postgres.migrate().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("order.yaml"), ORDER)?;
    let catalog = Arc::new(Catalog::load(folder.path())?);
    postgres.apply_entities(&catalog).await?;
    let mut first = 0;
    let now =
        OffsetDateTime::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_000_000));
    println!(
        "{:>8} {:>8} {:>9} {:>12}",
        "batch", "writers", "accepted", "messages/s"
    );
    for (size, writers, known) in [
        (1_000, 1, false),
        (5_000, 1, false),
        (5_000, 2, false),
        (5_000, 1, true),
        (5_000, 2, true),
    ] {
        let mut batches = Vec::new();
        while batches.len() * size < MESSAGES {
            batches.push(batch(first, size, now));
            first += size;
        }
        if known {
            for batch in &batches {
                let accepted: Vec<_> = batch
                    .iter()
                    .map(|m| Accepted {
                        message_id: m.message_id,
                        organization: m.organization.clone(),
                        entity_type: m.entity_type.clone(),
                        received_at: m.received_at,
                        source: m.source.clone(),
                    })
                    .collect();
                postgres.record_accepted(&accepted).await?;
            }
        }
        let mut shares: Vec<Vec<_>> = (0..writers).map(|_| Vec::new()).collect();
        for (place, batch) in batches.into_iter().enumerate() {
            shares[place % writers].push(batch);
        }
        let begun = Instant::now();
        let tasks: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let (postgres, catalog) = (postgres.clone(), catalog.clone());
                tokio::spawn(async move {
                    for batch in &share {
                        postgres.write(&catalog, batch).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
        println!("{size:>8} {writers:>8} {known:>9} {rate:>12.0}");
    }
    Ok(())
}
