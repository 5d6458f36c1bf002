//! History into another table.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ponix_all_in_one::IntoTable;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    Batch, DeadLetter, Delivery, Disposition, ProcessError, RangeReader, SequenceRange,
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Args;
use crate::servers::Servers;
use crate::{End, print};

/// Time between two tries of what the store did not take.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// So many of the refused are told one by one.
const FIRST_MAX: usize = 10;

/// What became of events.
#[derive(Debug, Default)]
struct Tally {
    taken: u64,
    refused: BTreeMap<&'static str, u64>,
    /// The first of the refused, and why.
    first: Vec<String>,
}

/// The target, and how long it may take nothing.
struct Target {
    table: IntoTable,
    name: String,
    wait: Duration,
}

pub(super) async fn run(
    args: &Args,
    table: &str,
    servers: &Servers,
    stream: &Stream,
    range: SequenceRange,
    json: bool,
) -> anyhow::Result<End> {
    let limits = servers.limits(&args.pipeline);
    let limits = limits.context("the pipeline has no document")?;
    let target = Target {
        table: IntoTable::open(&servers.deployment, &args.pipeline, table).await?,
        name: table.to_owned(),
        wait: args.wait,
    };
    let progress = super::progress(range);
    let mut reader = RangeReader::open(stream, range).await?;
    let (mut read, mut tally, begun) = (0, Tally::default(), Instant::now());
    let mut under_way = FuturesUnordered::new();
    let mut ended = false;
    while !ended {
        let (mut messages, mut events, mut bytes) = (Vec::new(), 0, 0);
        while events < limits.batch_messages && bytes < limits.batch_bytes {
            let Some(message) = reader.next().await? else {
                ended = true;
                break;
            };
            progress.set_position(message.stream_sequence() - range.first + 1);
            if args.is_meant(&message) {
                read += 1;
                args.keep_rate(begun, read).await;
                events += message.events();
                bytes += message.payload().len();
                messages.push(message);
            }
        }
        if !messages.is_empty() {
            under_way.push(target.store(&args.pipeline, stream, messages));
        }
        while under_way.len() >= limits.in_flight || (ended && !under_way.is_empty()) {
            if let Some(stored) = under_way.next().await {
                tally.add(stored?);
            }
        }
    }
    progress.finish_and_clear();
    let refused: u64 = tally.refused.values().sum();
    if json {
        print::json(&json!({
            "into": table, "read": read, "taken": tally.taken, "refused": tally.refused,
        }));
    } else {
        let reasons = tally.refused.iter();
        let reasons: Vec<_> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let refused = match refused {
            0 => String::new(),
            count => format!(", {count} events refused: {}", reasons.join(", ")),
        };
        print::line(&format!(
            "{read} messages read again, {} events into {table}{refused}",
            tally.taken
        ));
    }
    Ok(if refused == 0 { End::Done } else { End::InPart })
}

impl Target {
    /// Stores messages, trying again what the store does not take.
    async fn store(
        &self,
        pipeline: &str,
        stream: &Stream,
        messages: Vec<Delivery>,
    ) -> anyhow::Result<Tally> {
        let name = &stream.cached_info().config.name;
        let (give_up, deadline) = (CancellationToken::new(), Instant::now() + self.wait);
        let mut tally = Tally::default();
        let mut batch = Batch::new(name.clone(), messages);
        loop {
            let (rest, why) = match self.table.process(&batch, &give_up).await {
                Ok(result) => {
                    let settled = batch.messages().iter().zip(result.dispositions());
                    let open = settled.filter(|(message, end)| !tally.settle(message, end));
                    let rest = open.map(|(message, _)| message.clone()).collect::<Vec<_>>();
                    (rest, "what was written is to be tried again".to_owned())
                }
                Err(ProcessError::StoreUnusable {
                    stored,
                    waiting_helps,
                    source,
                }) => {
                    if !waiting_helps {
                        bail!("{} takes nothing: {source}", self.name);
                    }
                    let mut rest = Vec::new();
                    for (position, message) in batch.messages().iter().enumerate() {
                        if stored.contains(&position) {
                            tally.taken += message.events() as u64;
                        } else {
                            rest.push(message.clone());
                        }
                    }
                    (rest, source.to_string())
                }
                Err(err) => {
                    return Err(err).with_context(|| format!("pipeline {pipeline}"));
                }
            };
            if rest.is_empty() {
                return Ok(tally);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} takes nothing: {why}; the same command begins again, and what is there stays once",
                    self.name
                );
            }
            tokio::time::sleep(RETRY_PERIOD).await;
            batch = Batch::new(name.clone(), rest);
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.taken += other.taken;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        for text in other.first {
            if self.first.len() < FIRST_MAX {
                print::note(&text);
                self.first.push(text);
            }
        }
    }

    /// Notes what became of a message; false when it has to be tried again.
    fn settle(&mut self, message: &Delivery, end: &Disposition) -> bool {
        match end {
            Disposition::Ack => self.taken += message.events() as u64,
            Disposition::DeadLetter(letter) => self.refuse(message, letter),
            Disposition::DeadEvents { events, .. } => {
                self.taken += message.events().saturating_sub(events.len()) as u64;
                for event in events {
                    self.refuse(message, &event.dead_letter);
                }
            }
            _ => return false,
        }
        true
    }

    fn refuse(&mut self, message: &Delivery, letter: &DeadLetter) {
        let reason = letter.reason.as_str();
        if self.first.len() < FIRST_MAX {
            let (sequence, error) = (message.stream_sequence(), &letter.error);
            self.first
                .push(format!("message {sequence}: {reason}: {error}"));
        }
        *self.refused.entry(reason).or_default() += 1;
    }
}
