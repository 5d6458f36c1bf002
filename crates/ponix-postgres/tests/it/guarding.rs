//! A table at fault is told from messages that are wrong, and nothing is settled meanwhile.

use std::sync::Arc;

use ponix_postgres::{MessageRow, MessageSink};
use ponix_sink::{Around, Attempt, Control, RejectGuard, RowOutcome, Sink as _, WriteError};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, MendUnderWriter, customer, order, priced};

const NO_ORDERS_ANY_MORE: &str =
    "ALTER TABLE orders ADD CONSTRAINT planted CHECK (order_key < 0) NOT VALID";

async fn write(
    sink: &MessageSink,
    guard: &RejectGuard,
    batch: &[MessageRow],
) -> Result<Vec<RowOutcome>, WriteError> {
    let give_up = CancellationToken::new();
    let attempt = Attempt {
        guard,
        around: Around::default(),
        give_up: &give_up,
    };
    let rows = sink.encode(batch.to_vec()).await?;
    sink.write(&rows, attempt).await
}

fn sink(db: &Database) -> MessageSink {
    MessageSink::new(db.postgres.clone(), Arc::new(db.catalog.clone()))
}

#[tokio::test]
async fn a_table_at_fault_fails_no_message_however_slowly_they_come() {
    let db = Database::new("table_at_fault").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    let sql = db.sql.batch_execute(NO_ORDERS_ANY_MORE).await;
    sql.expect("planted");
    for number in 2..22 {
        let error = write(&sink, &guard, &[order(number)]).await;
        let Err(WriteError::RefusedAlike { stored, source }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!((stored.count(), source.control), (0, Control::Refused));
        assert_eq!(source.code, "23514");
    }
    let many: Vec<_> = (2..52).map(order).collect();
    let Err(WriteError::RefusedAlike { source, .. }) = write(&sink, &guard, &many).await else {
        panic!("at fault")
    };
    assert_eq!(source.refused, 1, "the others are not looked for");
    assert_eq!(db.statuses().await["processed"], 1);
    assert_eq!(db.statuses().await.get("failed"), None, "no status either");
    let sql = "ALTER TABLE orders DROP CONSTRAINT planted";
    db.sql.batch_execute(sql).await.expect("mended");
    write(&sink, &guard, &[order(2)]).await.expect("stored");
}

#[tokio::test]
async fn a_table_that_is_mended_under_a_writer_fails_no_message() {
    let db = Database::new("mended_under_writer").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    let sql = db.sql.batch_execute(NO_ORDERS_ANY_MORE).await;
    sql.expect("planted");
    let mend = MendUnderWriter::prepare(&db, "orders").await;
    let batch = [order(2)];
    let (written, ()) = tokio::join!(write(&sink, &guard, &batch), mend.mend());
    assert_eq!(written.expect("mended"), [RowOutcome::Stored]);
    assert_eq!(db.statuses().await, [("processed".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_table_at_fault_does_not_keep_its_neighbours_from_answering() {
    let db = Database::new("table_at_fault_beside").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    let sql = db.sql.batch_execute(NO_ORDERS_ANY_MORE).await;
    sql.expect("planted");
    let mixed = [customer(2, 7), order(3)];
    let error = write(&sink, &guard, &mixed).await.expect_err("at fault");
    assert_eq!(error.stored().count(), 0, "one transaction");
    assert_eq!(db.count("customers").await, 0);
}

#[tokio::test]
async fn a_message_that_does_not_fit_fails_alone() {
    let db = Database::new("does_not_fit").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    // Eight digits, where the column takes seven.
    let outcomes = write(&sink, &guard, &[order(2), priced(3, 123_456_789, None)]).await;
    let outcomes = outcomes.expect("the table takes others");
    assert_eq!(outcomes[0], RowOutcome::Stored);
    assert!(
        matches!(outcomes[1], RowOutcome::Rejected(_)),
        "{outcomes:?}"
    );
    assert_eq!(db.statuses().await["failed"], 1);
}

#[tokio::test]
async fn only_a_handful_fails_when_the_table_takes_what_it_took_before() {
    let db = Database::new("handful").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    let mut failed = 0;
    for number in 2..22 {
        match write(&sink, &guard, &[priced(number, 123_456_789, None)]).await {
            Ok(_) => failed += 1,
            Err(error) => assert!(
                matches!(error, WriteError::RefusedAlike { .. }),
                "{error:?}"
            ),
        }
    }
    assert_eq!(failed, 5);
}

#[tokio::test]
async fn rows_of_the_same_transaction_do_not_vouch_for_the_table() {
    let db = Database::new("no_row_before").await;
    let (sink, guard) = (sink(&db), RejectGuard::default());
    // Whichever half is stored first, it holds a good one.
    let wrong = (2..5).map(|number| priced(number, 123_456_789, None));
    let batch: Vec<_> = [order(1)]
        .into_iter()
        .chain(wrong)
        .chain([order(5)])
        .collect();
    let error = write(&sink, &guard, &batch).await;
    let Err(WriteError::RefusedAlike { source, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((source.refused, source.control), (3, Control::Unknown));
    // Once a row was stored before, so few are told from it.
    write(&sink, &guard, &[order(1)]).await.expect("stored");
    write(&sink, &guard, &batch).await.expect("three are few");
    assert_eq!(db.statuses().await["failed"], 3);
}
