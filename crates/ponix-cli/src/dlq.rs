//! `ponix dlq`: dead letters, and what to do about them.

mod discard;
mod replay;

use std::collections::BTreeMap;

use clap::Subcommand;
use ponix_console::{Letters, Selection, letter_json, letter_text, payload};

use crate::End;
use crate::print;
use crate::servers::Servers;

/// Error texts are shown up to this many characters in a list.
const ERROR_CHARS_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List dead letters, the oldest first, and count them by reason.
    Ls {
        #[command(flatten)]
        selection: Selection,
        /// How many are listed; all are counted.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show dead letters whole: where from, why, headers and body.
    Show {
        #[command(flatten)]
        selection: Selection,
    },
    /// Put dead letters back where they came from, with the identity that they had.
    Replay(replay::Args),
    /// Remove dead letters for ever.
    Discard(discard::Args),
    /// Print dead letters as JSON, one on each line, bodies in base64 too.
    Export {
        #[command(flatten)]
        selection: Selection,
    },
}

pub(crate) async fn run(command: Command, servers: &Servers, json: bool) -> anyhow::Result<End> {
    match command {
        Command::Ls { selection, limit } => list(&selection, limit, servers, json).await,
        Command::Show { selection } => show(&selection, servers, json).await,
        Command::Replay(args) => replay::run(args, servers, json).await,
        Command::Discard(args) => discard::run(args, servers, json).await,
        Command::Export { selection } => {
            let letters = Letters::find(&selection, &servers.streams).await?;
            let missing = letters
                .for_each(async |letter| {
                    print::json(&letter_json(&letter, true));
                    Ok(())
                })
                .await?;
            Ok(found(&missing))
        }
    }
}

/// Tells of sequences that were asked for and are none.
fn found(missing: &[u64]) -> End {
    if missing.is_empty() {
        return End::Done;
    }
    let missing: Vec<_> = missing.iter().map(u64::to_string).collect();
    print::error(&format!("no such dead letter: {}", missing.join(", ")));
    End::InPart
}

async fn list(
    selection: &Selection,
    limit: usize,
    servers: &Servers,
    json: bool,
) -> anyhow::Result<End> {
    let letters = Letters::find(selection, &servers.streams).await?;
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut rows = Vec::new();
    let (mut listed, mut all) = (0, 0);
    let missing = letters
        .for_each(async |letter| {
            all += 1;
            let kind = (letter.pipeline.clone(), letter.kept.reason.clone());
            *counts.entry(kind).or_default() += 1;
            if listed == limit {
                return Ok(());
            }
            listed += 1;
            if json {
                print::json(&letter_json(&letter, false));
                return Ok(());
            }
            let kept = &letter.kept;
            rows.push([
                letter.pipeline.clone(),
                kept.sequence.to_string(),
                payload::time(kept.kept_at_ns),
                kept.reason.clone(),
                kept.subject.clone(),
                kept.error.chars().take(ERROR_CHARS_MAX).collect(),
            ]);
            Ok(())
        })
        .await?;
    if json {
        return Ok(found(&missing));
    }
    if !rows.is_empty() {
        let head = ["PIPELINE", "SEQ", "KEPT", "REASON", "SUBJECT", "ERROR"];
        print::table(head, &rows);
        print::line("");
    }
    for ((pipeline, reason), count) in &counts {
        print::line(&format!("{pipeline}: {count} {reason}"));
    }
    if all == 0 {
        print::line("no dead letters");
    } else if listed < all {
        print::line(&format!("{listed} of {all} listed; --limit lists more"));
    }
    Ok(found(&missing))
}

async fn show(selection: &Selection, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let letters = Letters::find(selection, &servers.streams).await?;
    let mut shown = 0;
    let missing = letters
        .for_each(async |letter| {
            if json {
                print::json(&letter_json(&letter, false));
            } else {
                if shown > 0 {
                    print::line("");
                }
                print::line(&letter_text(&letter));
            }
            shown += 1;
            Ok(())
        })
        .await?;
    if shown == 0 && !json {
        print::line("no dead letters");
    }
    Ok(found(&missing))
}
