//! Which dead letters a command is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use jiff::Timestamp;
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{Delivery, KeptLetter, RangeReader, SequenceRange, first_since, held_range};
use ponix_wire::{covers, header};

use crate::End;
use crate::payload::envelope;
use crate::print;
use crate::servers::Servers;
use crate::time_or_ago;

/// Which dead letters; without any of these, all.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selection {
    /// Sequences in the stream of dead letters, as `ls` lists them.
    #[arg(value_name = "SEQ")]
    pub(crate) sequences: Vec<u64>,
    /// Of this pipeline.
    #[arg(long, short)]
    pub(crate) pipeline: Option<String>,
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
    since: Option<Timestamp>,
    /// Kept before this time.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    until: Option<Timestamp>,
}

/// Which dead letters, for what cannot be undone: all of them have to be asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Choice {
    #[command(flatten)]
    selection: Selection,
    /// Everything, where nothing says which ones.
    #[arg(long)]
    all: bool,
}

impl Choice {
    /// Returns which.
    ///
    /// # Errors
    /// Nothing says which ones, and not that it is all.
    pub(crate) fn selection(&self) -> anyhow::Result<&Selection> {
        if self.selection.is_all() && !self.all {
            bail!("say which: sequences, --reason and the like, or --all");
        }
        Ok(&self.selection)
    }
}

/// A dead letter with its whole body, and whose it is as far as that can be told.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) pipeline: String,
    pub(crate) dead_letters: Arc<Stream>,
    pub(crate) kept: KeptLetter,
    pub(crate) body: Bytes,
    pub(crate) organization: Option<String>,
    pub(crate) device: Option<String>,
}

impl Selection {
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
pub(crate) struct Letters {
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
    pub(crate) async fn find(selection: &Selection, servers: &Servers) -> anyhow::Result<Self> {
        let pipelines = match &selection.pipeline {
            Some(name) => vec![servers.pipeline(name)?],
            None => servers.pipelines.iter().collect(),
        };
        let mut places = Vec::new();
        for pipeline in pipelines {
            let name = &pipeline.dead_letters;
            let Some(stream) = servers.stream(name).await? else {
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

    /// Does something with each; tells of sequences that are none.
    ///
    /// # Errors
    /// The server does not answer, or what is done fails.
    pub(crate) async fn for_each(
        &self,
        mut each: impl AsyncFnMut(Letter) -> anyhow::Result<()>,
    ) -> anyhow::Result<End> {
        let mut missing: BTreeSet<u64> = self.selection.sequences.iter().copied().collect();
        for place in &self.places {
            let mut reader = RangeReader::open(&place.stream, place.range).await?;
            while let Some(message) = reader.next().await? {
                let Some(letter) = place.letter(&message).await? else {
                    continue;
                };
                if self.selection.matches(&letter) {
                    missing.remove(&letter.kept.sequence);
                    each(letter).await?;
                }
            }
        }
        if missing.is_empty() {
            return Ok(End::Done);
        }
        let missing: Vec<_> = missing.iter().map(u64::to_string).collect();
        print::error(&format!("no such dead letter: {}", missing.join(", ")));
        Ok(End::InPart)
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
