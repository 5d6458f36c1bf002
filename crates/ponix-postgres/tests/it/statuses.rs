//! A status only moves forward.

use ponix_postgres::{Ended, MessageOutcome, Status};

use crate::support::{Database, NOON, accepted, id, order};

fn ended(number: u64, retry_count: u32) -> Ended {
    Ended {
        accepted: accepted(number),
        retry_count,
        error: format!("reason {retry_count}"),
    }
}

#[tokio::test]
async fn what_is_accepted_is_found_by_its_organization_only() {
    let db = Database::new("status_accepted").await;
    db.postgres
        .record_accepted(&[accepted(1)])
        .await
        .expect("noted");
    let found = db
        .postgres
        .status(Some("acme"), id(1))
        .await
        .expect("an answer");
    let found = found.expect("it is known");
    assert_eq!(found.status, Status::Accepted);
    assert_eq!(found.entity_type.as_deref(), Some("Order"));
    assert_eq!(found.source.as_deref(), Some("192.0.2.1"));
    assert_eq!(
        found.received_at.unix_timestamp_nanos(),
        NOON.unix_timestamp_nanos() / 1_000 * 1_000
    );
    assert_eq!(found.processed_at, None);
    let other = db.postgres.status(Some("other"), id(1)).await;
    assert_eq!(other.expect("an answer"), None);
    let unknown = db.postgres.status(Some("acme"), id(2)).await;
    assert_eq!(unknown.expect("an answer"), None);
}

#[tokio::test]
async fn accepted_comes_late_and_changes_nothing() {
    let db = Database::new("status_late").await;
    let written = db
        .postgres
        .write(&db.catalog, &[order(1)])
        .await
        .expect("written");
    assert_eq!(written, [MessageOutcome::Stored]);
    let before = db.postgres.status(None, id(1)).await.expect("an answer");
    let mut late = accepted(1);
    late.received_at += time::Duration::DAY;
    db.postgres.record_accepted(&[late]).await.expect("noted");
    let after = db.postgres.status(None, id(1)).await.expect("an answer");
    assert_eq!(before, after);
    assert_eq!(after.expect("it is known").status, Status::Processed);
    assert_eq!(db.count("message_status").await, 1);
}

#[tokio::test]
async fn no_order_of_writers_moves_a_status_back() {
    let db = Database::new("status_order").await;
    let pg = &db.postgres;
    // Whatever comes after it, the furthest stays.
    pg.record_final(&[ended(1, 3)], Status::DeadLetter)
        .await
        .expect("noted");
    pg.record_retry(&[ended(1, 2)]).await.expect("noted");
    pg.record_accepted(&[accepted(1)]).await.expect("noted");
    pg.record_final(&[ended(1, 4)], Status::Failed)
        .await
        .expect("noted");
    let found = pg
        .status(None, id(1))
        .await
        .expect("an answer")
        .expect("known");
    assert_eq!((found.status, found.retry_count), (Status::DeadLetter, 3));
    assert_eq!(found.error.as_deref(), Some("reason 3"));
    assert!(found.processed_at.is_some());

    pg.record_accepted(&[accepted(2)]).await.expect("noted");
    pg.record_retry(&[ended(2, 2)]).await.expect("noted");
    pg.record_retry(&[ended(2, 1)]).await.expect("noted");
    let found = pg
        .status(None, id(2))
        .await
        .expect("an answer")
        .expect("known");
    assert_eq!((found.status, found.retry_count), (Status::Processing, 2));

    let written = pg.write(&db.catalog, &[order(3)]).await.expect("written");
    assert_eq!(written, [MessageOutcome::Stored]);
    pg.record_final(&[ended(3, 9)], Status::DeadLetter)
        .await
        .expect("noted");
    pg.record_retry(&[ended(3, 9)]).await.expect("noted");
    let found = pg
        .status(None, id(3))
        .await
        .expect("an answer")
        .expect("known");
    assert_eq!((found.status, found.error), (Status::Processed, None));
}

#[tokio::test]
async fn a_dead_letter_that_is_replayed_is_stored() {
    let db = Database::new("status_replay").await;
    db.postgres
        .record_final(&[ended(1, 3)], Status::DeadLetter)
        .await
        .expect("noted");
    let written = db
        .postgres
        .write(&db.catalog, &[order(1)])
        .await
        .expect("written");
    assert_eq!(written, [MessageOutcome::Stored]);
    assert_eq!(db.status(id(1)).await, Some(Status::Processed));
    assert_eq!(db.count("orders").await, 1);
}

#[tokio::test]
async fn another_organization_cannot_touch_a_status() {
    let db = Database::new("status_foreign").await;
    db.postgres
        .record_accepted(&[accepted(1)])
        .await
        .expect("noted");
    let mut theirs = ended(1, 3);
    theirs.accepted.organization = Some("other".into());
    db.postgres
        .record_final(&[theirs], Status::Failed)
        .await
        .expect("noted");
    assert_eq!(db.status(id(1)).await, Some(Status::Accepted));
    let mut theirs = order(1);
    theirs.organization = Some("other".into());
    let written = db
        .postgres
        .write(&db.catalog, &[theirs])
        .await
        .expect("written");
    assert!(
        matches!(&written[..], [MessageOutcome::Refused { field: Some(field), .. }] if field == "message_id")
    );
    assert_eq!(db.status(id(1)).await, Some(Status::Accepted));
    assert_eq!(db.count("orders").await, 0);
}

#[tokio::test]
async fn nul_in_texts_does_no_harm() {
    let db = Database::new("status_nul").await;
    let mut odd = ended(1, 1);
    odd.error = "a\0b".into();
    odd.accepted.source = Some("c\0d".into());
    db.postgres
        .record_final(&[odd], Status::Failed)
        .await
        .expect("noted");
    assert_eq!(db.error(id(1)).await.as_deref(), Some("a\u{fffd}b"));
}

#[tokio::test]
async fn noting_what_is_accepted_waits_for_nobody_who_works_on_it() {
    let mut db = Database::new("status_unhindered").await;
    db.postgres
        .record_accepted(&[accepted(1)])
        .await
        .expect("noted");
    let worker = db.sql.transaction().await.expect("begun");
    worker
        .batch_execute("SELECT FROM message_claims FOR NO KEY UPDATE")
        .await
        .expect("locked");
    // It would wait until the operation's timeout.
    db.postgres
        .record_accepted(&[accepted(1), accepted(2)])
        .await
        .expect("noted");
    worker.rollback().await.expect("ended");
    assert_eq!(db.status(id(2)).await, Some(Status::Accepted));
}
