//! `ponix dlq replay`: puts dead letters back where they came from.
//!
//! The order of effects: published again and the PubAck there, then the dead letter is removed. A
//! replay that is cut off, repeated, or run twice at once loses nothing: the message has the same
//! id for the stream whoever puts it back, and the same identity as before for the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{KeptLetter, PubAck, Publisher, RangeReader, held_range};
use serde_json::json;
use tokio::time::Instant;

use super::selection::{Choice, Letter, Letters};
use super::view;
use crate::servers::{IN_FLIGHT_MAX, Servers};
use crate::{End, duration, print};

/// How often the server is asked whether all is settled.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

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
    let letters = Letters::find(selection, servers).await?;
    let mut replay = Replay::new(args.dry_run);
    let end = letters
        .for_each(async |letter| {
            if args.dry_run {
                replay.put_back += 1;
                tell(&letter, json);
                return Ok(());
            }
            replay.make_room().await?;
            replay.put_back(letter, body.clone(), servers).await
        })
        .await;
    // Also when something failed: what is on its way is finished.
    while !replay.under_way.is_empty() {
        replay.one_done().await?;
    }
    replay.progress.finish_and_clear();
    let end = end?;
    if args.dry_run {
        print::note(&format!("{} would be put back", replay.put_back));
        return Ok(end);
    }
    let fate = replay.fate(servers, args.wait).await?;
    if json {
        print::json(&json!({
            "put_back": replay.put_back,
            "there_already": replay.duplicates,
            "not_settled": fate.not_settled,
            "dead_again": fate.dead_again.len(),
        }));
    } else {
        print::line(&format!(
            "{} put back{}{}",
            replay.put_back,
            part(replay.duplicates, "were on their way already"),
            part(fate.not_settled, "not settled yet"),
        ));
        for (pipeline, letter) in &fate.dead_again {
            print::line(&format!(
                "dead again: {pipeline} {} {}: {}",
                letter.sequence, letter.reason, letter.error
            ));
        }
    }
    let all_well = fate.not_settled == 0 && fate.dead_again.is_empty();
    Ok(if all_well { end } else { End::InPart })
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
        print::json(&view::json(letter, false));
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

type UnderWay = futures::future::BoxFuture<'static, anyhow::Result<PubAck>>;

/// What was put back so far.
struct Replay {
    put_back: u64,
    /// Of these, how many the stream had already.
    duplicates: u64,
    under_way: FuturesUnordered<UnderWay>,
    /// Sequences that the streams have given, by stream.
    sequences: HashMap<String, HashSet<u64>>,
    /// The streams of the dead letters by pipeline, with their last sequence before anything was
    /// put back.
    dead_letters: BTreeMap<String, (Arc<Stream>, u64)>,
    progress: ProgressBar,
}

/// What has become of what was put back.
#[derive(Default)]
struct Fate {
    not_settled: u64,
    dead_again: Vec<(String, KeptLetter)>,
}

impl Replay {
    fn new(silent: bool) -> Self {
        let progress = if silent {
            ProgressBar::hidden()
        } else {
            ProgressBar::no_length().with_message("put back")
        };
        Self {
            put_back: 0,
            duplicates: 0,
            under_way: FuturesUnordered::new(),
            sequences: HashMap::new(),
            dead_letters: BTreeMap::new(),
            progress,
        }
    }

    async fn make_room(&mut self) -> anyhow::Result<()> {
        while self.under_way.len() >= IN_FLIGHT_MAX {
            self.one_done().await?;
        }
        Ok(())
    }

    async fn one_done(&mut self) -> anyhow::Result<()> {
        let Some(ack) = self.under_way.next().await else {
            return Ok(());
        };
        let ack = ack?;
        self.put_back += 1;
        self.duplicates += u64::from(ack.duplicate);
        self.sequences
            .entry(ack.stream)
            .or_default()
            .insert(ack.sequence);
        self.progress.inc(1);
        Ok(())
    }

    async fn put_back(
        &mut self,
        letter: Letter,
        body: Option<Bytes>,
        servers: &Servers,
    ) -> anyhow::Result<()> {
        if !self.dead_letters.contains_key(&letter.pipeline) {
            let last = held_range(&letter.dead_letters).await?.last;
            let place = (Arc::clone(&letter.dead_letters), last);
            self.dead_letters.insert(letter.pipeline.clone(), place);
        }
        let publisher = servers.publisher.clone();
        self.under_way
            .push(Box::pin(put_back(letter, body, publisher)));
        Ok(())
    }

    /// Waits until the workers have settled all of it, or `wait` is over.
    async fn fate(&mut self, servers: &Servers, wait: Duration) -> anyhow::Result<Fate> {
        let mut fate = Fate::default();
        let deadline = Instant::now() + wait;
        for (name, sequences) in &self.sequences {
            loop {
                fate.not_settled = not_settled(servers, name, sequences).await?;
                if fate.not_settled == 0 || Instant::now() >= deadline {
                    break;
                }
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        }
        for (pipeline, (stream, last)) in &self.dead_letters {
            let mut range = held_range(stream).await?;
            range.first = range.first.max(last + 1);
            let mut reader = RangeReader::open(stream, range).await?;
            while let Some(message) = reader.next().await? {
                let letter = KeptLetter::read(&stream.cached_info().config.name, &message);
                let ours = |letter: &KeptLetter| {
                    let sequences = self.sequences.get(&letter.stream);
                    sequences.is_some_and(|all| all.contains(&letter.stream_sequence))
                };
                if let Some(letter) = letter.filter(ours) {
                    fate.dead_again.push((pipeline.clone(), letter));
                }
            }
        }
        Ok(fate)
    }
}

/// Publishes again, and removes the dead letter once the stream has it.
async fn put_back(
    letter: Letter,
    body: Option<Bytes>,
    publisher: Publisher,
) -> anyhow::Result<PubAck> {
    let Letter {
        kept, dead_letters, ..
    } = &letter;
    let of = || {
        format!(
            "dead letter {} of pipeline {}",
            kept.sequence, letter.pipeline
        )
    };
    let message = kept.message(body.unwrap_or_else(|| letter.body.clone()));
    let ack = publisher.publish(message).await.with_context(of)?;
    remove(kept, dead_letters).await.with_context(of)?;
    Ok(ack)
}

/// Removes a dead letter; one that is gone is fine.
pub(super) async fn remove(letter: &KeptLetter, dead_letters: &Stream) -> anyhow::Result<()> {
    let deleted = dead_letters.delete_message(letter.sequence).await;
    match deleted {
        Err(err) if !is_gone(dead_letters, letter).await => return Err(err).context("not removed"),
        _ => {}
    }
    if let Some(rest) = letter.rest_subject() {
        dead_letters
            .purge()
            .filter(rest)
            .await
            .context("second part not removed")?;
    }
    Ok(())
}

/// How many of these the durable consumers of the stream have not settled, at most.
async fn not_settled(
    servers: &Servers,
    stream: &str,
    sequences: &HashSet<u64>,
) -> anyhow::Result<u64> {
    let Some(stream) = servers.stream(stream).await? else {
        bail!("stream {stream} is gone");
    };
    let mut floor = u64::MAX;
    let mut consumers = stream.consumers();
    while let Some(consumer) = consumers.next().await {
        let consumer = consumer.context("the consumers cannot be listed")?;
        let settled = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
        if consumer.config.durable_name.is_some() && !settled {
            floor = floor.min(consumer.ack_floor.stream_sequence);
        }
    }
    Ok(sequences
        .iter()
        .filter(|sequence| **sequence > floor)
        .count() as u64)
}

async fn is_gone(stream: &Stream, letter: &KeptLetter) -> bool {
    matches!(ponix_nats::message_from(stream, letter.sequence).await,
        Ok(found) if found.is_none_or(|(sequence, _)| sequence > letter.sequence))
}
