//! A batch: each message once, bad ones alone.

use std::time::Duration;

use ponix_entities::MessageError;
use ponix_postgres::{ErrorKind, MessageOutcome, Status};
use ponix_sink::RejectedBy;

use ponix_stack::eventually;

use crate::support::{
    Database, accepted, connect, customer, id, incoming, order, order_of, orders, priced,
};

fn stored(written: &[MessageOutcome]) -> usize {
    written
        .iter()
        .filter(|one| **one == MessageOutcome::Stored)
        .count()
}

#[tokio::test]
async fn a_batch_is_stored_once_however_often_it_is_written() {
    let db = Database::new("write_once").await;
    let batch = orders(0..500);
    let first = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert_eq!(stored(&first), 500);
    let second = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert!(second.iter().all(|one| *one == MessageOutcome::AlreadyDone));
    assert_eq!(db.count("orders WHERE total_price = 9.95").await, 500);
    assert_eq!(db.statuses().await, [("processed".to_owned(), 500)].into());
    assert_eq!(db.postgres.metrics().rows(), 500);
    assert_eq!(
        db.postgres.write(&db.catalog, &[]).await.expect("written"),
        []
    );
}

#[tokio::test]
async fn one_id_twice_in_a_batch_is_one_row() {
    let db = Database::new("write_twice").await;
    let batch = [order(2), order(1), order(2)];
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
            MessageOutcome::AlreadyDone
        ]
    );
    assert_eq!(db.count("orders").await, 2);
}

#[tokio::test]
async fn what_was_not_parsed_is_refused_beside_its_neighbours() {
    let db = Database::new("write_unparsed").await;
    let error = MessageError {
        entity: None,
        field: Some("order_key".into()),
        reason: "is not a number".into(),
        others: Vec::new(),
    };
    let batch = [order(1), incoming(2, Err(error)), order(3)];
    for expected in [MessageOutcome::Stored, MessageOutcome::AlreadyDone] {
        let written = db
            .postgres
            .write(&db.catalog, &batch)
            .await
            .expect("written");
        let refused = MessageOutcome::Refused {
            by: RejectedBy::Decoder,
            field: Some("order_key".into()),
            reason: "is not a number".into(),
        };
        // Refused again when it is delivered again: its dead letter may not have been written.
        assert_eq!(written, [expected.clone(), refused, expected]);
    }
    assert_eq!(db.status(id(2)).await, Some(Status::Failed));
    assert_eq!(
        db.error(id(2)).await.as_deref(),
        Some("order_key: is not a number")
    );
    assert_eq!(db.count("orders").await, 2);
}

#[tokio::test]
async fn what_the_database_refuses_is_found_among_the_others() {
    let db = Database::new("write_refused").await;
    let mut batch = orders(0..300);
    for bad in [0, 17, 150, 151, 299] {
        batch[bad] = priced(bad as u64, 1_000_000_000, None);
    }
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert_eq!(stored(&written), 295);
    for bad in [0, 17, 150, 151, 299] {
        assert!(
            matches!(written[bad], MessageOutcome::Refused { .. }),
            "{:?}",
            written[bad]
        );
    }
    assert_eq!(db.count("orders").await, 295);
    assert_eq!(
        db.statuses().await,
        [("failed".to_owned(), 5), ("processed".to_owned(), 295)].into()
    );
}

#[tokio::test]
async fn a_key_that_is_taken_is_refused_with_its_field() {
    let db = Database::new("write_unique").await;
    let mut same_key = order(1);
    same_key.message_id = id(100);
    let mut same_in_batch = order(5);
    same_in_batch.message_id = id(101);
    db.postgres
        .write(&db.catalog, &[order(1)])
        .await
        .expect("written");
    let batch = [order(4), same_key, order(5), same_in_batch];
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    let refused = MessageOutcome::Refused {
        by: RejectedBy::Decoder,
        field: Some("order_key".into()),
        reason: "another message has stored the same order_key".into(),
    };
    assert_eq!(
        written,
        [
            MessageOutcome::Stored,
            refused.clone(),
            MessageOutcome::Stored,
            refused
        ]
    );
    assert_eq!(db.count("orders").await, 3);
}

#[tokio::test]
async fn what_refers_to_nothing_waits_until_it_is_there() {
    let db = Database::new("write_foreign").await;
    let batch = [order(1), order_of(2, 7), order(3)];
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    let reason = "what customer_key refers to is not there yet".to_owned();
    assert_eq!(
        written,
        [
            MessageOutcome::Stored,
            MessageOutcome::Retry { reason },
            MessageOutcome::Stored
        ]
    );
    assert_eq!(db.status(id(2)).await, Some(Status::Processing));
    db.postgres
        .write(&db.catalog, &[customer(10, 7)])
        .await
        .expect("written");
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert_eq!(
        written,
        [
            MessageOutcome::AlreadyDone,
            MessageOutcome::Stored,
            MessageOutcome::AlreadyDone
        ]
    );
    assert_eq!(db.error(id(2)).await, None);
}

#[tokio::test]
async fn what_is_referred_to_may_come_behind_also_when_others_are_refused() {
    let db = Database::new("write_behind").await;
    let batch = [
        order_of(1, 7),
        priced(2, 1_000_000_000, None),
        order(3),
        customer(10, 7),
    ];
    let written = db
        .postgres
        .write(&db.catalog, &batch)
        .await
        .expect("written");
    assert_eq!(written[0], MessageOutcome::Stored);
    assert!(matches!(written[1], MessageOutcome::Refused { .. }));
    assert_eq!(stored(&written), 3);
}

#[tokio::test]
async fn a_row_whose_claim_was_forgotten_is_not_stored_twice() {
    let db = Database::new("write_forgotten").await;
    db.postgres
        .write(&db.catalog, &orders(0..10))
        .await
        .expect("written");
    db.sql
        .batch_execute("DELETE FROM message_claims; DELETE FROM message_status")
        .await
        .expect("deleted");
    let written = db
        .postgres
        .write(&db.catalog, &orders(5..15))
        .await
        .expect("written");
    assert_eq!(stored(&written), 5);
    assert!(
        written[..5]
            .iter()
            .all(|one| *one == MessageOutcome::AlreadyDone),
        "{written:?}"
    );
    assert_eq!(db.count("orders").await, 15);
    assert_eq!(
        db.count("message_status WHERE status = 'processed'").await,
        10
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_with_the_same_messages_store_them_once() {
    let db = Database::new("write_rivals").await;
    for round in 0..10 {
        let numbers = round * 200..(round + 1) * 200;
        let forwards = orders(numbers.clone());
        let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
        let rival = connect(&db.config);
        let (one, other) = tokio::join!(
            db.postgres.write(&db.catalog, &forwards),
            rival.write(&db.catalog, &backwards),
        );
        let (one, other) = (one.expect("written"), other.expect("written"));
        assert_eq!(stored(&one) + stored(&other), 200);
    }
    assert_eq!(db.count("orders").await, 2_000);
    assert_eq!(
        db.statuses().await,
        [("processed".to_owned(), 2_000)].into()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_for_the_same_keys_do_not_fail_of_deadlocks() {
    let db = Database::new("write_deadlock").await;
    // Other messages with the same keys, in the opposite order: they wait for each other's rows.
    let mine: Vec<_> = (0..400).map(order).collect();
    let theirs: Vec<_> = (0..400)
        .rev()
        .map(|key| {
            let mut same = order(key);
            same.message_id = id(10_000 + (400 - key));
            same
        })
        .collect();
    let rival = connect(&db.config);
    let (one, other) = tokio::join!(
        db.postgres.write(&db.catalog, &mine),
        rival.write(&db.catalog, &theirs),
    );
    let (one, other) = (one.expect("written"), other.expect("written"));
    assert_eq!(stored(&one) + stored(&other), 400);
    assert_eq!(db.count("orders").await, 400);
    let statuses = db.statuses().await;
    assert_eq!((statuses["processed"], statuses["failed"]), (400, 400));
}

#[tokio::test]
async fn what_is_missing_is_fatal_and_writes_nothing() {
    let db = Database::new("write_missing").await;
    db.sql
        .batch_execute("ALTER TABLE orders RENAME TO elsewhere")
        .await
        .expect("renamed");
    let error = db
        .postgres
        .write(&db.catalog, &orders(0..3))
        .await
        .expect_err("no table");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Fatal, Some("42P01"))
    );
    assert_eq!(db.count("message_claims").await, 0);
    db.sql
        .batch_execute("ALTER TABLE elsewhere RENAME TO orders")
        .await
        .expect("renamed");
    let written = db
        .postgres
        .write(&db.catalog, &orders(0..3))
        .await
        .expect("written");
    assert_eq!(stored(&written), 3);
}

#[tokio::test]
async fn a_database_that_may_not_be_written_to_is_fatal() {
    let db = Database::new("write_readonly").await;
    db.sql
        .batch_execute("ALTER DATABASE write_readonly SET default_transaction_read_only = on")
        .await
        .expect("set");
    let reader = connect(&db.config);
    let error = reader
        .write(&db.catalog, &orders(0..3))
        .await
        .expect_err("read only");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Fatal, Some("25006"))
    );
}

#[tokio::test]
async fn thousands_that_one_key_refuses_are_found_without_halving() {
    let db = Database::new("write_thousands").await;
    let waiting: Vec<_> = (0..2_000).map(|number| order_of(number, 7)).collect();
    let written = db
        .postgres
        .write(&db.catalog, &waiting)
        .await
        .expect("written");
    assert!(
        written
            .iter()
            .all(|one| matches!(one, MessageOutcome::Retry { .. }))
    );

    let mut taken = orders(0..2_000);
    db.postgres
        .write(&db.catalog, &taken)
        .await
        .expect("written");
    for (number, one) in (10_000..).zip(&mut taken) {
        one.message_id = id(number);
    }
    let written = db
        .postgres
        .write(&db.catalog, &taken)
        .await
        .expect("written");
    assert!(
        written
            .iter()
            .all(|one| matches!(one, MessageOutcome::Refused { .. }))
    );
    assert_eq!(db.postgres.metrics().splits(), 0);
    assert_eq!(db.count("orders").await, 2_000);
}

#[tokio::test]
async fn what_is_processed_is_not_written_again_even_if_its_row_is_gone() {
    let db = Database::new("write_gone").await;
    db.postgres
        .write(&db.catalog, &orders(0..3))
        .await
        .expect("written");
    db.sql
        .batch_execute("DELETE FROM orders")
        .await
        .expect("deleted");
    let written = db
        .postgres
        .write(&db.catalog, &orders(0..3))
        .await
        .expect("written");
    assert!(
        written
            .iter()
            .all(|one| *one == MessageOutcome::AlreadyDone)
    );
    assert_eq!(db.count("orders").await, 0);
}

#[tokio::test]
async fn a_writer_waits_for_the_one_that_holds_the_claim_and_sees_what_it_did() {
    let mut db = Database::new("write_waits").await;
    db.postgres
        .record_accepted(&[accepted(1)])
        .await
        .expect("noted");
    let rival = db.sql.transaction().await.expect("begun");
    rival
        .batch_execute(
            "SELECT FROM message_claims FOR NO KEY UPDATE; \
             UPDATE message_status SET status = 'processed'",
        )
        .await
        .expect("locked");
    let (postgres, catalog) = (db.postgres.clone(), db.catalog.clone());
    let writer = tokio::spawn(async move { postgres.write(&catalog, &[order(1)]).await });
    eventually("a writer that waits", Duration::from_secs(30), || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND datname = current_database()";
        let row = rival
            .query_one(sql, &[])
            .await
            .map_err(|error| error.to_string())?;
        let waiting: i64 = row.get(0);
        (waiting == 1)
            .then_some(())
            .ok_or(format!("{waiting} wait"))
    })
    .await
    .expect("it waits");
    rival.commit().await.expect("committed");
    let written = writer.await.expect("no panic").expect("written");
    assert_eq!(written, [MessageOutcome::AlreadyDone]);
    assert_eq!(db.count("orders").await, 0);
}
