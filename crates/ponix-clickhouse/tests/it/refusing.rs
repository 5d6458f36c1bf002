//! What ClickHouse refuses is told apart: rows, and everything else.

use std::error::Error as _;
use std::time::Duration;

use ponix_clickhouse::{
    ClickHouseConfig, Client, EnvelopeRow, ErrorKind, InsertResult, Migrator, RetryReason,
};
use ponix_sink::{Control, ErrorClass, RejectedBy, RowOutcome, WriteError};
use ponix_stack::eventually;

use crate::support::{self, REFUSED_JSON, Store, row, rows};

/// Writes ten rows that nothing can store and returns the code.
async fn fatal_code(store: &Store) -> u32 {
    fatal_code_of(store, &rows(10), "").await
}

/// Writes rows that nothing can store and returns the code; the error names something.
async fn fatal_code_of(store: &Store, rows: &[EnvelopeRow], names: &str) -> u32 {
    let error = store.write(rows).await;
    let error = error.expect_err("nothing can be stored");
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(source.contains(names), "{source}");
    assert!(
        matches!(
            error,
            WriteError::Unusable {
                class: ErrorClass::Fatal,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.stored().count(), 0);
    assert_eq!(store.inserts(), 1, "told at once");
    support::code(&error).expect("clickhouse said why")
}

#[tokio::test]
async fn a_missing_table_is_fatal_until_it_is_back() {
    let store = Store::new("missing_table").await;
    store.execute("DROP TABLE processed_envelopes").await;
    assert_eq!(fatal_code(&store).await, 60);
    Migrator::new(&store.client)
        .down()
        .await
        .expect("down is safe to repeat");
    Migrator::new(&store.client).up().await.expect("up again");
    store.write(&rows(10)).await.expect("stored");
    assert_eq!(store.envelopes().await, 10);
}

#[tokio::test]
async fn a_missing_database_is_fatal() {
    let client = support::client("was_never_created").await;
    let store = Store::without_tables(client.clone());
    assert_eq!(fatal_code(&store).await, 81);
    assert_eq!(
        client.ping().await.expect_err("no such database").code(),
        Some(81)
    );
}

#[tokio::test]
async fn a_wrong_password_is_fatal_and_not_shown() {
    let config = ClickHouseConfig {
        password: "hunter2".into(),
        ..support::config(support::server().await, "default")
    };
    let client = Client::new(&config).expect("a valid configuration");
    let error = client.ping().await.expect_err("wrong password");
    assert_eq!((error.code(), error.kind()), (Some(516), ErrorKind::Fatal));
    assert!(!format!("{error:?} {client:?}").contains("hunter2"));
    assert_eq!(fatal_code(&Store::without_tables(client)).await, 516);
}

#[tokio::test]
async fn a_dropped_column_is_fatal() {
    let store = Store::new("dropped_column").await;
    store
        .execute("ALTER TABLE processed_envelopes DROP COLUMN processed_at")
        .await;
    assert_eq!(fatal_code(&store).await, 16);
}

#[tokio::test]
async fn a_large_insert_learns_why_it_was_refused() {
    let store = Store::new("large_refused").await;
    store.execute("DROP TABLE processed_envelopes").await;
    // Many chunks, so that the answer can come while some are still unsent.
    let data = format!(r#"{{"noise":"{}"}}"#, support::noise(20 << 20));
    let error = store.write(&[row(0, data)]).await;
    assert_eq!(support::code(&error.expect_err("no table")), Some(60));
}

#[tokio::test]
async fn one_bad_row_in_5000_is_found_with_at_most_26_more_inserts() {
    let store = Store::new("one_in_5000").await;
    store.stop_merges().await;
    let mut rows = rows(5_000);
    rows[3_217].envelope.data_json = REFUSED_JSON.into();
    let outcome = store.write(&rows).await;
    let outcomes = outcome.expect("the others are stored");
    assert_eq!(support::rejected(&outcomes), [(3_217, 117)]);
    let RowOutcome::Rejected(rejection) = &outcomes[3_217] else {
        panic!("rejected above")
    };
    assert_eq!(rejection.by, RejectedBy::Store);
    assert!(
        rejection.text.contains("Duplicate path"),
        "{}",
        rejection.text
    );
    // And once more after a row of before was taken.
    assert!(store.inserts() <= 1 + 26 + 1, "{} INSERTs", store.inserts());
    assert_eq!(store.metrics.rejected_rows(), 1);
    // Two copies are the control row's.
    assert_eq!(
        (store.envelopes().await, store.copies().await),
        (4_999, 5_001)
    );
}

#[tokio::test]
async fn rows_bad_for_different_reasons_are_each_told_why() {
    let store = Store::new("different_reasons").await;
    store.execute(NO_BAD_DEVICES).await;
    let mut rows = rows(300);
    rows[0].envelope.data_json = "[1.0]".into();
    rows[150].envelope.data_json = r#"{"x":"\ud800"}"#.into();
    rows[299].envelope.end_device_id = "bad-1".into();
    let outcome = store.write(&rows).await;
    let outcomes = outcome.expect("the others are stored");
    let found = support::rejected(&outcomes);
    assert_eq!(found, [(0, 117), (150, 117), (299, 469)]);
    assert_eq!(outcomes[1], RowOutcome::Stored);
    assert_eq!(store.envelopes().await, 297);
}

#[tokio::test]
async fn a_lone_bad_row_is_rejected() {
    let store = Store::new("lone_bad_row").await;
    let outcome = store.write(&[row(0, REFUSED_JSON)]).await;
    let outcomes = outcome.expect("nothing else to store");
    assert_eq!(support::rejected(&outcomes), [(0, 117)]);
    assert_eq!(store.inserts(), 2, "it is asked twice");
}

/// Refuses rows of devices `bad-…`, as a schema that somebody changed might.
const NO_BAD_DEVICES: &str = "ALTER TABLE processed_envelopes \
                              ADD CONSTRAINT mended CHECK NOT startsWith(end_device_id, 'bad-')";

#[tokio::test]
async fn many_rows_refused_alike_end_the_search_soon() {
    let store = Store::new("refused_alike").await;
    store.execute(NO_BAD_DEVICES).await;
    let mut rows = rows(5_000);
    for (n, row) in rows.iter_mut().enumerate() {
        if (n * 7_919) % 100 < 30 {
            row.envelope.end_device_id = format!("bad-{n}");
        }
    }
    let error = store.write(&rows).await;
    let error = error.expect_err("30 % are refused");
    assert!(
        matches!(error, WriteError::RefusedAlike { .. }),
        "{error:?}"
    );
    assert_eq!(support::code(&error), Some(469));
    assert!(store.inserts() < 250, "{} INSERTs", store.inserts());
    assert_eq!(store.metrics.rejected_rows(), 0, "none is rejected");
    assert_eq!(
        store.envelopes().await,
        error.stored().count() as u64,
        "what is said is stored"
    );

    store
        .execute("ALTER TABLE processed_envelopes DROP CONSTRAINT mended")
        .await;
    let missing: Vec<_> = rows
        .iter()
        .enumerate()
        .filter(|(index, _)| !error.stored().contains(*index))
        .map(|(_, row)| row.clone())
        .collect();
    store.write(&missing).await.expect("it was mended");
    assert_eq!(store.envelopes().await, 5_000);
}

#[tokio::test]
async fn a_store_at_fault_at_low_traffic_rejects_nothing() {
    let store = Store::new("at_fault_slowly").await;
    store.write(&[row(0, "{}")]).await.expect("stored");
    store
        .execute(
            "ALTER TABLE processed_envelopes ADD CONSTRAINT c CHECK end_device_id != 'device-0'",
        )
        .await;
    for n in 1..=40 {
        let error = store.write(&[row(n * 100, "{}")]).await;
        let error = error.expect_err("the store is at fault");
        let WriteError::RefusedAlike { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.control, Control::Refused);
    }
    store
        .execute("ALTER TABLE processed_envelopes DROP CONSTRAINT c")
        .await;
    store.write(&[row(100, "{}")]).await.expect("mended");
}

#[tokio::test]
async fn a_constraint_that_the_control_row_passes_costs_a_handful() {
    let store = Store::new("at_fault_in_part").await;
    store.write(&[row(1, "{}")]).await.expect("stored");
    store.execute(NO_BAD_DEVICES).await;
    let mut rejected = 0;
    for n in 2..40 {
        let mut bad = row(n, "{}");
        bad.envelope.end_device_id = format!("bad-{n}");
        match store.write(&[bad]).await {
            Ok(outcomes) => rejected += support::rejected(&outcomes).len(),
            Err(error) => assert!(
                matches!(error, WriteError::RefusedAlike { .. }),
                "{error:?}"
            ),
        }
    }
    assert_eq!(rejected, 5);
}

#[tokio::test]
async fn the_table_gives_the_control_row_after_a_restart() {
    let store = Store::new("control_from_table").await;
    store.write(&[row(0, "{}")]).await.expect("stored");
    store
        .execute(
            "ALTER TABLE processed_envelopes ADD CONSTRAINT c CHECK end_device_id != 'device-0'",
        )
        .await;
    let restarted = Store::without_tables(store.client.clone());
    let error = restarted.write(&[row(100, "{}")]).await;
    let Err(WriteError::RefusedAlike { source, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.control, Control::Refused);
}

#[tokio::test]
async fn too_many_parts_is_waited_out() {
    let store = Store::new("too_many_parts").await;
    store.stop_merges().await;
    store
        .execute("ALTER TABLE processed_envelopes MODIFY SETTING parts_to_throw_insert = 1")
        .await;
    store.write(&rows(1)).await.expect("the first part");
    let write = tokio::spawn({
        let store = store.clone();
        async move { store.write_patiently(&[row(1, "{}")]).await }
    });
    eventually("a retry", Duration::from_secs(30), || async {
        store.metrics.inserts(InsertResult::Transient) >= 2
    })
    .await
    .expect("the server refuses more parts");
    store
        .execute("ALTER TABLE processed_envelopes RESET SETTING parts_to_throw_insert")
        .await;
    write.await.expect("it is stored in the end");
    assert_eq!(store.envelopes().await, 2);
}

#[tokio::test]
async fn a_lack_of_memory_halves_the_insert() {
    let store = Store::new("lack_of_memory").await;
    store.plant(241, "count() > 100").await;
    let outcome = store.write(&rows(1_000)).await;
    assert_eq!(support::rejected(&outcome.expect("halves pass")), []);
    // 1,000 rows are halved four times, into 16 pieces of 62 and 63.
    assert_eq!(store.metrics.inserts(InsertResult::Ok), 16);
    assert_eq!(store.metrics.retries(RetryReason::Halved), 15);
    assert_eq!((store.inserts(), store.envelopes().await), (31, 1_000));
}

#[tokio::test]
async fn a_code_that_nobody_listed_rejects_a_row_only_after_asking_twice() {
    let store = Store::new("unlisted_code").await;
    // 395, FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
    let check = "ALTER TABLE processed_envelopes ADD CONSTRAINT thrown \
                 CHECK throwIf(end_device_id = 'device-33') = 0";
    store.execute(check).await;
    let outcomes = store.write(&rows(64)).await.expect("the others are stored");
    assert_eq!(support::rejected(&outcomes), [(33, 395)]);
    assert_eq!(store.metrics.retries(RetryReason::Confirmed), 1);
}

#[tokio::test]
async fn what_nobody_but_an_operator_can_mend_is_fatal() {
    // READONLY, ACCESS_DENIED, SETTING_CONSTRAINT_VIOLATION
    for code in [164, 497, 452] {
        let store = Store::new(&format!("operator_{code}")).await;
        store.plant(code, "count() > 0").await;
        assert_eq!(fatal_code(&store).await, code);
    }
}

#[tokio::test]
async fn a_view_that_fails_is_the_stores_fault() {
    let store = Store::new("failing_view").await;
    for sql in [
        "CREATE TABLE readings (value Float64) ENGINE = MergeTree ORDER BY value",
        "CREATE MATERIALIZED VIEW casting TO readings AS \
         SELECT toFloat64(data.text::String) AS value FROM processed_envelopes",
    ] {
        store.execute(sql).await;
    }
    let text = |n: u64| {
        if n.is_multiple_of(100) {
            "much".into()
        } else {
            n.to_string()
        }
    };
    let data = |n: u64| row(n, format!(r#"{{"text":"{}"}}"#, text(n)));
    let rows: Vec<_> = (0..1_000).map(data).collect();
    let code = fatal_code_of(&store, &rows, "failing_view.casting").await;
    assert_eq!(code, 72, "CANNOT_PARSE_NUMBER");
    assert_eq!(store.envelopes().await, 1_000, "stored all the same");

    store.execute("DROP TABLE casting").await;
    store.write(&rows).await.expect("it was mended");
    assert_eq!(store.envelopes().await, 1_000, "copies are absorbed");
}

#[tokio::test]
async fn too_many_partitions_says_so_in_the_words_we_look_for() {
    let store = Store::new("too_many_partitions").await;
    let insert = "INSERT INTO processed_envelopes (occurred_at) \
                  SELECT toDateTime64(number * 31 * 86400, 9, 'UTC') FROM numbers(120)";
    let error = store
        .client
        .raw()
        .query_raw(insert)
        .execute()
        .await
        .expect_err("120 months");
    let text = error.to_string();
    assert!(
        text.contains("Code: 252") && text.contains("Too many partitions"),
        "{text}"
    );
}
