//! `ponix-all-in-one reconcile`: is every settled event stored exactly once?
//!
//! Reads the stream below the consumer's ack floor and looks each event up in the table and in the
//! dead letters, by all that makes it one: organizations and devices may choose the same ids. It
//! trusts nothing that the consumer says of itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use anyhow::Context as _;
use ponix_clickhouse::{Client as ClickHouseClient, EventKey, Presence};
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    ConnectionRole, KeptLetter, NatsMetrics, RangeReader, SequenceRange, connect, decode_message,
    first_since, held_range, jetstream_context,
};
use ponix_runner::{Outcome, Signals};
use ponix_wire::{timestamp_from_rfc3339, timestamp_to_ns};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli;
use crate::config::Config;

/// Events looked up with one query.
const CHUNK: usize = 50_000;
/// Events named per kind of finding.
const EXAMPLES_MAX: usize = 10;
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// The publish times to look at, RFC 3339; open ends without.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Times {
    /// Publish time to begin with, such as 2026-03-01T00:00:00Z; the oldest message without.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Publish time to end before; the ack floor without.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// Prints the report; the outcome is clean when nothing is lost, doubled or in both places.
pub(crate) async fn run(config: Config, times: Times, mut signals: Signals) -> Outcome {
    let report = tokio::select! {
        report = reconcile(&config, &times) => report,
        _ = signals.recv() => return cli::fail("stopped by a signal before the end"),
    };
    match report {
        Ok(report) => {
            cli::line(&report.to_string());
            if report.is_sound() {
                Outcome::Clean
            } else {
                Outcome::Failed
            }
        }
        Err(err) => cli::fail(&format!("{err:#}")),
    }
}

async fn reconcile(config: &Config, times: &Times) -> anyhow::Result<Report> {
    let deadline = Instant::now() + config.service.startup_timeout_secs;
    let nats = config.nats.connection();
    let metrics = NatsMetrics::unregistered();
    let client = connect(&nats, ConnectionRole::Consume, &metrics, deadline).await?;
    let context = jetstream_context(client, &nats);
    let clickhouse = ClickHouseClient::new(&config.clickhouse.client())?;
    clickhouse
        .ping()
        .await
        .context("clickhouse cannot be asked")?;

    let stream = context
        .get_stream(&config.nats.stream)
        .await
        .with_context(|| format!("stream {}", config.nats.stream))?;
    let dead_letter_stream = config.nats.dead_letters().name;
    let dead_letters = context
        .get_stream(&dead_letter_stream)
        .await
        .with_context(|| format!("stream {dead_letter_stream}"))?;
    let range = range(&stream, &config.nats.consumer, times).await?;
    let dead = Dead::read(&dead_letters, &config.nats.stream).await?;

    let mut report = Report {
        stream: config.nats.stream.clone(),
        range,
        ..Report::default()
    };
    let mut reader = RangeReader::open(&stream, range).await?;
    let mut chunk = HashMap::with_capacity(CHUNK);
    let mut next_progress = Instant::now() + PROGRESS_PERIOD;
    while let Some(delivery) = reader.next().await? {
        report.messages += 1;
        let published_at_ns = delivery.published_at_ns();
        let place = (delivery.stream_sequence(), published_at_ns);
        let event = Event::of(delivery.payload(), published_at_ns, delivery.identity());
        // A copy is dead where the event is: it counts by the event, whose place is another one.
        let is_dead = dead.places.contains(&place) || dead.events.contains(&event);
        *chunk.entry(event).or_default() |= is_dead;
        if chunk.len() >= CHUNK {
            judge(&mut chunk, &clickhouse, &mut report).await?;
        }
        if Instant::now() >= next_progress {
            next_progress = Instant::now() + PROGRESS_PERIOD;
            tracing::info!(
                sequence = delivery.stream_sequence(),
                last = range.last,
                "reconciling"
            );
        }
    }
    judge(&mut chunk, &clickhouse, &mut report).await?;
    report.unread = reader.unread();
    Ok(report)
}

/// Sequences to look at: held by the stream, settled by the consumer, inside the times.
async fn range(stream: &Stream, consumer: &str, times: &Times) -> anyhow::Result<SequenceRange> {
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
    Ok(range)
}

fn parse_time(field: &'static str, text: &str) -> anyhow::Result<i64> {
    Ok(timestamp_to_ns(
        field,
        &timestamp_from_rfc3339(field, text)?,
    )?)
}

/// An event as the table knows it, or a message that the decoder refuses.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Event {
    Decoded(EventKey),
    /// Its identity, and a hash of its body.
    Undecodable(Uuid, u64),
}

impl Event {
    fn of(payload: &[u8], published_at_ns: i64, identity: Uuid) -> Self {
        match decode_message(payload, published_at_ns, identity) {
            Ok((envelope, event_id)) => Self::Decoded(EventKey {
                organization_id: envelope.organization_id,
                end_device_id: envelope.end_device_id,
                occurred_at_ns: envelope.occurred_at_ns,
                event_id,
            }),
            Err(dead_letter) => {
                let mut hasher = DefaultHasher::new();
                payload.hash(&mut hasher);
                let event_id = dead_letter.event_id.unwrap_or(identity);
                Self::Undecodable(event_id, hasher.finish())
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decoded(key) => write!(
                f,
                "{} organization {:?}, device {:?}",
                key.event_id, key.organization_id, key.end_device_id
            ),
            Self::Undecodable(event_id, _) => write!(f, "{event_id} that cannot be decoded"),
        }
    }
}

/// The dead letters of a stream.
#[derive(Debug, Default)]
struct Dead {
    /// Sequence and publish time of their originals.
    places: HashSet<(u64, i64)>,
    /// Their events: one that was published again, or put back, is kept once.
    events: HashSet<Event>,
}

impl Dead {
    async fn read(dead_letters: &Stream, source: &str) -> anyhow::Result<Self> {
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
                    .insert((letter.stream_sequence, published_at_ns));
            }
            // Without its second part it is known by its place alone.
            if let Ok(body) = letter.body(dead_letters).await {
                let event = Event::of(&body, published_at_ns, letter.identity());
                dead.events.insert(event);
            }
        }
        Ok(dead)
    }
}

/// Looks up events, each with whether it is a dead letter.
async fn judge(
    chunk: &mut HashMap<Event, bool>,
    clickhouse: &ClickHouseClient,
    report: &mut Report,
) -> anyhow::Result<()> {
    let event_ids: Vec<Uuid> = chunk
        .keys()
        .filter_map(|event| match event {
            Event::Decoded(key) => Some(key.event_id),
            Event::Undecodable(..) => None,
        })
        .collect();
    let presence = clickhouse
        .presence(&event_ids)
        .await
        .context("clickhouse cannot be asked")?;
    for (event, is_dead) in chunk.drain() {
        let presence = match &event {
            Event::Decoded(key) => presence.get(key).copied(),
            Event::Undecodable(..) => None,
        };
        report.add(&event, presence.unwrap_or_default(), is_dead);
    }
    Ok(())
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    stream: String,
    range: SequenceRange,
    messages: u64,
    /// Sequences without a message by now: purged or deleted before they could be read.
    unread: u64,
    stored: u64,
    dead: u64,
    unmerged_copies: u64,
    lost: Finding,
    doubled: Finding,
    in_both: Finding,
}

/// Events that are not where they should be.
#[derive(Debug, Default)]
struct Finding {
    events: u64,
    examples: Vec<String>,
}

impl Finding {
    fn add(&mut self, event: &Event) {
        self.events += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(event.to_string());
        }
    }
}

impl Report {
    fn add(&mut self, event: &Event, presence: Presence, is_dead: bool) {
        let is_stored = presence.readable > 0;
        self.stored += u64::from(is_stored);
        self.dead += u64::from(is_dead);
        self.unmerged_copies += presence.copies.saturating_sub(presence.readable);
        match (is_stored, is_dead) {
            (false, false) => self.lost.add(event),
            (true, true) => self.in_both.add(event),
            _ => {}
        }
        if presence.readable > 1 {
            self.doubled.add(event);
        }
    }

    fn is_sound(&self) -> bool {
        self.lost.events + self.doubled.events + self.in_both.events == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SequenceRange { first, last } = self.range;
        if self.range.is_empty() {
            return write!(
                f,
                "stream {}: no settled message in this range",
                self.stream
            );
        }
        writeln!(
            f,
            "stream {}: sequences {first} to {last}, {} messages",
            self.stream, self.messages
        )?;
        if self.unread > 0 {
            writeln!(
                f,
                "purged unread    {} (purged or deleted before they were read; not judged)",
                self.unread
            )?;
        }
        writeln!(f, "stored           {}", self.stored)?;
        writeln!(f, "dead letters     {}", self.dead)?;
        writeln!(f, "unmerged copies  {}", self.unmerged_copies)?;
        for (name, finding) in [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("in both places", &self.in_both),
        ] {
            writeln!(f, "{name:<16} {}", finding.events)?;
            for event in &finding.examples {
                writeln!(f, "  {event}")?;
            }
        }
        let verdict = if self.is_sound() {
            "sound: every settled event is stored once or a dead letter"
        } else {
            "NOT sound"
        };
        f.write_str(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cases: &[(u64, u64, bool)]) -> Report {
        let mut report = Report {
            range: SequenceRange { first: 1, last: 9 },
            ..Report::default()
        };
        for (copies, readable, dead) in cases {
            report.add(
                &Event::Undecodable(Uuid::nil(), 0),
                Presence {
                    copies: *copies,
                    readable: *readable,
                },
                *dead,
            );
        }
        report
    }

    #[test]
    fn stored_once_or_dead_is_sound_whatever_copies_there_are() {
        let report = report(&[(1, 1, false), (3, 1, false), (0, 0, true)]);
        assert!(report.is_sound());
        assert_eq!(
            (report.stored, report.dead, report.unmerged_copies),
            (2, 1, 2)
        );
    }

    #[test]
    fn lost_doubled_or_in_both_is_not() {
        for case in [(0, 0, false), (2, 2, false), (1, 1, true)] {
            let report = report(&[case]);
            assert!(!report.is_sound(), "{case:?}");
            assert!(report.to_string().contains("NOT sound"));
        }
    }
}
