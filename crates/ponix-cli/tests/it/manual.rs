//! Completions and manual pages, which need neither servers nor a right configuration.

use anyhow::Result;

use crate::support::{Said, run};

async fn without_anything(args: &[&str]) -> Result<Said> {
    let wrong = [("PONIX_NATS_BATCH_SIZE", "many".to_owned())];
    run("nats://127.0.0.1:1", args, "", &wrong).await
}

#[tokio::test]
async fn completions_know_the_commands() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let said = without_anything(&["completions", shell]).await?;
        assert_eq!(said.code, Some(0), "{}", said.err);
        for word in ["status", "dlq", "replay", "dry-run"] {
            assert!(said.out.contains(word), "{shell}: no {word}");
        }
    }
    let said = without_anything(&["completions", "csh"]).await?;
    assert_eq!(said.code, Some(64));
    assert!(said.err.contains("bash"), "{}", said.err);
    Ok(())
}

#[tokio::test]
async fn every_command_has_a_manual_page() -> Result<()> {
    let said = without_anything(&["man"]).await?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains(".TH ponix 1"), "{}", said.out);

    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("man/man1");
    let shown = dir.display().to_string();
    let said = without_anything(&["man", &shown]).await?;
    assert_eq!(said.code, Some(0), "{}", said.err);
    for page in ["ponix.1", "ponix-dlq-replay.1", "ponix-streams-apply.1"] {
        assert!(dir.join(page).is_file(), "no {page}");
    }

    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    let said = without_anything(&["man", &file.display().to_string()]).await?;
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("cannot be written"), "{}", said.err);
    Ok(())
}
