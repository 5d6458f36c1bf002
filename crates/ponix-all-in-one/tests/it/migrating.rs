//! The subcommand `migrate`.

use ponix_stack::{Mode, Proxy, Signal};

use crate::support::{World, numbered};

const FILE: &str = "20261120000000_create_processed_envelopes.sql";

#[tokio::test(flavor = "multi_thread")]
async fn up_down_and_status_say_what_they_did() {
    let world = World::new("migrating").await;
    assert_eq!(
        world.migrate("up").await.lines().last().unwrap(),
        format!("applied  {FILE}")
    );
    assert_eq!(world.migrate("up").await, "nothing is pending\n");
    assert_eq!(
        world.migrate("status").await,
        format!("20261120000000  applied  {FILE}\n")
    );
    assert_eq!(
        world.migrate("down").await.lines().last().unwrap(),
        format!("reverted {FILE}")
    );
    assert_eq!(
        world.migrate("status").await,
        format!("20261120000000  pending  {FILE}\n")
    );
    assert_eq!(world.migrate("down").await, "nothing is applied\n");
    let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() \
                  AND name IN ('envelopes', 'processed_envelopes')";
    assert_eq!(world.number(tables).await.unwrap(), 0);

    // A start brings them back.
    let service = world.service().start_ready().await;
    world.publish(numbered(1)).await;
    world.stored(1).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_of_a_database_that_is_not_there_lists_what_is_pending() {
    let world = World::new("migrating_nothing").await;
    assert_eq!(
        world.migrate("status").await,
        format!("20261120000000  pending  {FILE}\n")
    );
    let databases = world.service().args(&["migrate", "up"]).run().await;
    assert_eq!(databases.0, 0, "{}", databases.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_newer_than_the_binary_is_refused() {
    let world = World::new("migrating_newer").await;
    world.migrate("up").await;
    world
        .execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (20991231235959, 1)")
        .await;
    for service in [world.service(), world.service().args(&["migrate", "up"])] {
        let (code, log) = service.run().await;
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("20991231235959"), "{log}");
        assert!(!log.contains("trying again"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_the_server() {
    let world = World::new("migrating_signal").await;
    let proxy = Proxy::start(world.clickhouse.addr()).await.unwrap();
    proxy.set(Mode::Refuse).await;
    let migrate = world
        .service()
        .args(&["migrate"])
        .env("PONIX_CLICKHOUSE_URL", proxy.url("http"))
        .start();
    migrate.logged("trying again").await;
    assert_eq!(migrate.stop_by(Signal::SIGINT).await, 1);
    assert!(
        migrate.log().contains("stopped by a signal"),
        "{}",
        migrate.log()
    );
}
