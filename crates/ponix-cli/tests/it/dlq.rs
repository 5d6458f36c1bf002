//! Dead letters: looked at, put back, discarded.

use anyhow::Result;
use ponix_faults::{Event, Poison};

use crate::support::{ponix, ponix_ok, ponix_with, world};

/// Events of a device that the table refuses, by their id in the body and in the header alone.
fn refused(count: u64) -> impl Iterator<Item = Event> {
    (0..count).map(|n| {
        let event = if n % 2 == 0 {
            Event::good(n)
        } else {
            Event::with_header_alone(n)
        };
        event.of_refused_device()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refused_is_put_back_once_it_is_mended() -> Result<()> {
    let world = world().await?;
    world.refuse_some_rows().await?;
    let _worker = world.start_worker("").await?;
    world
        .publishing()
        .publish((0..200).map(Event::good))
        .await?;
    world.settled().await?;
    // The store is at fault for few enough rows that the guard lets them go.
    world.publishing().publish(refused(4)).await?;
    let poison = Event::poison(0, Poison::NotANumber);
    world.publishing().publish([poison]).await?;
    world.settled().await?;

    let all = ponix_ok(&world, &["dlq", "ls", "--json"]).await?.objects();
    assert_eq!(all.len(), 5, "{all:?}");
    let of_store = ["dlq", "ls", "--json", "--reason", "rejected_by_store"];
    let found = ponix_ok(&world, &of_store).await?.objects();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0]["pipeline"], "envelopes");
    assert!(found[0]["device"].is_string() && found[0]["body"]["data"].is_object());
    let device = found[0]["device"].as_str().unwrap();
    let of_device = ponix_ok(&world, &["dlq", "ls", "--json", "--device", device]).await?;
    assert_eq!(of_device.objects().len(), 4);
    let value = ponix_ok(&world, &["dlq", "show", "--reason", "value"]).await?;
    assert!(value.out.contains("\"NaN\""), "{}", value.out);

    // Put back before the mend, they come back; nothing is lost, nothing there twice.
    let replay = ["dlq", "replay", "--reason", "rejected_by_store"];
    let too_early = ponix(&world, &replay).await?;
    assert_eq!(too_early.code, Some(3), "{too_early:?}");
    assert_eq!(
        too_early.out.matches("dead again").count(),
        4,
        "{too_early:?}"
    );
    assert_eq!(ponix_ok(&world, &of_store).await?.objects().len(), 4);

    world.refuse_no_rows().await?;
    let dry = ponix_ok(&world, &[&replay[..], &["--dry-run"]].concat()).await?;
    assert_eq!(dry.out.lines().count(), 4);
    assert_eq!(ponix_ok(&world, &of_store).await?.objects().len(), 4);
    // Twice at once, as two operators would.
    let (one, other) = tokio::join!(ponix(&world, &replay), ponix(&world, &replay));
    assert_eq!((one?.code, other?.code), (Some(0), Some(0)));
    world.settled().await?;
    assert!(ponix_ok(&world, &of_store).await?.out.is_empty());
    let judgement = world.expect_sound().await?;
    assert_eq!(
        (judgement.readable, judgement.dead),
        (204, 1),
        "{judgement}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_put_back_with_another_body_and_the_rest_discarded() -> Result<()> {
    let world = world().await?;
    let _worker = world.start_worker("").await?;
    let wrong = [Poison::MissingField, Poison::Undecodable];
    let wrong = wrong.map(|poison| Event::poison(0, poison));
    world.publishing().publish(wrong).await?;
    world.settled().await?;
    let letters = ponix_ok(&world, &["dlq", "export"]).await?.objects();
    assert_eq!(letters.len(), 2);
    let missing = letters
        .iter()
        .find(|letter| letter["reason"] == "missing_field")
        .unwrap();
    let sequence = missing["sequence"].to_string();
    // An envelope is no text: what it was wrong in is taken from what a good event looks like.
    let good = Event::good(7).message().payload;
    let folder = std::env::temp_dir().join(format!("ponix-cli-{}", std::process::id()));
    std::fs::write(&folder, &good)?;
    let file = folder.display().to_string();
    let corrected = ["dlq", "replay", &sequence, "--body", &file];
    ponix_ok(&world, &corrected).await?;
    std::fs::remove_file(&folder)?;
    world.readable(1).await?;

    let asked = ponix(&world, &["dlq", "discard", "--all"]).await?;
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.err.contains("--yes"), "{asked:?}");
    assert_eq!(
        ponix_ok(&world, &["dlq", "export"]).await?.objects().len(),
        1
    );
    ponix_ok(&world, &["dlq", "discard", "--all", "--yes"]).await?;
    let none = ponix_ok(&world, &["dlq", "ls"]).await?;
    assert_eq!(none.out, "no dead letters\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() -> Result<()> {
    let world = world().await?;
    let _worker = world.start_worker("").await?;
    for (args, code, text) in [
        (&["dlq", "replay"][..], 1, "--all"),
        (&["dlq", "discard", "--yes"], 1, "--all"),
        (
            &["dlq", "ls", "--pipeline", "none"],
            1,
            "only envelopes, messages",
        ),
        (
            &["dlq", "ls", "--pipeline", "messages"],
            1,
            "never ran here",
        ),
        (&["dlq", "show", "17"], 3, "no such dead letter: 17"),
        (&["dlq", "replay", "1", "2", "--body", "-"], 1, "single"),
        (
            &["dlq", "ls", "--since", "yesterday"],
            64,
            "2h for two hours ago",
        ),
        (&["dlq", "look"], 64, "subcommand"),
    ] {
        let said = ponix_with(&world, args, "").await?;
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        assert!(said.err.contains(text), "{args:?}: {said:?}");
    }
    Ok(())
}
