//! `ponix publish`: one event per line of a file of JSON objects.

mod line;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use jiff::Timestamp;
use ponix_nats::{
    OutgoingMessage, Pack, PublishError, PublishErrorClass, Publisher, envelope_message,
    mixed_subject, pack,
};
use ponix_wire::PackFormat;
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use self::line::{LINE_BYTES_MAX, LineError, parse};
use crate::servers::{IN_FLIGHT_MAX, Servers};
use crate::{End, print};

/// Refused lines are shown up to this many; the rest is counted.
const SHOWN_MAX: u64 = 100;
/// The pipeline of events.
const EVENTS: &str = "envelopes";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// Put so many events into one message at most. Every worker on the stream must read packed messages.
    #[arg(long, value_name = "EVENTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pack: u32,
}

/// Publishes every line that is an event, and says which are not.
pub(crate) async fn run(args: &Args, servers: &Servers, json: bool) -> anyhow::Result<End> {
    let (reader, bytes) = open(&args.file).await?;
    let name = &servers.pipeline(EVENTS)?.stream;
    if servers.stream(name).await?.is_none() {
        bail!("there is no stream {name}: start ponix-all-in-one first, it makes the stream");
    }
    let progress = ProgressBar::new(bytes);
    let mut feed = Feed {
        publisher: servers.streams.publisher.clone(),
        progress,
        published: 0,
        refused: 0,
        timeout: servers.timeout,
        events_max: args.pack as usize,
    };
    feed.publish_lines(reader, name).await?;
    let Feed {
        progress,
        published,
        refused,
        ..
    } = feed;
    progress.finish_and_clear();
    if refused > SHOWN_MAX {
        print::note(&format!("and {} more refused lines", refused - SHOWN_MAX));
    }
    if json {
        print::json(&json!({ "published": published, "refused": refused }));
    } else {
        print::line(&format!(
            "{published} events published, {refused} lines refused"
        ));
    }
    Ok(if refused == 0 { End::Done } else { End::InPart })
}

/// The file and its length in bytes, 0 if it has none.
async fn open(path: &Path) -> anyhow::Result<(Box<dyn AsyncBufRead + Send + Unpin>, u64)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(tokio::io::stdin())), 0));
    }
    let named = || path.display().to_string();
    let file = File::open(path).await.with_context(named)?;
    let bytes = file.metadata().await.with_context(named)?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bytes))
}

#[derive(Debug)]
struct Feed {
    publisher: Publisher,
    progress: ProgressBar,
    published: u64,
    refused: u64,
    timeout: Duration,
    /// Events in a message at most.
    events_max: usize,
}

impl Feed {
    async fn publish_lines(
        &mut self,
        mut reader: impl AsyncBufRead + Send + Unpin,
        stream: &str,
    ) -> anyhow::Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut bytes_read = 0;
        let mut line = Vec::new();
        let (mut waiting, mut numbers) = (Vec::new(), Vec::new());
        for number in 1_u64.. {
            line.clear();
            let bytes = read_line(&mut reader, &mut line).await?;
            if bytes == 0 {
                break;
            }
            bytes_read += bytes;
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let now_ns = i64::try_from(Timestamp::now().as_nanosecond())?;
            let event = parse(text, now_ns)
                .and_then(|envelope| envelope_message(stream, envelope).map_err(LineError::Device));
            match event {
                Ok(message) => {
                    waiting.push(message);
                    numbers.push(number);
                }
                Err(error) => self.refuse(number, error),
            }
            if waiting.len() >= self.events_max {
                let (events, numbers) =
                    (std::mem::take(&mut waiting), std::mem::take(&mut numbers));
                for (message, lines) in self.packed(events, &numbers, stream) {
                    let publisher = self.publisher.clone();
                    under_way.push(publish(publisher, message, lines, self.timeout));
                }
            }
            while under_way.len() >= IN_FLIGHT_MAX
                && let Some(result) = under_way.next().await
            {
                self.count(result)?;
            }
            self.progress.set_position(bytes_read);
        }
        for (message, lines) in self.packed(waiting, &numbers, stream) {
            let publisher = self.publisher.clone();
            under_way.push(publish(publisher, message, lines, self.timeout));
        }
        while let Some(result) = under_way.next().await {
            self.count(result)?;
        }
        Ok(())
    }

    /// Packs events, each of a line with its number; returns messages with the numbers of their lines.
    fn packed(
        &self,
        events: Vec<OutgoingMessage>,
        numbers: &[u64],
        stream: &str,
    ) -> Vec<(OutgoingMessage, Vec<u64>)> {
        if self.events_max == 1 {
            let numbers = numbers.iter().map(|number| vec![*number]);
            return events.into_iter().zip(numbers).collect();
        }
        let limits = self.publisher.pack_limits(self.events_max);
        let mixed = mixed_subject(stream);
        let packs = pack(PackFormat::Envelopes, events, &mixed, limits).into_iter();
        packs
            .map(|Pack { message, events }| {
                let numbers = events.into_iter().map(|event| numbers[event]).collect();
                (message, numbers)
            })
            .collect()
    }

    fn count(
        &mut self,
        (numbers, published): (Vec<u64>, Result<(), PublishError>),
    ) -> anyhow::Result<()> {
        let error = match published {
            Ok(()) => {
                self.published += numbers.len() as u64;
                return Ok(());
            }
            Err(PublishError::TooLarge { bytes }) => {
                for number in numbers {
                    self.refuse(number, PublishError::TooLarge { bytes });
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let before = format!("{} events were published before", self.published);
        let what = if error.is_store_refusal() {
            "the stream is full: nothing reads it fast enough (`ponix status`), or it needs more bytes (PONIX_NATS_STREAM_BYTES_MAX)"
        } else {
            "an event was not stored in time (--timeout)"
        };
        Err(error).context(format!("{what}; {before}"))
    }

    fn refuse(&mut self, number: u64, error: impl std::error::Error + Send + Sync + 'static) {
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            let reason = anyhow::Error::new(error);
            self.progress
                .suspend(|| print::note(&format!("line {number}: {reason:#}")));
        }
    }
}

/// Publishes the message of some lines until the PubAck is there, or for so long; the id keeps a second try
/// from storing it twice.
async fn publish(
    publisher: Publisher,
    message: OutgoingMessage,
    lines: Vec<u64>,
    timeout: Duration,
) -> (Vec<u64>, Result<(), PublishError>) {
    let Err(error) = publisher.publish(message.clone()).await else {
        return (lines, Ok(()));
    };
    if error.class() == PublishErrorClass::Rejected {
        return (lines, Err(error));
    }
    let for_ever = CancellationToken::new();
    let again = publisher.publish_until_acked(&message, &for_ever);
    let published = match tokio::time::timeout(timeout, again).await {
        Ok(published) => published.map(|_| ()),
        Err(_) => Err(error),
    };
    (lines, published)
}

/// Reads a line, or the beginning of one that is too long; returns how many bytes it has in the
/// file.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Send + Unpin),
    line: &mut Vec<u8>,
) -> anyhow::Result<u64> {
    let limit = LINE_BYTES_MAX as u64 + 2;
    let mut bytes = reader.take(limit).read_until(b'\n', line).await? as u64;
    // What is left of it is read over without being kept.
    while bytes >= limit && !line.ends_with(b"\n") {
        let rest = reader.fill_buf().await?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(rest.len(), |end| end + 1);
        if length == 0 {
            break;
        }
        reader.consume(length);
        bytes += length as u64;
        if end.is_some() {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, read_line};

    #[tokio::test]
    async fn lines_that_are_too_long_do_not_shift_the_others() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let file = format!("first\n{long}\nthird\r\n{long}");
        let mut reader = tokio::io::BufReader::with_capacity(1000, file.as_bytes());
        let mut lengths = Vec::new();
        loop {
            let mut line = Vec::new();
            let bytes = read_line(&mut reader, &mut line).await.unwrap();
            if bytes == 0 {
                break;
            }
            lengths.push((bytes as usize, line.len().min(LINE_BYTES_MAX + 1)));
        }
        let too_long = LINE_BYTES_MAX + 1;
        let expected = [
            (6, 6),
            (long.len() + 1, too_long),
            (7, 7),
            (long.len(), too_long),
        ];
        assert_eq!(lengths, expected);
    }
}
