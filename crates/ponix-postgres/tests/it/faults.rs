//! A server that dies, hangs or is not there.

use std::time::Duration;

use ponix_entities::Catalog;
use ponix_postgres::{ErrorKind, MessageOutcome, MessageRow, Postgres, PostgresConfig};
use ponix_sink::{RejectGuard, RowOutcome};
use ponix_stack::{Mode, Proxy, eventually};
use secrecy::ExposeSecret as _;

use crate::support::{Database, connect, orders, server};
use crate::table;

/// Writes a batch until it is there, as a worker does.
async fn write_until_done(postgres: &Postgres, catalog: &Catalog, batch: &[MessageRow]) -> usize {
    let mut failures = 0;
    loop {
        match postgres.write(catalog, batch).await {
            Ok(written) => {
                let done = |one: &MessageOutcome| {
                    matches!(one, MessageOutcome::Stored | MessageOutcome::AlreadyDone)
                };
                assert!(written.iter().all(done), "{written:?}");
                return failures;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
                failures += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_in_the_middle_of_writes_leave_each_row_once() {
    let server = ponix_stack::Postgres::start().await.expect("it starts");
    let db = Database::on(&server, "kills").await;
    let (postgres, catalog) = (db.postgres.clone(), db.catalog.clone());
    let worker = tokio::spawn(async move {
        let mut failures = 0;
        for first in (0..40_000).step_by(1_000) {
            failures += write_until_done(&postgres, &catalog, &orders(first..first + 1_000)).await;
        }
        failures
    });
    for kill in 1..=3 {
        // The counter tells when the next batches are under way.
        eventually("rows", Duration::from_mins(1), || async {
            let rows = db.postgres.metrics().rows();
            (rows >= kill * 5_000)
                .then_some(())
                .ok_or(format!("{rows} rows"))
        })
        .await
        .expect("rows come");
        server.kill().await.expect("killed");
        server.start_again().await.expect("it starts again");
    }
    let failures = worker.await.expect("no panic");
    assert!(failures > 0, "no write met a kill");
    let sql = crate::support::client(&db.config).await;
    let row = sql
        .query_one(
            "SELECT count(*), count(DISTINCT order_key) FROM orders",
            &[],
        )
        .await
        .expect("an answer");
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (40_000, 40_000)
    );
    let row = sql
        .query_one(
            "SELECT count(*) FROM message_status WHERE status = 'processed'",
            &[],
        )
        .await
        .expect("an answer");
    assert_eq!(row.get::<_, i64>(0), 40_000);
}

#[tokio::test]
async fn a_server_that_hangs_is_transient_and_its_connections_are_not_used_again() {
    let server = ponix_stack::Postgres::start().await.expect("it starts");
    let db = Database::on(&server, "hangs").await;
    let patient = PostgresConfig {
        operation_timeout: Duration::from_secs(3),
        connections_max: 1,
        ..db.config.clone()
    };
    let postgres = connect(&patient);
    postgres
        .write(&db.catalog, &orders(0..10))
        .await
        .expect("written");
    server.pause().await.expect("paused");
    let error = postgres
        .write(&db.catalog, &orders(10..20))
        .await
        .expect_err("it hangs");
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    server.resume().await.expect("resumed");
    eventually("a write", Duration::from_secs(30), || async {
        postgres
            .write(&db.catalog, &orders(10..20))
            .await
            .map_err(|error| format!("{error:?}"))
    })
    .await
    .expect("written");
    assert_eq!(db.count("orders").await, 20);
}

/// A proxy before the shared server, and the same database by it.
async fn by_proxy(db: &Database) -> (Proxy, Postgres) {
    let server = server().await.addr();
    let proxy = Proxy::start(server).await.expect("it listens");
    let url = db.config.url.expose_secret();
    let by_proxy = PostgresConfig {
        url: url
            .replace(&server.to_string(), &proxy.addr().to_string())
            .into(),
        ..db.config.clone()
    };
    (proxy, connect(&by_proxy))
}

#[tokio::test]
async fn messages_whose_commit_is_not_answered_are_stored_and_not_stored_again() {
    let db = Database::new("lost_commit").await;
    let (proxy, postgres) = by_proxy(&db).await;
    // Makes the partitions of the day, in a transaction of their own.
    let before = postgres.write(&db.catalog, &orders(0..10)).await;
    before.expect("written");
    proxy.set(Mode::SwallowResponseTo("COMMIT")).await;
    for attempt in 1..=2 {
        let written = postgres.write(&db.catalog, &orders(10..20)).await;
        let error = written.expect_err("no answer came");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
        assert_eq!(proxy.counters().responses_swallowed, attempt);
        assert_eq!(db.count("orders").await, 20, "it was committed");
    }
    proxy.set(Mode::Pass).await;
    let again = postgres.write(&db.catalog, &orders(10..20)).await;
    let done = vec![MessageOutcome::AlreadyDone; 10];
    assert_eq!(again.expect("an answer"), done);
    assert_eq!(db.count("orders").await, 20);
    assert_eq!(db.statuses().await, [("processed".to_owned(), 20)].into());
}

#[tokio::test]
async fn rows_of_a_declared_table_whose_commit_is_not_answered_are_not_stored_again() {
    let db = Database::new("lost_commit_declared").await;
    let (proxy, postgres) = by_proxy(&db).await;
    // No key of the table would refuse a copy: only the claims do.
    let sink = table::sink(&db, postgres).await;
    let guard = RejectGuard::default();
    let before = table::write(&sink, &guard, &[table::reading(0)]).await;
    before.expect("written");
    let records: Vec<_> = (1..11).map(table::reading).collect();
    proxy.set(Mode::SwallowResponseTo("COMMIT")).await;
    let written = table::write(&sink, &guard, &records).await;
    written.expect_err("no answer came");
    assert_eq!(proxy.counters().responses_swallowed, 1);
    assert_eq!(db.count("readings").await, 11, "it was committed");
    proxy.set(Mode::Pass).await;
    let again = table::write(&sink, &guard, &records).await;
    assert_eq!(again.expect("an answer"), vec![RowOutcome::Stored; 10]);
    assert_eq!(db.count("readings").await, 11);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient_and_the_password_stays_secret() {
    let config = PostgresConfig {
        url: "postgres://ann:s3cret@127.0.0.1:1/things".into(),
        ..PostgresConfig::default()
    };
    let postgres = connect(&config);
    let error = postgres.ping().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Transient);
    let shown = format!("{error:?} {error} {postgres:?} {config:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(
        shown.contains("postgres://ann:***@127.0.0.1:1/things"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_fatal() {
    let db = Database::new("wrong_password").await;
    let config = PostgresConfig {
        password: Some("s3cret".into()),
        ..db.config.clone()
    };
    let error = connect(&config).ping().await.expect_err("it is wrong");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Fatal, Some("28P01"))
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}
