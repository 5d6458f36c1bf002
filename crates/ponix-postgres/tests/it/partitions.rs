//! Days are made ahead and forgotten whole.

use std::time::Duration;

use ponix_postgres::MessageOutcome;
use time::OffsetDateTime;

use crate::support::{Database, connect, id, order};

const DAY: Duration = Duration::from_hours(24);
const PARTITIONS: &str = "pg_inherits WHERE inhparent = 'message_status'::regclass";

#[tokio::test]
async fn days_are_made_ahead_and_forgotten_with_their_claims() {
    let db = Database::new("partitions_pruned").await;
    let now: OffsetDateTime = db
        .sql
        .query_one("SELECT now()", &[])
        .await
        .expect("now")
        .get(0);
    let at = |number, days: i64| {
        let mut message = order(number);
        message.received_at = now - time::Duration::days(days);
        message
    };
    let batch = [at(1, 0), at(2, 40), at(3, 41)];
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert_eq!(
        written,
        [
            MessageOutcome::Stored,
            MessageOutcome::Stored,
            MessageOutcome::Stored
        ]
    );
    // Today and three ahead; the day 41 days ago and four behind it.
    assert_eq!(db.count(PARTITIONS).await, 9);

    let pruned = db.postgres.prune(30 * DAY).await.expect("pruned");
    assert_eq!((pruned.days, pruned.messages), (5, 2));
    assert_eq!(db.count(PARTITIONS).await, 4);
    assert_eq!(db.count("message_claims").await, 1);
    assert_eq!(
        db.postgres.status(None, id(2)).await.expect("an answer"),
        None
    );
    assert!(
        db.postgres
            .status(None, id(1))
            .await
            .expect("an answer")
            .is_some()
    );
    assert_eq!(db.count("orders").await, 3);

    let again = db.postgres.prune(30 * DAY).await.expect("pruned");
    assert_eq!((again.days, again.messages), (0, 0));
}

#[tokio::test]
async fn a_backup_is_not_waited_for() {
    let db = Database::new("partitions_backup").await;
    let mut old = order(1);
    old.received_at -= time::Duration::days(400);
    db.postgres
        .write(&db.catalog, &[old])
        .await
        .expect("written");
    // As pg_dump does, for as long as it runs.
    db.sql
        .batch_execute("BEGIN; LOCK TABLE message_status IN ACCESS SHARE MODE")
        .await
        .expect("locked");
    let pruned = tokio::time::timeout(Duration::from_mins(1), db.postgres.prune(30 * DAY));
    let pruned = pruned.await.expect("in time").expect("an answer");
    assert_eq!((pruned.days, pruned.postponed), (0, true));
    let other = connect(&db.config);
    let written = other.write(&db.catalog, &[order(2)]).await;
    assert_eq!(written.expect("written"), [MessageOutcome::Stored]);
    db.sql.batch_execute("COMMIT").await.expect("unlocked");
    let pruned = db.postgres.prune(30 * DAY).await.expect("an answer");
    assert!(pruned.days > 0 && !pruned.postponed, "{pruned:?}");
}

#[tokio::test]
async fn a_writer_notices_that_another_instance_has_pruned() {
    let db = Database::new("partitions_noticed").await;
    db.postgres
        .write(&db.catalog, &[order(1)])
        .await
        .expect("written");
    let other = connect(&db.config);
    db.sql
        .batch_execute("DROP TABLE message_status_p20261121; DELETE FROM message_claims")
        .await
        .expect("dropped");
    other.ping().await.expect("an answer");
    let written = db
        .postgres
        .write(&db.catalog, &[order(2)])
        .await
        .expect("written");
    assert_eq!(written, [MessageOutcome::Stored]);
}

#[tokio::test]
async fn many_writers_make_the_same_day_at_once() {
    let db = Database::new("partitions_race").await;
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (writer, catalog) = (connect(&db.config), db.catalog.clone());
            tokio::spawn(async move { writer.write(&catalog, &[order(number)]).await })
        })
        .collect();
    for writer in writers {
        let written = writer.await.expect("no panic").expect("written");
        assert_eq!(written, [MessageOutcome::Stored]);
    }
    assert_eq!(db.count(PARTITIONS).await, 4);
}
