//! How many dead letters there are for each reason.

use std::collections::BTreeMap;

use ponix_nats::{KeptLetter, RangeReader, held_range};

use crate::streams::{PipelineStreams, Streams};

/// Counts the newest dead letters of a pipeline, `most` of them, by their reasons.
///
/// # Errors
/// The server does not answer, or refuses.
///
/// # Cancel safety
/// Cancel safe: it only looks.
pub async fn reasons(
    pipeline: &PipelineStreams,
    streams: &Streams,
    most: u64,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    let Some(stream) = streams.stream(&pipeline.dead_letters).await? else {
        return Ok(counts);
    };
    let mut range = held_range(&stream).await?;
    range.first = range.first.max((range.last + 1).saturating_sub(most));
    if range.is_empty() {
        return Ok(counts);
    }
    let mut reader = RangeReader::open(&stream, range).await?;
    while let Some(message) = reader.next().await? {
        // What is no letter is a part of one.
        if let Some(letter) = KeptLetter::read(&pipeline.dead_letters, &message) {
            *counts.entry(letter.reason).or_default() += 1;
        }
    }
    Ok(counts)
}
