//! Which dead letters a command is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use jiff::Timestamp;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{Delivery, KeptLetter, RangeReader, SequenceRange, first_since, held_range};
use ponix_wire::{covers, header};
use serde::{Deserialize, Deserializer};

use crate::payload::envelope;
use crate::streams::Streams;
use crate::time::time_or_ago;

/// So many sequences are written one by one.
const SHOWN_MAX: usize = 20;

/// Which dead letters; without any of these, all.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Sequences in the stream of dead letters, as `ls` lists them.
    #[arg(value_name = "SEQ")]
    pub sequences: Vec<u64>,
    /// Of this pipeline.
    #[arg(long, short)]
    pub pipeline: Option<String>,
    /// With this reason, such as `value` or `rejected_by_store`.
    #[arg(long)]
    reason: Option<String>,
    /// With these words in the error's text.
    #[arg(long)]
    error: Option<String>,
    /// Published on this subject; `*` and `>` as in NATS.
    #[arg(long)]
    subject: Option<String>,
    /// Of this device.
    #[arg(long)]
    device: Option<String>,
    /// Of this organization.
    #[arg(long)]
    organization: Option<String>,
    /// Kept at this time or later: 2026-03-01T00:00:00Z, or `2h` for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    #[serde(deserialize_with = "written_time")]
    since: Option<Timestamp>,
    /// Kept before this time.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    #[serde(deserialize_with = "written_time")]
    until: Option<Timestamp>,
}

/// Which dead letters, for what cannot be undone: all of them have to be asked for.
#[derive(Debug, Clone, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// By what they are chosen.
    #[command(flatten)]
    selection: Selection,
    /// Everything, where nothing says which ones.
    #[arg(long)]
    #[serde(default)]
    all: bool,
}

fn written_time<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(value)?;
    let time = text.map(|text| time_or_ago(&text)).transpose();
    time.map_err(serde::de::Error::custom)
}

impl Choice {
    /// Returns which.
    ///
    /// # Errors
    /// Nothing says which ones, and not that it is all.
    pub fn selection(&self) -> anyhow::Result<&Selection> {
        if self.selection.is_all() && !self.all {
            bail!("say which: sequences, --reason and the like, or --all");
        }
        Ok(&self.selection)
    }
}

/// A dead letter with its whole body, and whose it is as far as that can be told.
#[derive(Debug)]
pub struct Letter {
    /// The pipeline that gave it up.
    pub pipeline: String,
    /// The stream that keeps it.
    pub dead_letters: Arc<Stream>,
    /// What stands in its headers.
    pub kept: KeptLetter,
    /// Its payload, both parts where it was kept in two.
    pub body: Bytes,
    /// Its organization, by header or envelope.
    pub organization: Option<String>,
    /// Its device, by the envelope.
    pub device: Option<String>,
}

impl Selection {
    /// Writes it for the log: what it asks for, sequences as a count where they are many.
    pub fn shown(&self) -> String {
        let mut parts = Vec::new();
        match &self.sequences[..] {
            [] => {}
            some @ [.., _] if some.len() <= SHOWN_MAX => {
                let some: Vec<_> = some.iter().map(ToString::to_string).collect();
                parts.push(format!("sequences {}", some.join(" ")));
            }
            many => parts.push(format!("{} sequences", many.len())),
        }
        let words = [
            ("pipeline", &self.pipeline),
            ("reason", &self.reason),
            ("error", &self.error),
            ("subject", &self.subject),
            ("device", &self.device),
            ("organization", &self.organization),
        ];
        let words = words.into_iter();
        parts.extend(words.filter_map(|(name, word)| Some(format!("{name} {:?}", word.as_ref()?))));
        parts.extend(self.since.map(|time| format!("since {time}")));
        parts.extend(self.until.map(|time| format!("until {time}")));
        if parts.is_empty() {
            return "all".to_owned();
        }
        parts.join(", ")
    }

    /// Tells whether it is everything.
    fn is_all(&self) -> bool {
        let words = [
            &self.reason,
            &self.error,
            &self.subject,
            &self.device,
            &self.organization,
        ];
        self.sequences.is_empty()
            && words.iter().all(|word| word.is_none())
            && self.since.is_none()
            && self.until.is_none()
    }

    fn matches(&self, letter: &Letter) -> bool {
        let kept = &letter.kept;
        let equal = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let nanoseconds = i128::from(kept.kept_at_ns);
        (self.sequences.is_empty() || self.sequences.contains(&kept.sequence))
            && equal(&self.reason, Some(&kept.reason))
            && equal(&self.device, letter.device.as_deref())
            && equal(&self.organization, letter.organization.as_deref())
            && self.error.iter().all(|words| kept.error.contains(words))
            && self
                .subject
                .iter()
                .all(|subject| covers(subject, &kept.subject))
            && self
                .since
                .is_none_or(|time| nanoseconds >= time.as_nanosecond())
            && self
                .until
                .is_none_or(|time| nanoseconds < time.as_nanosecond())
    }
}

/// The dead letters of a selection: stream by stream, each in its order.
#[derive(Debug)]
pub struct Letters {
    selection: Selection,
    places: Vec<Place>,
}

/// The part of a stream of dead letters that is looked at.
#[derive(Debug)]
struct Place {
    pipeline: String,
    stream: Arc<Stream>,
    range: SequenceRange,
}

impl Letters {
    /// Looks where there are any; what is kept from now on does not count.
    ///
    /// # Errors
    /// There is no such pipeline, sequences without a pipeline where several have dead letters, or
    /// the server does not answer.
    pub async fn find(selection: &Selection, streams: &Streams) -> anyhow::Result<Self> {
        let pipelines = match &selection.pipeline {
            Some(name) => vec![streams.pipeline(name)?],
            None => streams.pipelines.iter().collect(),
        };
        let mut places = Vec::new();
        for pipeline in pipelines {
            let name = &pipeline.dead_letters;
            let Some(stream) = streams.stream(name).await? else {
                if selection.pipeline.is_some() {
                    bail!(
                        "there is no stream {name}: pipeline {} never ran here",
                        pipeline.name
                    );
                }
                continue;
            };
            let mut range = held_range(&stream).await?;
            if let Some(since) = selection.since {
                let since = i64::try_from(since.as_nanosecond()).unwrap_or(i64::MAX);
                range.first = range.first.max(first_since(&stream, since).await?);
            }
            let sequences = &selection.sequences;
            if let (Some(first), Some(last)) = (sequences.iter().min(), sequences.iter().max()) {
                range.first = range.first.max(*first);
                range.last = range.last.min(*last);
            }
            if !range.is_empty() {
                places.push(Place {
                    pipeline: pipeline.name.clone(),
                    stream: Arc::new(stream),
                    range,
                });
            }
        }
        if !selection.sequences.is_empty() && places.len() > 1 {
            let names: Vec<_> = places.iter().map(|place| &place.pipeline[..]).collect();
            bail!(
                "several pipelines have such dead letters ({}): say of which with --pipeline",
                names.join(", ")
            );
        }
        Ok(Self {
            selection: selection.clone(),
            places,
        })
    }

    /// Leaves out all but the newest of each pipeline; `count` is at least 1.
    pub fn newest(&mut self, count: u64) {
        for place in &mut self.places {
            let first = place.range.last.saturating_sub(count - 1);
            place.range.first = place.range.first.max(first);
        }
    }

    /// Reads them one by one.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            selection: &self.selection,
            places: &self.places,
            open: None,
            missing: self.selection.sequences.iter().copied().collect(),
        }
    }

    /// Does something with each, and returns the sequences of the selection that are none.
    ///
    /// # Errors
    /// The server does not answer, or what is done fails.
    pub async fn for_each(
        &self,
        mut each: impl AsyncFnMut(Letter) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<u64>> {
        let mut reading = self.reading();
        while let Some(letter) = reading.next().await? {
            each(letter).await?;
        }
        Ok(reading.missing())
    }
}

/// Reads the dead letters of a selection one by one.
#[derive(Debug)]
pub struct Reading<'a> {
    selection: &'a Selection,
    places: &'a [Place],
    open: Option<(&'a Place, RangeReader<'a>)>,
    missing: BTreeSet<u64>,
}

impl Reading<'_> {
    /// Returns the next one; `None` at the end.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn next(&mut self) -> anyhow::Result<Option<Letter>> {
        loop {
            let Some((place, reader)) = &mut self.open else {
                let Some((place, rest)) = self.places.split_first() else {
                    return Ok(None);
                };
                self.places = rest;
                let reader = RangeReader::open(&place.stream, place.range).await?;
                self.open = Some((place, reader));
                continue;
            };
            let Some(message) = reader.next().await? else {
                self.open = None;
                continue;
            };
            let letter = place.letter(&message).await?;
            if let Some(letter) = letter.filter(|letter| self.selection.matches(letter)) {
                self.missing.remove(&letter.kept.sequence);
                return Ok(Some(letter));
            }
        }
    }

    /// Returns the sequences of the selection that are none, once all are read.
    pub fn missing(self) -> Vec<u64> {
        self.missing.into_iter().collect()
    }
}

impl Place {
    async fn letter(&self, message: &Delivery) -> anyhow::Result<Option<Letter>> {
        let name = &self.stream.cached_info().config.name;
        let Some(kept) = KeptLetter::read(name, message) else {
            return Ok(None);
        };
        let body = kept.body(&self.stream).await.with_context(|| {
            let pipeline = &self.pipeline;
            format!("dead letter {} of pipeline {pipeline}", kept.sequence)
        })?;
        let (organization, device) = whose(&kept, &body);
        Ok(Some(Letter {
            pipeline: self.pipeline.clone(),
            dead_letters: Arc::clone(&self.stream),
            kept,
            body,
            organization,
            device,
        }))
    }
}

/// Whose a message is: by its headers, and by its body where that is an envelope.
fn whose(kept: &KeptLetter, body: &[u8]) -> (Option<String>, Option<String>) {
    let of_header = kept.headers.get(header::ORGANIZATION);
    let of_header = of_header.map(|value| value.as_str().to_owned());
    let envelope = envelope(body);
    let organization = envelope.as_ref().map(|one| one.organization_id.clone());
    let device = envelope.map(|one| one.end_device_id);
    (of_header.or(organization), device)
}
