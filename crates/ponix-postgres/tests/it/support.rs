//! One server for all tests that do not harm it, a database for each.

use std::collections::BTreeMap;
use std::time::Duration;

use ponix_entities::{Catalog, MessageError, ParsedMessage, Row, TableIndex, Value};
use ponix_postgres::{Accepted, MessageRow, Postgres, PostgresConfig, PostgresMetrics, Status};
use ponix_stack::eventually;
use secrecy::SecretString;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;
use uuid::Uuid;

pub(crate) const NOON: OffsetDateTime = datetime!(2026-11-21 12:00:00.123456789 UTC);

static SERVER: OnceCell<ponix_stack::Postgres> = OnceCell::const_new();

/// The server that all tests share which do not harm it.
pub(crate) async fn server() -> &'static ponix_stack::Postgres {
    SERVER
        .get_or_init(|| async { ponix_stack::Postgres::start().await.expect("it starts") })
        .await
}

/// Where a database on a server is.
pub(crate) fn config(server: &ponix_stack::Postgres, database: &str) -> PostgresConfig {
    let (base, _) = server
        .url()
        .rsplit_once('/')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("it ends with the database");
    PostgresConfig {
        url: SecretString::from(format!("{base}/{database}")),
        ..PostgresConfig::default()
    }
}

/// A client of its own, besides the pool.
pub(crate) async fn client(config: &PostgresConfig) -> tokio_postgres::Client {
    use secrecy::ExposeSecret;
    let url = config.url.expose_secret();
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("it connects");
    tokio::spawn(connection);
    client
}

/// A database of its own, with our tables and those of [`catalog`].
pub(crate) struct Database {
    pub(crate) config: PostgresConfig,
    pub(crate) postgres: Postgres,
    pub(crate) sql: tokio_postgres::Client,
    pub(crate) catalog: Catalog,
}

impl Database {
    /// On the shared server.
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(server().await, name).await
    }

    pub(crate) async fn on(server: &ponix_stack::Postgres, name: &str) -> Self {
        let config = empty(server, name).await;
        let postgres = connect(&config);
        postgres.migrate().await.expect("the migrations pass");
        let catalog = catalog();
        let sql = client(&config).await;
        postgres.apply_entities(&catalog).await.expect("made");
        Self {
            config,
            postgres,
            sql,
            catalog,
        }
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        let row = self.sql.query_one(&sql, &[]).await;
        row.expect("it answers").get(0)
    }

    /// How many messages have which status.
    pub(crate) async fn statuses(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT status, count(*) FROM message_status GROUP BY status";
        let rows = self.sql.query(sql, &[]).await.expect("it answers");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub(crate) async fn status(&self, id: Uuid) -> Option<Status> {
        let status = self.postgres.status(None, id).await;
        status.expect("it answers").map(|known| known.status)
    }

    pub(crate) async fn error(&self, id: Uuid) -> Option<String> {
        let status = self.postgres.status(None, id).await;
        status.expect("it answers").and_then(|known| known.error)
    }
}

/// Mends a table that has the constraint `planted` while somebody writes into it: the writer has the
/// table already when the mend begins to wait for it.
pub(crate) struct MendUnderWriter<'a> {
    db: &'a Database,
    table: &'a str,
}

impl<'a> MendUnderWriter<'a> {
    /// Has each row of the table take its time from now on.
    pub(crate) async fn prepare(db: &'a Database, table: &'a str) -> Self {
        let slow = format!(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION slow()"
        );
        db.sql.batch_execute(&slow).await.expect("it is slow");
        Self { db, table }
    }

    /// Waits for the writer, and mends.
    pub(crate) async fn mend(self) {
        let Self { db, table } = self;
        let written_into = format!(
            "pg_locks JOIN pg_class ON pg_class.oid = relation \
             WHERE relname = '{table}' AND mode = 'RowExclusiveLock' AND granted \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        eventually("a writer", Duration::from_secs(20), || async {
            db.count(&written_into).await > 0
        })
        .await
        .expect("it writes");
        let mend = format!("ALTER TABLE {table} DROP CONSTRAINT planted");
        db.sql.batch_execute(&mend).await.expect("mended");
    }
}

/// Makes an empty database.
pub(crate) async fn empty(server: &ponix_stack::Postgres, name: &str) -> PostgresConfig {
    let admin = client(&config(server, server.database())).await;
    let sql = format!("CREATE DATABASE {name}");
    admin.batch_execute(&sql).await.expect("it is made");
    config(server, name)
}

pub(crate) fn connect(config: &PostgresConfig) -> Postgres {
    Postgres::connect(config.clone(), PostgresMetrics::default()).expect("a valid configuration")
}

pub(crate) const CUSTOMER: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Customer}
spec:
  type: reference
  prefix: C
  fields:
    - {name: customer_key, type: Integer}
  persistence:
    table: customers
    unique: [[customer_key]]
";

pub(crate) const ORDER: &str = "apiVersion: ponix.dev/v1
kind: Entity
metadata: {name: Order}
spec:
  type: root
  prefix: O
  fields:
    - {name: order_key, type: Integer}
    - {name: customer_key, type: Integer, nullable: true}
    - {name: total_price, type: Decimal, precision: 7, scale: 2}
    - {name: comment, type: String, nullable: true}
  persistence:
    table: orders
    unique: [[order_key]]
    foreign_keys:
      - {fields: [customer_key], entity: Customer, references: [customer_key]}
    indexes: [[customer_key]]
";

/// Customers and orders, which may refer to them; the tables have the numbers 0 and 1.
pub(crate) fn catalog() -> Catalog {
    catalog_of(&[CUSTOMER, ORDER])
}

/// The entities of these documents.
pub(crate) fn catalog_of(documents: &[&str]) -> Catalog {
    let folder = tempfile::tempdir().expect("made");
    for (number, document) in documents.iter().enumerate() {
        let path = folder.path().join(format!("{number}.yaml"));
        std::fs::write(path, document).expect("written");
    }
    Catalog::load(folder.path()).expect("they are valid")
}

/// The id of a message by a small number.
pub(crate) fn id(number: u64) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

pub(crate) fn incoming(number: u64, parsed: Result<ParsedMessage, MessageError>) -> MessageRow {
    MessageRow {
        message_id: id(number),
        organization: Some("acme".into()),
        entity_type: None,
        received_at: NOON,
        source: Some("192.0.2.1".into()),
        retry_count: 0,
        parsed,
    }
}

pub(crate) fn accepted(number: u64) -> Accepted {
    Accepted {
        message_id: id(number),
        organization: Some("acme".into()),
        entity_type: Some("Order".into()),
        received_at: NOON,
        source: Some("192.0.2.1".into()),
    }
}

pub(crate) fn customer(number: u64, key: i64) -> MessageRow {
    let row = Row {
        table: TableIndex(0),
        values: vec![Value::Integer(key)],
    };
    incoming(
        number,
        Ok(ParsedMessage {
            entity: "Customer".into(),
            rows: vec![row],
        }),
    )
}

/// An order whose key is the message's number.
pub(crate) fn order(number: u64) -> MessageRow {
    priced(number, 995, None)
}

/// An order of a customer, who may be there or not.
pub(crate) fn order_of(number: u64, customer: i64) -> MessageRow {
    priced(number, 995, Some(customer))
}

/// An order with a price in hundredths; more than seven digits do not fit into the column.
pub(crate) fn priced(number: u64, cents: i64, customer: Option<i64>) -> MessageRow {
    let values = vec![
        Value::Integer(number as i64),
        customer.map_or(Value::Null, Value::Integer),
        Value::Decimal(rust_decimal::Decimal::new(cents, 2)),
        Value::Text("ring twice".into()),
    ];
    let row = Row {
        table: TableIndex(1),
        values,
    };
    incoming(
        number,
        Ok(ParsedMessage {
            entity: "Order".into(),
            rows: vec![row],
        }),
    )
}

pub(crate) fn orders(numbers: std::ops::Range<u64>) -> Vec<MessageRow> {
    numbers.map(order).collect()
}
