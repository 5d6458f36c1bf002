//! A server that dies, hangs or is not there.

use std::time::Duration;

use ponix_entities::Catalog;
use ponix_postgres::{ErrorKind, MessageOutcome, MessageRow, Postgres, PostgresConfig};
use ponix_stack::eventually;

use crate::support::{Database, connect, orders};

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
