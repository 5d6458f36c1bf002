//! `ponix-all-in-one reconcile`: is every settled event stored exactly once?
//!
//! Reads the stream below the consumer's ack floor and looks each event up in the table, or among the
//! statuses in PostgreSQL, and in the dead letters, by all that makes it one there: organizations and
//! devices may choose the same ids.
//! It trusts nothing that the consumer says of itself.

mod report;
mod store;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use ponix_nats::async_nats::jetstream::Context;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    ConnectionRole, KeptLetter, NatsMetrics, RangeReader, SequenceRange, connect, first_since,
    held_range, jetstream_context,
};
use ponix_pipeline::{Message, Pipeline, Unpacked};
use ponix_runner::{Outcome, Signals};
use ponix_wire::{covers, timestamp_from_rfc3339, timestamp_to_ns};
use tokio::time::Instant;

use self::report::Report;
use self::store::{Event, Fit, Store, undecodable};
use crate::config::Config;
use crate::{cli, pipelines};

/// Events looked up with one query.
const CHUNK: usize = 50_000;
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// What to look at.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct What {
    /// A pipeline; every one that this service would run without.
    #[arg(long = "pipeline", value_name = "NAME")]
    pipelines: Vec<String>,
    /// Publish time to begin with, such as 2026-03-01T00:00:00Z; the oldest message without.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Publish time to end before; the ack floor without.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// Prints a report for each pipeline; the outcome is clean when nothing is lost, doubled or in both
/// places.
pub(crate) async fn run(config: Config, what: What, mut signals: Signals) -> Outcome {
    let outcome = tokio::select! {
        outcome = reconcile(&config, &what) => outcome,
        _ = signals.recv() => return cli::fail("stopped by a signal before the end"),
    };
    outcome.unwrap_or_else(|err| cli::fail(&format!("{err:#}")))
}

async fn reconcile(config: &Config, what: &What) -> anyhow::Result<Outcome> {
    let declared = pipelines::load(config.service.pipelines_dir.as_deref())?;
    let pipelines = chosen(config, what, &pipelines::all(config, declared))?;
    let deadline = Instant::now() + config.service.startup_timeout_secs;
    let nats = config.nats.connection();
    let metrics = NatsMetrics::unregistered();
    let client = connect(&nats, ConnectionRole::Consume, &metrics, deadline).await?;
    let context = jetstream_context(client, &nats);
    let mut outcome = Outcome::Clean;
    for pipeline in pipelines {
        let report = match Store::of(config, &pipeline).await {
            Ok(store) => reconcile_one(config, &context, &pipeline, &store, what).await,
            Err(err) => Err(err),
        };
        let report = report.with_context(|| format!("pipeline {}", pipeline.name));
        match report {
            Ok(report) => {
                cli::line(&report.to_string());
                if !report.is_sound() {
                    outcome = Outcome::Failed;
                }
            }
            // The others are looked at all the same.
            Err(err) => outcome = cli::fail(&format!("{err:#}")),
        }
    }
    Ok(outcome)
}

/// Returns the pipelines to look at.
fn chosen(config: &Config, what: &What, all: &[Pipeline]) -> anyhow::Result<Vec<Pipeline>> {
    if what.pipelines.is_empty() {
        return Ok(pipelines::run_by(config, all));
    }
    let by_name = what.pipelines.iter().map(|name| {
        let found = pipelines::named(all, name).cloned();
        found.with_context(|| {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            format!("there is no pipeline {name:?}, only {}", names.join(", "))
        })
    });
    by_name.collect()
}

async fn reconcile_one(
    config: &Config,
    context: &Context,
    pipeline: &Pipeline,
    store: &Store,
    what: &What,
) -> anyhow::Result<Report> {
    let (name, source) = (&pipeline.name, &pipeline.source);
    let open = async |name: &str| {
        let stream = context.get_stream(name).await;
        stream.with_context(|| format!("stream {name}"))
    };
    let stream = open(&source.stream).await?;
    let dead_letters = open(&pipeline.dead_letters.stream).await?;
    let (range, filters) = range(&stream, &source.consumer, what).await?;
    let reader_of = Events {
        store,
        events_max: config.nats.pack_events_max as usize,
    };
    let dead = Dead::read(&dead_letters, &source.stream, reader_of).await?;

    let mut report = Report::new(name, &source.stream, range);
    let mut reader = RangeReader::open(&stream, range).await?;
    let mut chunk = HashMap::with_capacity(CHUNK);
    let mut next_progress = Instant::now() + PROGRESS_PERIOD;
    while let Some(delivery) = reader.next().await? {
        let is_ours = |filter: &String| covers(filter, delivery.subject());
        if !filters.is_empty() && !filters.iter().any(is_ours) {
            continue;
        }
        report.messages += 1;
        let message = Message::from(&delivery);
        let place = |index| (message.stream_sequence, message.published_at_ns, index);
        let is_dead_whole = dead.places.contains(&place(None));
        reader_of.each(&message, |index, read| {
            report.events += 1;
            let Some(Read { event, alone }) = read else {
                report.dropped += 1;
                return;
            };
            // A copy is dead where the event is: it counts by the event, whose place is another one.
            let known_as = alone.as_ref().unwrap_or(&event);
            let is_dead = is_dead_whole
                || dead.places.contains(&place(index))
                || dead.events.contains(known_as);
            let event = alone.filter(|_| is_dead).unwrap_or(event);
            *chunk.entry(event).or_default() |= is_dead;
        });
        if chunk.len() >= CHUNK {
            judge(&mut chunk, store, &mut report).await?;
        }
        if Instant::now() >= next_progress {
            next_progress = Instant::now() + PROGRESS_PERIOD;
            tracing::info!(
                pipeline = name,
                sequence = delivery.stream_sequence(),
                last = range.last,
                "reconciling"
            );
        }
    }
    judge(&mut chunk, store, &mut report).await?;
    report.unread = reader.unread();
    Ok(report)
}

/// Sequences to look at: held by the stream, settled by the consumer, inside the times. And the
/// subjects that the consumer reads, none for all.
async fn range(
    stream: &Stream,
    consumer: &str,
    times: &What,
) -> anyhow::Result<(SequenceRange, Vec<String>)> {
    let held = held_range(stream).await?;
    let info = stream
        .consumer_info(consumer)
        .await
        .with_context(|| format!("consumer {consumer}"))?;
    let mut range = SequenceRange {
        first: held.first,
        last: info.ack_floor.stream_sequence.min(held.last),
    };
    if let Some(from) = &times.from {
        range.first = range
            .first
            .max(first_since(stream, parse_time("--from", from)?).await?);
    }
    if let Some(to) = &times.to {
        range.last = range.last.min(
            first_since(stream, parse_time("--to", to)?)
                .await?
                .saturating_sub(1),
        );
    }
    let mut filters = info.config.filter_subjects;
    filters.push(info.config.filter_subject);
    filters.retain(|filter| !filter.is_empty());
    Ok((range, filters))
}

fn parse_time(field: &'static str, text: &str) -> anyhow::Result<i64> {
    Ok(timestamp_to_ns(
        field,
        &timestamp_from_rfc3339(field, text)?,
    )?)
}

/// Reads messages as their events.
#[derive(Debug, Clone, Copy)]
struct Events<'a> {
    store: &'a Store,
    events_max: usize,
}

/// An event that was read.
struct Read {
    event: Event,
    /// What it is alone: another event with the identity of one that does not fit may be stored.
    alone: Option<Event>,
}

impl Events<'_> {
    /// Reads each event of a message, with its place in a packed one; `None` for one that the transform
    /// drops. A packed message that cannot be read is itself what cannot be stored.
    fn each(&self, message: &Message<'_>, mut read: impl FnMut(Option<u32>, Option<Read>)) {
        let unpacked = Unpacked::new(*message, self.store.pack_format(), self.events_max);
        let Ok(unpacked) = unpacked else {
            let event = undecodable(message.identity, message);
            read(None, Some(Read { event, alone: None }));
            return;
        };
        for (index, message) in unpacked.events() {
            let found = self.store.read(&message).map(|(event, fit)| Read {
                event,
                alone: (fit == Fit::Misfit).then(|| undecodable(message.identity, &message)),
            });
            read(index, found);
        }
    }
}

/// The dead letters of a stream.
#[derive(Debug, Default)]
struct Dead {
    /// Sequence and publish time of their originals, and the place in one that was packed.
    places: HashSet<(u64, i64, Option<u32>)>,
    /// Their events: one that was published again, or put back, is kept once.
    events: HashSet<Event>,
}

impl Dead {
    async fn read(
        dead_letters: &Stream,
        source: &str,
        reader_of: Events<'_>,
    ) -> anyhow::Result<Self> {
        let mut dead = Self::default();
        let mut reader = RangeReader::open(dead_letters, held_range(dead_letters).await?).await?;
        let name = &dead_letters.cached_info().config.name;
        while let Some(message) = reader.next().await? {
            let Some(letter) = KeptLetter::read(name, &message) else {
                continue;
            };
            let published_at_ns = letter.published_at_ns;
            if letter.stream == source {
                dead.places
                    .insert((letter.stream_sequence, published_at_ns, letter.index));
            }
            // Without its second part it is known by its place alone.
            if let Ok(body) = letter.body(dead_letters).await {
                // A packed message that is dead as a whole is all of its events.
                let message = letter_message(&letter, &body);
                reader_of.each(&message, |_, read| {
                    let event = read.map(|Read { event, alone }| alone.unwrap_or(event));
                    let undecodable = || undecodable(message.identity, &message);
                    dead.events.insert(event.unwrap_or_else(undecodable));
                });
            }
        }
        Ok(dead)
    }
}

fn letter_message<'a>(letter: &'a KeptLetter, body: &'a [u8]) -> Message<'a> {
    Message {
        payload: body,
        subject: &letter.subject,
        headers: &letter.headers,
        identity: letter.identity(),
        published_at_ns: letter.published_at_ns,
        stream_sequence: letter.stream_sequence,
        deliveries: letter.deliveries,
    }
}

/// Looks up events, each with whether it is a dead letter.
async fn judge(
    chunk: &mut HashMap<Event, bool>,
    store: &Store,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (events, dead): (Vec<_>, Vec<_>) = chunk.drain().unzip();
    let presence = store.presence(&events).await?;
    for ((event, presence), is_dead) in events.iter().zip(presence).zip(dead) {
        report.add(event, presence, is_dead);
    }
    Ok(())
}
