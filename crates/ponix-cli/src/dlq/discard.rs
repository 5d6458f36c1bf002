//! `ponix dlq discard`: removes dead letters for ever.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::bail;
use ponix_console::{Choice, Letters, remove};
use serde_json::json;

use crate::servers::Servers;
use crate::{End, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let letters = Letters::find(args.choice.selection()?, &servers.streams).await?;
    if !args.yes {
        let mut count = 0;
        let counted = letters.for_each(async |_| {
            count += 1;
            Ok(())
        });
        let missing = counted.await?;
        if count == 0 {
            print::line("no dead letters");
            return Ok(super::found(&missing));
        }
        if !agreed(count)? {
            bail!("nothing is discarded");
        }
    }
    let mut discarded = 0;
    let missing = letters
        .for_each(async |letter| {
            remove(&letter.kept, &letter.dead_letters).await?;
            discarded += 1;
            Ok(())
        })
        .await?;
    if json {
        print::json(&json!({ "discarded": discarded }));
    } else {
        print::line(&format!("{discarded} discarded"));
    }
    Ok(super::found(&missing))
}

fn agreed(count: u64) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{count} would be discarded; there is nobody to ask: say --yes");
    }
    let mut error = std::io::stderr();
    write!(error, "Discard {count} dead letters for ever? [y/N] ")?;
    error.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
