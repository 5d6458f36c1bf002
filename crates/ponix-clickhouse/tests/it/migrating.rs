//! Migrations, and what may come between them.

use ponix_clickhouse::migration::{MigrationFile, Refusal};
use ponix_clickhouse::{Client, ErrorKind, MigrateError, MigrationState, Migrator};
use tokio::task::JoinSet;

use crate::support;

/// A migration that makes a table `t{n}`, with a comment to tell two texts apart.
fn file(n: i64, comment: &str) -> MigrationFile {
    let text = format!(
        "-- {comment}\n-- +goose Up\nCREATE TABLE IF NOT EXISTS t{n} (x UInt8) ENGINE = Memory;\n\
         -- +goose Down\nDROP TABLE IF EXISTS t{n};\n"
    );
    MigrationFile::read(&format!("{n}_make_t{n}.sql"), &text).expect("a good file")
}

fn migrator(client: &Client, files: &[MigrationFile]) -> Migrator {
    Migrator::with_files(client, files.to_vec()).expect("distinct versions")
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    client.raw().query_raw(sql).fetch_all().await.expect(sql)
}

async fn execute(client: &Client, sql: &str) {
    client.raw().query_raw(sql).execute().await.expect(sql);
}

async fn tables(client: &Client) -> Vec<String> {
    texts(
        client,
        "SELECT name FROM system.tables WHERE database = currentDatabase() \
                   AND name NOT LIKE '%migration%' AND name NOT LIKE 'goose%' ORDER BY name",
    )
    .await
}

/// The rows of goose's table, as `version:is_applied`.
async fn versions(client: &Client) -> Vec<String> {
    texts(
        client,
        "SELECT toString(version_id) || ':' || toString(is_applied) \
                   FROM goose_db_version ORDER BY version_id",
    )
    .await
}

fn refusal(error: MigrateError) -> Refusal {
    assert_eq!(error.kind(), ErrorKind::Fatal);
    match error {
        MigrateError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_run_makes_the_database_and_the_second_changes_nothing() {
    let client = support::client("twice").await;
    let migrator = Migrator::new(&client);
    let applied = migrator.up().await.expect("the first run");
    assert_eq!(applied, ["20261120000000_create_processed_envelopes.sql"]);
    assert_eq!(tables(&client).await, ["envelopes", "processed_envelopes"]);
    let recorded = versions(&client).await;
    assert_eq!(recorded, ["0:1", "20261120000000:1"]);
    assert_eq!(
        migrator.up().await.expect("the second run"),
        Vec::<String>::new()
    );
    assert_eq!(versions(&client).await, recorded);
    let status = migrator.status().await.expect("the status");
    assert!(
        matches!(status[0].state, MigrationState::Applied { at_unix_secs } if at_unix_secs > 0)
    );
}

#[tokio::test]
async fn down_takes_one_back_and_up_puts_it_there_again() {
    let client = support::client("down_and_up").await;
    let migrator = migrator(&client, &[file(1, ""), file(2, "")]);
    migrator.up().await.expect("up");
    assert_eq!(
        migrator.down().await.expect("down"),
        Some("2_make_t2.sql".into())
    );
    assert_eq!(
        (tables(&client).await, versions(&client).await.len()),
        (vec!["t1".into()], 2)
    );
    let status = migrator.status().await.expect("the status");
    assert_eq!(status[1].state, MigrationState::Pending);
    assert_eq!(migrator.up().await.expect("up"), ["2_make_t2.sql"]);
    assert_eq!(tables(&client).await, ["t1", "t2"]);
    migrator.down().await.expect("down");
    migrator.down().await.expect("down");
    assert_eq!(migrator.down().await.expect("nothing left"), None);
    assert_eq!(versions(&client).await, ["0:1"]);
}

#[tokio::test]
async fn what_was_interrupted_goes_on() {
    let client = support::client("interrupted").await;
    let text = "-- +goose Up\n\nCREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = Memory;\n\
                CREATE VIEW IF NOT EXISTS v AS\nSELECT x FROM made_by_hand;\n";
    let broken = MigrationFile::read("2_interrupted.sql", text).expect("a good file");
    let migrator = migrator(&client, &[file(1, ""), broken, file(3, "")]);
    let error = migrator.up().await.expect_err("the table is not there");
    assert_eq!(
        error.to_string(),
        "2_interrupted.sql:4: the statement failed"
    );
    assert_eq!(tables(&client).await, ["a", "t1"], "what was done stays");
    assert_eq!(
        versions(&client).await,
        ["0:1", "1:1"],
        "and is not recorded"
    );

    execute(
        &client,
        "CREATE TABLE made_by_hand (x UInt8) ENGINE = Memory",
    )
    .await;
    let applied = migrator.up().await.expect("now it passes");
    assert_eq!(applied, ["2_interrupted.sql", "3_make_t3.sql"]);
    assert_eq!(versions(&client).await, ["0:1", "1:1", "2:1", "3:1"]);
}

#[tokio::test]
async fn a_file_changed_after_it_was_applied_is_refused() {
    let client = support::client("changed_file").await;
    migrator(&client, &[file(1, "as it was")])
        .up()
        .await
        .expect("up");
    let changed = migrator(&client, &[file(1, "as it is now"), file(2, "")]);
    let refused = Refusal::Changed {
        file: "1_make_t1.sql".into(),
    };
    assert_eq!(refusal(changed.up().await.expect_err("changed")), refused);
    assert_eq!(refusal(changed.down().await.expect_err("changed")), refused);
    let status = changed.status().await.expect("the status");
    assert!(
        matches!(status[0].state, MigrationState::Changed { .. }),
        "{status:?}"
    );
    assert_eq!(tables(&client).await, ["t1"], "nothing was changed");
}

#[tokio::test]
async fn a_gap_is_refused() {
    let client = support::client("gap").await;
    migrator(&client, &[file(1, ""), file(3, "")])
        .up()
        .await
        .expect("up");
    let error = migrator(&client, &[file(1, ""), file(2, ""), file(3, "")])
        .up()
        .await;
    let gap = Refusal::Gap {
        file: "2_make_t2.sql".into(),
        newest: 3,
    };
    assert_eq!(refusal(error.expect_err("2 was skipped")), gap);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let client = support::client("newer_database").await;
    migrator(&client, &[file(1, ""), file(2, ""), file(3, "")])
        .up()
        .await
        .expect("up");
    let older = migrator(&client, &[file(1, ""), file(2, "")]);
    let newer = Refusal::DatabaseNewer {
        version: 3,
        known: 2,
    };
    assert_eq!(refusal(older.up().await.expect_err("3 is unknown")), newer);
    assert_eq!(
        refusal(older.down().await.expect_err("3 is unknown")),
        newer
    );
    let status = older.status().await.expect("the status");
    assert_eq!((status[2].version, status[2].file.as_deref()), (3, None));

    let other = migrator(&client, &[file(1, ""), file(3, "")]);
    let missing = Refusal::FileMissing { version: 2 };
    assert_eq!(
        refusal(other.up().await.expect_err("2 has no file")),
        missing
    );
}

#[tokio::test]
async fn what_goose_applied_is_taken_over() {
    let client = support::client("after_goose").await;
    let files = [file(1, ""), file(2, "")];
    // What goose does for `up-by-one` in an empty database.
    migrator(&client, &[])
        .up()
        .await
        .expect("makes the database");
    execute(&client, "DROP TABLE ponix_migration_checksums").await;
    execute(&client, "CREATE TABLE t1 (x UInt8) ENGINE = Memory").await;
    execute(
        &client,
        "INSERT INTO goose_db_version (version_id, is_applied) VALUES (1, 1)",
    )
    .await;

    let migrator_now = migrator(&client, &files);
    let status = migrator_now.status().await.expect("the status");
    assert!(
        matches!(status[0].state, MigrationState::Applied { .. }),
        "{status:?}"
    );
    assert_eq!(migrator_now.up().await.expect("up"), ["2_make_t2.sql"]);
    let changed = migrator(
        &client,
        &[file(1, "changed since it was seen"), file(2, "")],
    );
    let refused = Refusal::Changed {
        file: "1_make_t1.sql".into(),
    };
    assert_eq!(refusal(changed.up().await.expect_err("changed")), refused);

    // Goose takes the second back: its row goes, our checksum stays and must not count.
    execute(
        &client,
        "ALTER TABLE goose_db_version DELETE WHERE version_id = 2 \
                      SETTINGS mutations_sync = 2",
    )
    .await;
    let rewritten = migrator(
        &client,
        &[file(1, ""), file(2, "rewritten before it is applied")],
    );
    assert_eq!(rewritten.up().await.expect("up"), ["2_make_t2.sql"]);
    assert_eq!(
        rewritten.up().await.expect("nothing to do"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn eight_at_once_do_not_trip_over_each_other() {
    let client = support::client("eight_at_once").await;
    let files: Vec<_> = (1..=5)
        .map(|n| file(n, ""))
        .chain(MigrationFile::embedded())
        .collect();
    let mut all = JoinSet::new();
    for _ in 0..8 {
        // Clients of their own, as of processes of their own.
        let client = support::client("eight_at_once").await;
        let migrator = migrator(&client, &files);
        all.spawn(async move { migrator.up().await });
    }
    while let Some(done) = all.join_next().await {
        done.expect("no panic")
            .expect("every instance gets through");
    }
    let status = migrator(&client, &files)
        .status()
        .await
        .expect("the status");
    assert_eq!(status.len(), 6);
    assert!(
        status
            .iter()
            .all(|one| matches!(one.state, MigrationState::Applied { .. }))
    );
    let mut distinct = versions(&client).await;
    distinct.dedup();
    assert_eq!(
        distinct,
        ["0:1", "1:1", "2:1", "3:1", "4:1", "5:1", "20261120000000:1"]
    );
    assert_eq!(
        migrator(&client, &files).up().await.expect("nothing to do"),
        Vec::<String>::new()
    );
    migrator(&client, &files)
        .down()
        .await
        .expect("down deletes every copy of the row");
    assert_eq!(
        versions(&client).await.last().map(String::as_str),
        Some("5:1")
    );
}

/// The engine here keeps no users, so that the statements can only be parsed.
#[tokio::test]
async fn the_role_of_readers_is_sql_that_the_engine_knows() {
    let server = support::server().await;
    let client = Client::new(&support::config(server, "default")).expect("valid");
    let document = include_str!("../../../../docs/reading.sql");
    let lines = document.lines().filter(|line| !line.starts_with("--"));
    let text: Vec<&str> = lines.collect();
    let text = text.join("\n");
    let statements: Vec<&str> = text
        .split_terminator(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .collect();
    assert_eq!(statements.len(), 3);
    for statement in statements {
        let parsed = client.raw().query_raw(&format!("EXPLAIN AST {statement}"));
        let tree: Vec<String> = parsed.fetch_all().await.expect(statement);
        assert!(tree[0].ends_with("Query"), "{tree:?}");
    }
    // And its settings are settings.
    for setting in ["final", "do_not_merge_across_partitions_select_final"] {
        let known = format!("SELECT count() FROM system.settings WHERE name = '{setting}'");
        let known: u64 = client
            .raw()
            .query_raw(&known)
            .fetch_one()
            .await
            .expect("it answers");
        assert_eq!(known, 1, "{setting}");
    }
}
