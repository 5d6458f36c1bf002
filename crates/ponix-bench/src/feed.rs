//! `feed`: one event per line of a file of JSON objects.

mod line;

use std::path::Path;

use anyhow::{Context as _, Result};
use ponix_nats::envelope_message;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::cli::FeedArgs;
use crate::clock::now_ns;
use crate::progress::Progress;
use crate::publish::Pipeline;

use self::line::{LINE_BYTES_MAX, LineError, parse};

/// Refused lines are shown up to this many; the rest is counted.
const SHOWN_MAX: u64 = 100;

/// What became of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedOutcome {
    /// Events the stream has.
    pub(crate) published: u64,
    /// Lines that are no event.
    pub(crate) refused: u64,
}

/// Publishes every line of the file that is an event, and says which are not.
///
/// # Errors
/// The file or the server cannot be read, or there is no stream. Lines that are refused are no
/// error here.
pub(crate) async fn run(args: &FeedArgs) -> Result<FeedOutcome> {
    let (reader, bytes) = open(&args.file).await?;
    let mut pipeline = Pipeline::connect(&args.nats_url, args.in_flight as usize).await?;
    let mut feed = Feed {
        progress: Progress::new("bytes read", bytes),
        refused: 0,
    };
    feed.publish_lines(reader, &args.stream, &mut pipeline)
        .await?;
    pipeline.finish().await?;
    let Feed { progress, refused } = feed;
    if refused > SHOWN_MAX {
        progress.say(&format!("and {} more refused lines", refused - SHOWN_MAX));
    }
    progress.finish();
    Ok(FeedOutcome {
        published: pipeline.acked(),
        refused,
    })
}

/// The file and its length in bytes, 0 if it has none.
async fn open(path: &Path) -> Result<(Box<dyn AsyncBufRead + Send + Unpin>, u64)> {
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
    progress: Progress,
    refused: u64,
}

impl Feed {
    async fn publish_lines(
        &mut self,
        mut reader: impl AsyncBufRead + Send + Unpin,
        stream: &str,
        pipeline: &mut Pipeline,
    ) -> Result<()> {
        let mut bytes_read = 0;
        let mut line = Vec::new();
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
            let event = parse(text, now_ns())
                .and_then(|envelope| envelope_message(stream, envelope).map_err(LineError::Device));
            match event {
                Ok(message) => pipeline.send(message).await?,
                Err(error) => self.refuse(number, error),
            }
            self.progress.set(bytes_read);
        }
        Ok(())
    }

    fn refuse(&mut self, number: u64, error: LineError) {
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            let reason = anyhow::Error::new(error);
            self.progress.say(&format!("line {number}: {reason:#}"));
        }
    }
}

/// Reads a line, or the beginning of one that is too long; returns how many bytes it has in the
/// file.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Send + Unpin),
    line: &mut Vec<u8>,
) -> Result<u64> {
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
