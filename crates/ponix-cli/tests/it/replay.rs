//! `ponix replay`: history once more through its pipeline.

use anyhow::Result;
use futures::TryStreamExt as _;
use ponix_faults::{Event, Poison};

use crate::support::{ponix, ponix_ok, ponix_whole, world};

/// With an id in the body, in a header, and with none but the place.
fn sixty_events() -> impl Iterator<Item = Event> {
    (0..60).map(|n| match n % 3 {
        0 => Event::good(n),
        1 => Event::with_header_alone(n),
        _ => Event::anonymous(n),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn history_changes_nothing_that_is_there_and_brings_back_what_is_not() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(sixty_events()).await?;
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

/// What readers see of a table.
const SEEN: &str = "organization_id, end_device_id, occurred_at, processed_at, toString(data), event_id, \
                    published_at, stream_sequence";

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_into_another_table_by_the_same_pipeline() -> Result<()> {
    let world = world().await?;
    let worker = world.start_worker("").await?;
    world.publishing().publish(sixty_events()).await?;
    let poison = [Poison::Undecodable, Poison::MissingField];
    world
        .publishing()
        .publish(poison.map(|poison| Event::poison(0, poison)))
        .await?;
    world.settled().await?;
    world.readable(60).await?;
    let (rows, admin) = (world.rows().await?, worker.admin_addr().to_string());
    let replay = [
        "replay",
        "-p",
        "envelopes",
        "--from",
        "1h",
        "--into",
        "again",
    ];
    for _ in 0..2 {
        let said = ponix_whole(&world, &admin, &replay).await?;
        assert_eq!(
            said.out,
            "62 messages read again, 60 events into again, 2 events refused: 1 decode, 1 missing_field\n",
            "{said:?}"
        );
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(
            said.err
                .contains(": missing_field: organization_id is missing"),
            "{said:?}"
        );
        let count = "SELECT count() FROM again FINAL";
        assert_eq!(world.number(count).await?, 60);
    }
    let differs = format!(
        "SELECT count() FROM (SELECT {SEEN} FROM processed_envelopes FINAL EXCEPT SELECT {SEEN} FROM again FINAL)"
    );
    assert_eq!(world.number(&differs).await?, 0);
    // Where it came from is as it was.
    assert_eq!(world.rows().await?, rows);
    assert_eq!(world.stream().await?.cached_info().state.messages, 62);
    let letters = world.dead_letter_stream().await?;
    assert_eq!(letters.cached_info().state.messages, 2);

    let one = [&replay[..5], &["--into", "some", "-s", "*.%none", "--json"]].concat();
    let said = ponix_whole(&world, &admin, &one).await?;
    assert_eq!(said.objects()[0]["read"], 0, "{said:?}");
    let own = [&replay[..5], &["--into", "ponix.processed_envelopes"]].concat();
    let said = ponix_whole(&world, &admin, &own).await?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("is the pipeline's own table"), "{said:?}");
    worker.stop().await?;
    Ok(())
}
