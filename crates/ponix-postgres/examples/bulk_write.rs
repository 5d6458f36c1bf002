//! Measures three ways to store many rows at once: `INSERT … SELECT FROM UNNEST(arrays)`, `COPY`
//! into a temporary table with `INSERT … SELECT` from there, and `COPY` right into the table.
//!
//! ```text
//! cargo run --release -p ponix-postgres --example bulk_write
//! ```
//!
//! It starts a PostgreSQL of its own. Rows are those of an order: id, five values of fixed width, a
//! decimal, two texts; keys on id and on the order's number. The numbers are medians.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::pin::pin;
use std::time::Instant;

use anyhow::Result;
use ponix_stack::Postgres;
use rust_decimal::Decimal;
use time::Date;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

const ROUNDS: usize = 15;
const COLUMNS: &str =
    "id, order_key, customer_key, order_status, total_price, order_date, ship_priority, comment";
const TYPES: [Type; 8] = [
    Type::UUID,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::NUMERIC,
    Type::DATE,
    Type::INT8,
    Type::TEXT,
];

#[expect(
    clippy::struct_field_names,
    reason = "they are the columns of the table"
)]
struct Order {
    id: Uuid,
    order_key: i64,
    customer_key: i64,
    order_status: String,
    total_price: Decimal,
    order_date: Date,
    ship_priority: i64,
    comment: String,
}

fn orders(first: i64, count: usize) -> Vec<Order> {
    (first..)
        .take(count)
        .map(|order_key| Order {
            id: Uuid::new_v4(),
            order_key,
            customer_key: order_key % 1_000,
            order_status: "O".into(),
            total_price: Decimal::new(order_key * 37 % 10_000_000, 2),
            order_date: Date::from_calendar_date(2026, time::Month::May, 4).expect("a day"),
            ship_priority: 0,
            comment: "carefully packed, do not throw, ring twice".into(),
        })
        .collect()
}

async fn unnest(client: &mut Client, orders: &[Order]) -> Result<()> {
    let sql = format!(
        "INSERT INTO orders ({COLUMNS}) SELECT * FROM UNNEST($1::uuid[], $2::bigint[], \
         $3::bigint[], $4::text[], $5::numeric[], $6::date[], $7::bigint[], $8::text[])"
    );
    macro_rules! column {
        ($field:ident) => {
            orders.iter().map(|order| &order.$field).collect::<Vec<_>>()
        };
    }
    let transaction = client.transaction().await?;
    let statement = transaction.prepare(&sql).await?;
    let (ids, keys, customers) = (column!(id), column!(order_key), column!(customer_key));
    let (status, prices, dates) = (
        column!(order_status),
        column!(total_price),
        column!(order_date),
    );
    let (priorities, comments) = (column!(ship_priority), column!(comment));
    let values: [&(dyn ToSql + Sync); 8] = [
        &ids,
        &keys,
        &customers,
        &status,
        &prices,
        &dates,
        &priorities,
        &comments,
    ];
    transaction.execute(&statement, &values).await?;
    Ok(transaction.commit().await?)
}

async fn copy(
    transaction: &tokio_postgres::Transaction<'_>,
    table: &str,
    orders: &[Order],
) -> Result<()> {
    let sql = format!("COPY {table} ({COLUMNS}) FROM STDIN BINARY");
    let mut writer = pin!(BinaryCopyInWriter::new(
        transaction.copy_in(&sql).await?,
        &TYPES
    ));
    for order in orders {
        let values: [&(dyn ToSql + Sync); 8] = [
            &order.id,
            &order.order_key,
            &order.customer_key,
            &order.order_status,
            &order.total_price,
            &order.order_date,
            &order.ship_priority,
            &order.comment,
        ];
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn staged(client: &mut Client, orders: &[Order]) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(
            "CREATE TEMP TABLE IF NOT EXISTS staged_orders (LIKE orders) ON COMMIT DELETE ROWS",
        )
        .await?;
    copy(&transaction, "staged_orders", orders).await?;
    let sql = format!("INSERT INTO orders ({COLUMNS}) SELECT {COLUMNS} FROM staged_orders");
    transaction.execute(&sql, &[]).await?;
    Ok(transaction.commit().await?)
}

async fn direct(client: &mut Client, orders: &[Order]) -> Result<()> {
    let transaction = client.transaction().await?;
    copy(&transaction, "orders", orders).await?;
    Ok(transaction.commit().await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Postgres::start().await?;
    let (mut client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
    tokio::spawn(connection);
    println!("rows a second, median of {ROUNDS}");
    println!(
        "{:>8} {:>10} {:>12} {:>10}",
        "batch", "unnest", "copy+insert", "copy"
    );
    let mut first = 0;
    for batch in [1, 100, 1_000, 5_000, 20_000] {
        let mut medians = Vec::new();
        for way in 0..3 {
            client
                .batch_execute(
                    "DROP TABLE IF EXISTS orders; DROP TABLE IF EXISTS staged_orders; \
                     CREATE TABLE orders (id uuid PRIMARY KEY, order_key bigint NOT NULL UNIQUE, \
                     customer_key bigint NOT NULL, order_status text NOT NULL, \
                     total_price numeric(15,2) NOT NULL, order_date date NOT NULL, \
                     ship_priority bigint NOT NULL, comment text NOT NULL)",
                )
                .await?;
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let orders = orders(first, batch);
                first += batch as i64;
                let begun = Instant::now();
                match way {
                    0 => unnest(&mut client, &orders).await?,
                    1 => staged(&mut client, &orders).await?,
                    _ => direct(&mut client, &orders).await?,
                }
                rates.push(batch as f64 / begun.elapsed().as_secs_f64());
            }
            rates.sort_by(f64::total_cmp);
            medians.push(rates[ROUNDS / 2]);
        }
        println!(
            "{batch:>8} {:>10.0} {:>12.0} {:>10.0}",
            medians[0], medians[1], medians[2]
        );
    }
    Ok(())
}
