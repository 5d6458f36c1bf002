//! `ponix-all-in-one reconcile`: is every settled event stored exactly once?
//!
//! Reads the stream below the consumer's ack floor and looks each identity up in the table and in
//! the dead letters. It trusts nothing that the consumer says of itself.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use ponix_clickhouse::{Client as ClickHouseClient, Presence};
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    ConnectionRole, Delivery, NatsMetrics, RangeReader, SequenceRange, connect,
    dead_letter_identities, decode_delivery, first_since, held_range, jetstream_context,
};
use ponix_runner::{Outcome, Signals};
use ponix_wire::{timestamp_from_rfc3339, timestamp_to_ns};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli;
use crate::config::Config;

/// Identities looked up with one query.
const CHUNK: usize = 50_000;
/// Identities named per kind of finding.
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
    let dead = dead_letter_identities(&dead_letters).await?;

    let mut report = Report {
        stream: config.nats.stream.clone(),
        range,
        ..Report::default()
    };
    let mut reader = RangeReader::open(&stream, range).await?;
    let mut chunk = HashSet::with_capacity(CHUNK);
    let mut next_progress = Instant::now() + PROGRESS_PERIOD;
    while let Some(delivery) = reader.next().await? {
        report.messages += 1;
        chunk.insert(identity(&delivery));
        if chunk.len() >= CHUNK {
            judge(&mut chunk, &clickhouse, &dead, &mut report).await?;
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
    judge(&mut chunk, &clickhouse, &dead, &mut report).await?;
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

/// The identity the event must be stored under, in the table or among the dead letters.
fn identity(delivery: &Delivery) -> Uuid {
    decode_delivery(delivery).map_or_else(
        |dead_letter| dead_letter.event_id.unwrap_or_else(|| delivery.identity()),
        |(_, event_id)| event_id,
    )
}

async fn judge(
    chunk: &mut HashSet<Uuid>,
    clickhouse: &ClickHouseClient,
    dead: &HashSet<Uuid>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let event_ids: Vec<Uuid> = chunk.drain().collect();
    let presence = clickhouse
        .presence(&event_ids)
        .await
        .context("clickhouse cannot be asked")?;
    for event_id in event_ids {
        let presence = presence.get(&event_id).copied().unwrap_or_default();
        report.add(event_id, presence, dead.contains(&event_id));
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
    examples: Vec<Uuid>,
}

impl Finding {
    fn add(&mut self, event_id: Uuid) {
        self.events += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(event_id);
        }
    }
}

impl Report {
    fn add(&mut self, event_id: Uuid, presence: Presence, is_dead: bool) {
        let is_stored = presence.readable > 0;
        self.stored += u64::from(is_stored);
        self.dead += u64::from(is_dead);
        self.unmerged_copies += presence.copies.saturating_sub(presence.readable);
        match (is_stored, is_dead) {
            (false, false) => self.lost.add(event_id),
            (true, true) => self.in_both.add(event_id),
            _ => {}
        }
        if presence.readable > 1 {
            self.doubled.add(event_id);
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
            for event_id in &finding.examples {
                writeln!(f, "  {event_id}")?;
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
                Uuid::nil(),
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
