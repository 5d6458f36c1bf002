//! Tables follow the entities where nothing is lost by it.

use ponix_entities::Catalog;
use ponix_postgres::{EntitiesError, ErrorKind, Obstacle, Postgres};

use crate::support::{CUSTOMER, ORDER, catalog_of, client, connect, empty, server};

const TABLES: [&str; 2] = ["customers", "orders"];
const CUSTOMERS: &str =
    "CREATE TABLE customers (id uuid PRIMARY KEY, customer_key bigint NOT NULL UNIQUE);";

/// Both tables, orders with more after its first columns.
fn ddl(more: &str) -> String {
    format!(
        "{CUSTOMERS} CREATE TABLE orders (id uuid PRIMARY KEY, order_key bigint NOT NULL, \
         clerk varchar(10){more});"
    )
}

async fn made(name: &str) -> (Postgres, tokio_postgres::Client) {
    let config = empty(server().await, name).await;
    let postgres = connect(&config);
    let steps = postgres
        .extend_tables(&TABLES, &ddl(""))
        .await
        .expect("made");
    assert!(
        steps[0].starts_with("CREATE TABLE \"customers\""),
        "{steps:?}"
    );
    (postgres, client(&config).await)
}

async fn refused(postgres: &Postgres, ddl: &str) -> Vec<Obstacle> {
    match postgres.extend_tables(&TABLES, ddl).await {
        Err(EntitiesError::Refused { obstacles }) => obstacles,
        other => panic!("{other:?}"),
    }
}

const ROW: &str = "INSERT INTO orders (id, order_key, clerk) VALUES (gen_random_uuid(), 1, 'ann')";

#[tokio::test]
async fn what_is_there_needs_nothing() {
    let (postgres, _) = made("extend_nothing").await;
    let steps = postgres
        .extend_tables(&TABLES, &ddl(""))
        .await
        .expect("compared");
    assert_eq!(steps, Vec::<String>::new());
}

#[tokio::test]
async fn new_fields_keys_and_wider_types_extend_a_table_that_has_rows() {
    let (postgres, sql) = made("extend_more").await;
    sql.batch_execute(ROW).await.expect("inserted");
    let more = ddl(", comment text, priority bigint NOT NULL DEFAULT 3, \
         customer_key bigint REFERENCES customers (customer_key), UNIQUE (order_key), \
         CHECK (priority >= 0)")
    .replace("varchar(10)", "varchar(20)")
        + "CREATE INDEX orders_by_clerk ON orders (clerk);";
    let steps = postgres
        .extend_tables(&TABLES, &more)
        .await
        .expect("extended");
    assert_eq!(
        steps,
        [
            "ALTER TABLE \"orders\" ALTER COLUMN \"clerk\" TYPE character varying(20)",
            "ALTER TABLE \"orders\" ADD COLUMN \"comment\" text",
            "ALTER TABLE \"orders\" ADD COLUMN \"priority\" bigint DEFAULT 3 NOT NULL",
            "ALTER TABLE \"orders\" ADD COLUMN \"customer_key\" bigint",
            "CREATE INDEX \"orders_by_clerk\" ON \"orders\" (\"clerk\")",
            "CREATE UNIQUE INDEX \"orders_order_key_key\" ON \"orders\" (\"order_key\")",
            "ALTER TABLE \"orders\" ADD CONSTRAINT \"orders_customer_key_fkey\" \
             FOREIGN KEY (customer_key) REFERENCES customers(customer_key)",
            "ALTER TABLE \"orders\" ADD CONSTRAINT \"orders_priority_check\" CHECK ((priority >= 0))",
        ]
    );
    let again = postgres
        .extend_tables(&TABLES, &more)
        .await
        .expect("compared");
    assert_eq!(again, Vec::<String>::new());
    let row = sql
        .query_one("SELECT clerk, priority FROM orders", &[])
        .await
        .expect("a row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("ann", 3));
}

#[tokio::test]
async fn what_would_lose_data_is_refused_all_at_once_and_nothing_is_done() {
    let (postgres, _) = made("extend_refused").await;
    let narrower = format!(
        "{CUSTOMERS} CREATE TABLE orders (id uuid PRIMARY KEY, order_key integer NOT NULL, \
         comment text, size bigint NOT NULL);"
    );
    let obstacles = refused(&postgres, &narrower).await;
    let shown: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "table orders, column order_key: it is bigint, the field asks for integer; declare a \
             field of another name, or change the column yourself: ALTER TABLE \"orders\" ALTER \
             COLUMN \"order_key\" TYPE integer",
            "table orders, column size: it is new and not nullable, and the rows that are there \
             have no value; make the field nullable, or add the column with its values yourself: \
             ALTER TABLE \"orders\" ADD COLUMN \"size\" bigint NOT NULL DEFAULT …",
            "table orders, column clerk: no field is declared for it any more; declare the field \
             again, or drop its values yourself: ALTER TABLE \"orders\" DROP COLUMN \"clerk\"",
        ]
    );
    let steps = postgres
        .extend_tables(&TABLES, &ddl(""))
        .await
        .expect("compared");
    assert_eq!(steps, Vec::<String>::new(), "comment was not added either");
}

#[tokio::test]
async fn a_column_that_becomes_required_or_shorter_is_refused() {
    let (postgres, _) = made("extend_required").await;
    let required = ddl("").replace("varchar(10)", "varchar(9) NOT NULL");
    let obstacles = refused(&postgres, &required).await;
    assert_eq!(obstacles.len(), 2);
    assert!(
        obstacles[0]
            .problem
            .contains("the field asks for character varying(9)")
    );
    assert!(obstacles[1].remedy.ends_with("SET NOT NULL"));
}

#[tokio::test]
async fn a_key_that_rows_do_not_keep_is_refused() {
    let (postgres, sql) = made("extend_key").await;
    sql.batch_execute(&format!("{ROW}; {ROW}"))
        .await
        .expect("inserted");
    let obstacles = refused(&postgres, &ddl(", UNIQUE (order_key)")).await;
    assert_eq!(obstacles.len(), 1);
    assert_eq!(obstacles[0].subject, "key \"order_key\"");
    let error = postgres
        .extend_tables(&TABLES, &ddl(", UNIQUE (order_key)"))
        .await
        .expect_err("the rows are still there");
    assert_eq!(error.kind(), ErrorKind::Fatal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_make_the_tables_at_once() {
    let config = empty(server().await, "extend_race").await;
    let instances: Vec<_> = (0..8)
        .map(|_| {
            let instance = connect(&config);
            tokio::spawn(async move { instance.extend_tables(&TABLES, &ddl("")).await })
        })
        .collect();
    let mut makers = 0;
    for instance in instances {
        let steps = instance.await.expect("no panic").expect("it passes");
        makers += usize::from(!steps.is_empty());
    }
    assert_eq!(makers, 1);
}

fn catalog(order: &str) -> Catalog {
    catalog_of(&[CUSTOMER, order])
}

#[tokio::test]
async fn entities_extend_their_tables() {
    let config = empty(server().await, "extend_entities").await;
    let postgres = connect(&config);
    let made = postgres
        .apply_entities(&catalog(ORDER))
        .await
        .expect("made");
    assert!(made.len() >= 4, "{made:?}");
    let again = postgres
        .apply_entities(&catalog(ORDER))
        .await
        .expect("compared");
    assert_eq!(again, Vec::<String>::new());

    let clerk = "\n    - {name: clerk, type: String, nullable: true, constraints: {max_length: 15}}\n  persistence";
    let longer = ORDER.replace("\n  persistence", clerk);
    let steps = postgres
        .apply_entities(&catalog(&longer))
        .await
        .expect("extended");
    assert_eq!(
        steps,
        ["ALTER TABLE \"orders\" ADD COLUMN \"clerk\" character varying(15)"]
    );

    let refused = postgres.apply_entities(&catalog(ORDER)).await;
    let Err(EntitiesError::Refused { obstacles }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(obstacles[0].subject, "column clerk");
}
