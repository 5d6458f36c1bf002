//! `ponix replay`: history once more through its pipeline.

use anyhow::Result;
use futures::TryStreamExt as _;
use ponix_faults::Event;

use crate::support::{ponix, ponix_ok, world};

#[tokio::test(flavor = "multi_thread")]
async fn history_changes_nothing_that_is_there_and_brings_back_what_is_not() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    // With an id in the body, in a header, and with none but the place.
    let events = (0..60).map(|n| match n % 3 {
        0 => Event::good(n),
        1 => Event::with_header_alone(n),
        _ => Event::anonymous(n),
    });
    world.publishing().publish(events).await?;
    world.settled().await?;
    world.readable(60).await?;

    let replay = ["replay", "-p", "envelopes", "--from", "1h"];
    let dry = ponix_ok(&world, &[&replay[..], &["--dry-run"]].concat()).await?;
    assert!(dry.err.contains("60 would be sent again"), "{dry:?}");
    assert!(
        dry.err.contains("holds what was published from 20"),
        "{dry:?}"
    );
    let said = ponix_ok(&world, &replay).await?;
    assert_eq!(said.out, "60 sent again\n", "{said:?}");
    world.settled().await?;
    let readable = "SELECT count() FROM envelopes";
    assert_eq!(world.number(readable).await?, 60);

    world.execute("TRUNCATE TABLE processed_envelopes").await?;
    assert_eq!(world.number(readable).await?, 0);
    let said = ponix_ok(&world, &[&replay[..], &["--rate", "1000"]].concat()).await?;
    assert!(
        said.out
            .starts_with("120 sent again, 60 were on their way already"),
        "{said:?}"
    );
    world.settled().await?;
    assert_eq!(world.number(readable).await?, 60);
    let stream = world.stream().await?;
    let consumers: Vec<_> = stream.consumers().try_collect().await?;
    let durables = consumers
        .iter()
        .filter(|one| one.config.durable_name.is_some());
    assert_eq!(durables.count(), 1, "the reader's own go by themselves");

    let none = ponix(
        &world,
        &["replay", "-p", "envelopes", "--from", "2h", "--to", "1h"],
    )
    .await?;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(
        none.err
            .contains("holds nothing of that time, only what was published from"),
        "{none:?}"
    );
    worker.stop().await?;
    Ok(())
}
