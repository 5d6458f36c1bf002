//! `ponix dlq replay`: puts dead letters back where they came from.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use ponix_console::{Choice, Letter, Letters, duration, letter_json, replay};
use serde_json::json;

use crate::servers::Servers;
use crate::{End, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Put a single one back with the body of this file instead of its own; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// How long to wait until the workers have settled what was put back; 0s does not wait.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
}

pub(crate) async fn run(args: Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let selection = args.choice.selection()?;
    if args.body.is_some() && selection.sequences.len() != 1 {
        bail!("--body is for a single dead letter: name its sequence");
    }
    let body = args.body.as_deref().map(read).transpose()?;
    let letters = Letters::find(selection, &servers.streams).await?;
    if args.dry_run {
        return dry_run(&letters, json).await;
    }
    let progress = ProgressBar::no_length().with_message("put back");
    let replayed = replay(&letters, &servers.streams, body, args.wait, || {
        progress.inc(1);
    })
    .await;
    progress.finish_and_clear();
    let replayed = replayed?;
    if json {
        print::json(&json!({
            "put_back": replayed.put_back,
            "there_already": replayed.there_already,
            "not_settled": replayed.not_settled,
            "dead_again": replayed.dead_again.len(),
        }));
    } else {
        print::line(&format!(
            "{} put back{}{}",
            replayed.put_back,
            part(replayed.there_already, "were on their way already"),
            part(replayed.not_settled, "not settled yet"),
        ));
        for (pipeline, letter) in &replayed.dead_again {
            print::line(&format!(
                "dead again: {pipeline} {} {}: {}",
                letter.sequence, letter.reason, letter.error
            ));
        }
    }
    let all_well = replayed.not_settled == 0 && replayed.dead_again.is_empty();
    let end = super::found(&replayed.missing);
    Ok(if all_well { end } else { End::InPart })
}

async fn dry_run(letters: &Letters, json: bool) -> anyhow::Result<End> {
    let mut count = 0;
    let missing = letters
        .for_each(async |letter| {
            count += 1;
            tell(&letter, json);
            Ok(())
        })
        .await?;
    print::note(&format!("{count} would be put back"));
    Ok(super::found(&missing))
}

fn read(path: &std::path::Path) -> anyhow::Result<Bytes> {
    let bytes = if path == std::path::Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    Ok(bytes.with_context(|| path.display().to_string())?.into())
}

fn tell(letter: &Letter, json: bool) {
    if json {
        print::json(&letter_json(letter, false));
    } else {
        let kept = &letter.kept;
        print::line(&format!(
            "{} {} to {} ({})",
            letter.pipeline, kept.sequence, kept.subject, kept.reason
        ));
    }
}

fn part(count: u64, what: &str) -> String {
    if count == 0 {
        String::new()
    } else {
        format!(", {count} {what}")
    }
}
