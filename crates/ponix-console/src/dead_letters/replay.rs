//! Puts dead letters back where they came from.
//!
//! The order of effects: published again and the PubAck there, then the dead letter is removed. A
//! replay that is cut off, repeated, or run twice at once loses nothing: the message has the same
//! id for the stream whoever puts it back, and the same identity as before for the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{KeptLetter, PubAck, Publisher, RangeReader, held_range};
use tokio::time::Instant;

use super::selection::{Letter, Letters};
use crate::streams::Streams;

/// Messages that wait for their PubAck at the same time.
const IN_FLIGHT_MAX: usize = 256;
/// How often the server is asked whether all is settled.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

/// What became of dead letters that were put back.
#[derive(Debug, Default)]
pub struct Replayed {
    /// How many were put back.
    pub put_back: u64,
    /// Of these, how many the stream had already.
    pub there_already: u64,
    /// Of these, how many the workers have not settled, at most.
    pub not_settled: u64,
    /// What is dead again, by pipeline.
    pub dead_again: Vec<(String, KeptLetter)>,
    /// Sequences that were asked for and are none.
    pub missing: Vec<u64>,
}

/// Puts dead letters back, each with its own body or all with this one, and waits until the workers
/// have settled them or `wait` is over. `on_put_back` is called after each.
///
/// # Errors
/// The server refuses or does not answer; what was put back stays so, and the same call goes on.
///
/// # Cancel safety
/// What was published and not removed yet is put back once more by the next call, which stores
/// nothing twice.
pub async fn replay(
    letters: &Letters,
    streams: &Streams,
    body: Option<Bytes>,
    wait: Duration,
    on_put_back: impl FnMut() + Send,
) -> anyhow::Result<Replayed> {
    let mut replay = Replay::new(on_put_back);
    let put_back = replay.all(letters, streams, body).await;
    // Also when something failed: what is on its way is finished.
    while !replay.under_way.is_empty() {
        replay.one_done().await?;
    }
    let missing = put_back?;
    let replayed = replay.fate(streams, wait).await?;
    Ok(Replayed {
        missing,
        ..replayed
    })
}

type UnderWay = futures::future::BoxFuture<'static, anyhow::Result<PubAck>>;

/// What was put back so far.
struct Replay<F> {
    put_back: u64,
    /// Of these, how many the stream had already.
    duplicates: u64,
    under_way: FuturesUnordered<UnderWay>,
    /// Sequences that the streams have given, by stream.
    sequences: HashMap<String, HashSet<u64>>,
    /// The streams of the dead letters by pipeline, with their last sequence before anything was
    /// put back.
    dead_letters: BTreeMap<String, (Arc<Stream>, u64)>,
    on_put_back: F,
}

impl<F: FnMut() + Send> Replay<F> {
    fn new(on_put_back: F) -> Self {
        Self {
            put_back: 0,
            duplicates: 0,
            under_way: FuturesUnordered::new(),
            sequences: HashMap::new(),
            dead_letters: BTreeMap::new(),
            on_put_back,
        }
    }

    /// Puts them back; returns the sequences that are none.
    async fn all(
        &mut self,
        letters: &Letters,
        streams: &Streams,
        body: Option<Bytes>,
    ) -> anyhow::Result<Vec<u64>> {
        let mut reading = letters.reading();
        while let Some(letter) = reading.next().await? {
            self.make_room().await?;
            self.put_back(letter, body.clone(), streams).await?;
        }
        Ok(reading.missing())
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
        (self.on_put_back)();
        Ok(())
    }

    async fn put_back(
        &mut self,
        letter: Letter,
        body: Option<Bytes>,
        streams: &Streams,
    ) -> anyhow::Result<()> {
        if !self.dead_letters.contains_key(&letter.pipeline) {
            let last = held_range(&letter.dead_letters).await?.last;
            let place = (Arc::clone(&letter.dead_letters), last);
            self.dead_letters.insert(letter.pipeline.clone(), place);
        }
        let publisher = streams.publisher.clone();
        self.under_way
            .push(Box::pin(put_back(letter, body, publisher)));
        Ok(())
    }

    /// Waits until the workers have settled all of it, or `wait` is over.
    async fn fate(&mut self, streams: &Streams, wait: Duration) -> anyhow::Result<Replayed> {
        let mut fate = Replayed {
            put_back: self.put_back,
            there_already: self.duplicates,
            ..Replayed::default()
        };
        let deadline = Instant::now() + wait;
        for (name, sequences) in &self.sequences {
            loop {
                fate.not_settled = not_settled(streams, name, sequences).await?;
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
///
/// # Errors
/// The server refuses or does not answer.
pub async fn remove(letter: &KeptLetter, dead_letters: &Stream) -> anyhow::Result<()> {
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
    streams: &Streams,
    stream: &str,
    sequences: &HashSet<u64>,
) -> anyhow::Result<u64> {
    let Some(stream) = streams.stream(stream).await? else {
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
