//! `ponix replay`: sends history through its pipeline again.
//!
//! Each message is published again with the identity that it has, so that it becomes the row that is
//! there, or one that was lost. Into another table it is read here, by the pipeline's decoder and
//! transform, and nothing is published. Nothing is read by a durable consumer.

mod into;

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use ponix_console::{PipelineStreams, duration, payload, time_or_ago};
use ponix_nats::async_nats::HeaderMap;
use ponix_nats::async_nats::jetstream::stream::{RetentionPolicy, Stream};
use ponix_nats::{
    Delivery, OutgoingMessage, RangeReader, SequenceRange, first_since, held_range, message_from,
};
use ponix_wire::{covers, header};
use serde_json::json;
use tokio::time::Instant;

use crate::servers::{IN_FLIGHT_MAX, Servers};
use crate::{End, print};

/// How often the server is asked whether all is settled.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// A stream is not filled beyond this share of what it may hold.
const FULL: f64 = 0.9;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Of this pipeline.
    #[arg(long, short)]
    pipeline: String,
    /// What was published at this time or later: 2026-03-01T00:00:00Z, or `2h` for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    from: Timestamp,
    /// What was published before this time; all there is until now without.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    to: Option<Timestamp>,
    /// Published on this subject; `*` and `>` as in NATS.
    #[arg(long, short)]
    subject: Option<String>,
    /// Messages a second at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Say what would be sent again, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Read it here, by the same decoder and transform, and store it in this table of the same store,
    /// `[DATABASE.]TABLE`; what is refused is told and kept nowhere.
    #[arg(long, value_name = "TABLE")]
    into: Option<String>,
    /// How long to wait until the workers have settled what was sent again, 0s does not wait; with
    /// --into, how long the store may take nothing.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
}

/// What was sent again.
#[derive(Debug, Default)]
struct Sent {
    messages: u64,
    /// Of these, how many the stream had just got.
    duplicates: u64,
    last: u64,
}

pub(crate) async fn run(args: &Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let pipeline = servers.pipeline(&args.pipeline)?;
    let Some(stream) = servers.stream(&pipeline.stream).await? else {
        let (name, stream) = (&pipeline.name, &pipeline.stream);
        bail!("there is no stream {stream}: pipeline {name} never ran here");
    };
    if stream.cached_info().config.retention != RetentionPolicy::Limits {
        bail!(
            "stream {} keeps no history: what is settled leaves it",
            pipeline.stream
        );
    }
    let range = range(args, &stream).await?;
    if let (Some(table), false) = (&args.into, args.dry_run) {
        return into::run(args, table, servers, &stream, range, json).await;
    }
    if !args.dry_run {
        check_room(&stream, range)?;
    }
    let sent = send(args, servers, &stream, range).await?;
    if args.dry_run {
        let what = if args.into.is_some() { "read" } else { "sent" };
        print::note(&format!("{} would be {what} again", sent.messages));
        return Ok(End::Done);
    }
    let is_settled = sent.messages == 0 || settled(&stream, pipeline, sent.last, args.wait).await?;
    if json {
        print::json(&json!({
            "sent": sent.messages, "there_already": sent.duplicates, "settled": is_settled,
        }));
    } else {
        let again = match sent.duplicates {
            0 => String::new(),
            count => format!(", {count} were on their way already"),
        };
        let open = if is_settled { "" } else { ", not settled yet" };
        print::line(&format!("{} sent again{again}{open}", sent.messages));
    }
    Ok(if is_settled { End::Done } else { End::InPart })
}

/// The sequences of the times asked for; says what there is when that is not all.
async fn range(args: &Args, stream: &Stream) -> anyhow::Result<SequenceRange> {
    let held = held_range(stream).await?;
    let name = &stream.cached_info().config.name;
    let (oldest, newest) = (
        message_from(stream, held.first).await?,
        message_from(stream, held.last).await?,
    );
    let (Some((_, oldest)), Some((_, newest))) = (oldest, newest) else {
        bail!("stream {name} holds nothing");
    };
    let there = format!(
        "from {} to {}",
        payload::time(oldest),
        payload::time(newest)
    );
    let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let first = first_since(stream, nanoseconds(args.from)).await?;
    let last = match args.to {
        Some(to) => first_since(stream, nanoseconds(to))
            .await?
            .saturating_sub(1),
        None => held.last,
    };
    let range = SequenceRange {
        first,
        last: last.min(held.last),
    };
    if range.is_empty() {
        bail!("stream {name} holds nothing of that time, only what was published {there}");
    }
    if nanoseconds(args.from) < oldest {
        print::note(&format!("stream {name} holds what was published {there}"));
    }
    Ok(range)
}

/// What is sent again is stored beside what it was.
fn check_room(stream: &Stream, range: SequenceRange) -> anyhow::Result<()> {
    let info = stream.cached_info();
    let (bytes, messages) = (info.state.bytes as f64, info.state.messages.max(1) as f64);
    let count = (range.last - range.first + 1) as f64;
    let needed = bytes + bytes / messages * count;
    let room = info.config.max_bytes as f64 * FULL;
    if info.config.max_bytes > 0 && needed > room {
        bail!(
            "stream {} has no room for it: it would be {:.0} % full; take a shorter time, or raise max_bytes",
            info.config.name,
            needed / info.config.max_bytes as f64 * 100.0
        );
    }
    Ok(())
}

async fn send(
    args: &Args,
    servers: &Servers,
    stream: &Stream,
    range: SequenceRange,
) -> anyhow::Result<Sent> {
    let name = &stream.cached_info().config.name;
    let progress = progress(range);
    let mut reader = RangeReader::open(stream, range).await?;
    let mut under_way = FuturesUnordered::new();
    let mut sent = Sent::default();
    let begun = Instant::now();
    while let Some(message) = reader.next().await? {
        progress.set_position(message.stream_sequence() - range.first + 1);
        if !args.is_meant(&message) {
            continue;
        }
        sent.messages += 1;
        if args.dry_run {
            continue;
        }
        args.keep_rate(begun, sent.messages).await;
        let publisher = servers.streams.publisher.clone();
        let again = again(&message, name);
        under_way.push(async move { publisher.publish(again).await });
        if under_way.len() >= IN_FLIGHT_MAX
            && let Some(ack) = under_way.next().await
        {
            sent.count(&ack.context("broken off; the same command goes on")?);
        }
    }
    while let Some(ack) = under_way.next().await {
        sent.count(&ack.context("broken off; the same command goes on")?);
    }
    progress.finish_and_clear();
    Ok(sent)
}

impl Args {
    fn is_meant(&self, message: &Delivery) -> bool {
        let covers = |subject: &String| covers(subject, message.subject());
        self.subject.as_ref().is_none_or(covers)
    }

    /// Waits until the message is due that is the `count`th since the beginning.
    async fn keep_rate(&self, begun: Instant, count: u64) {
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64((count - 1) as f64 / f64::from(rate));
            tokio::time::sleep_until(begun + due).await;
        }
    }
}

impl Sent {
    fn count(&mut self, ack: &ponix_nats::PubAck) {
        self.duplicates += u64::from(ack.duplicate);
        self.last = self.last.max(ack.sequence);
    }
}

/// The message once more: with its identity, and an id of its own for the stream, the same for
/// everybody who sends it again.
fn again(message: &Delivery, stream: &str) -> OutgoingMessage {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers().into_iter().flat_map(HeaderMap::iter) {
        // What the server makes of such a header was decided when it came first.
        if !name.to_string().starts_with("Nats-") {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    headers.insert(header::MESSAGE_ID, message.identity().to_string().as_str());
    OutgoingMessage {
        subject: message.subject().to_owned(),
        id: Some(message.place(stream)),
        headers,
        payload: message.payload().clone(),
    }
}

/// Waits until the pipeline's workers have settled all up to a sequence.
async fn settled(
    stream: &Stream,
    pipeline: &PipelineStreams,
    last: u64,
    wait: Duration,
) -> anyhow::Result<bool> {
    let deadline = Instant::now() + wait;
    loop {
        let info = stream.consumer_info(&pipeline.consumer).await;
        let info = info.with_context(|| format!("consumer {}", pipeline.consumer))?;
        let is_idle = info.num_pending == 0 && info.num_ack_pending == 0;
        if is_idle || info.ack_floor.stream_sequence >= last {
            return Ok(true);
        }
        if Instant::now() + LOOK_PERIOD > deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

fn progress(range: SequenceRange) -> ProgressBar {
    let progress = ProgressBar::new(range.last - range.first + 1);
    let template = "{wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    progress
}
