//! Many instances at once, and a database of a newer program.

use ponix_postgres::{ErrorKind, MigrateError};

use crate::support::{Database, connect, empty, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_migrate_at_once() {
    let config = empty(server().await, "migrate_race").await;
    let instances: Vec<_> = (0..8)
        .map(|_| {
            let instance = connect(&config);
            tokio::spawn(async move { instance.migrate().await })
        })
        .collect();
    let mut applied = 0;
    for instance in instances {
        applied += instance.await.expect("no panic").expect("it passes");
    }
    assert_eq!(applied, 2, "one of them applies each migration");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let db = Database::new("migrate_newer").await;
    db.sql
        .batch_execute(
            "INSERT INTO refinery_schema_history SELECT 9, 'later', applied_on, checksum \
             FROM refinery_schema_history LIMIT 1",
        )
        .await
        .expect("inserted");
    let error = db.postgres.migrate().await.expect_err("it is newer");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(
        matches!(
            error,
            MigrateError::DatabaseTooNew {
                database: 9,
                program: 2
            }
        ),
        "{error:?}"
    );
}
