//! `ponix tail`: events as they come, decoded, a JSON object on each line.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use ponix_console::{payload, time_or_ago};
use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{FollowedMessage, Follower};
use ponix_pipeline::{
    Decode as _, DecodeError, Decoded, Headers, Message, RecordDecoder, Unpacked,
};
use ponix_wire::overlap;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::servers::Servers;
use crate::{End, print};

/// Events that wait to be printed.
const WAITING_MAX: usize = 1_024;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Of this pipeline; of every one without.
    #[arg(long, short)]
    pipeline: Option<String>,
    /// Published on this subject; `*` and `>` as in NATS.
    #[arg(long, short)]
    subject: Option<String>,
    /// Begin with what was published at this time, not with what comes from now on:
    /// 2026-03-01T00:00:00Z, or `2h` for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    since: Option<Timestamp>,
    /// End after so many events.
    #[arg(long)]
    count: Option<u64>,
}

/// A stream that is followed.
#[derive(Debug)]
struct Source {
    pipeline: String,
    stream: Stream,
    decoder: Option<RecordDecoder>,
}

/// Prints events until it is asked to end, or nobody reads.
pub(crate) async fn run(args: &Args, servers: &Servers) -> anyhow::Result<End> {
    let sources = sources(args, servers).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, mut events) = mpsc::channel(WAITING_MAX);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let since = args
        .since
        .map(|time| i64::try_from(time.as_nanosecond()).unwrap_or(0));
    for source in sources {
        let client = servers.streams.context.client();
        let filter = args.subject.as_deref().unwrap_or_default();
        let follower = Follower::open(&client, source.stream.clone(), filter, since).await?;
        tasks.spawn(follow(source, follower, sender.clone(), stop.clone()));
    }
    drop(sender);
    // Whoever waits for it to be there can begin to publish.
    print::note("following");
    let mut result = Ok(End::Done);
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        match event {
            Some(Ok(event)) if print::try_json(&event) => printed += 1,
            Some(Err(err)) => {
                result = Err(err);
                break;
            }
            _ => break,
        }
    }
    // What was made on the servers is removed, however this ends.
    stop.cancel();
    events.close();
    tasks.close();
    tasks.wait().await;
    result
}

async fn sources(args: &Args, servers: &Servers) -> anyhow::Result<Vec<Source>> {
    let pipelines = match &args.pipeline {
        Some(name) => vec![servers.pipeline(name)?],
        None => servers.streams.pipelines.iter().collect(),
    };
    let mut sources = Vec::new();
    for pipeline in pipelines {
        let Some(stream) = servers.stream(&pipeline.stream).await? else {
            if args.pipeline.is_some() {
                let (name, stream) = (&pipeline.name, &pipeline.stream);
                bail!("there is no stream {stream}: pipeline {name} never ran here");
            }
            continue;
        };
        let subjects = &stream.cached_info().config.subjects;
        let takes = |subject: &String| subjects.iter().any(|theirs| overlap(theirs, subject));
        if !args.subject.as_ref().is_none_or(takes) {
            continue;
        }
        sources.push(Source {
            pipeline: pipeline.name.clone(),
            decoder: servers.decoder(&pipeline.name)?,
            stream,
        });
    }
    if sources.is_empty() {
        let on = args
            .subject
            .as_ref()
            .map(|subject| format!(" on {subject}"));
        bail!(
            "no stream of a pipeline takes anything{}",
            on.unwrap_or_default()
        );
    }
    Ok(sources)
}

async fn follow(
    source: Source,
    mut follower: Follower,
    sender: mpsc::Sender<anyhow::Result<Value>>,
    stop: CancellationToken,
) {
    'following: loop {
        let next = tokio::select! {
            next = follower.next() => next,
            () = stop.cancelled() => break,
        };
        let (events, is_last) = match next {
            Ok(Some(message)) => (events(&source, &message), false),
            Ok(None) => break,
            Err(err) => (vec![Err(anyhow::Error::new(err))], true),
        };
        for event in events {
            if sender.send(event).await.is_err() {
                break 'following;
            }
        }
        if is_last {
            break;
        }
    }
    if let Err(err) = follower
        .close()
        .await
        .context("left behind for half a minute")
    {
        print::error(&format!("{err:#}"));
    }
}

/// The events of a message: itself, or those that are packed in it.
fn events(source: &Source, message: &FollowedMessage) -> Vec<anyhow::Result<Value>> {
    let mut object = json!({ "pipeline": source.pipeline, "subject": message.subject });
    if let Some(place) = message.place {
        object["sequence"] = place.sequence.into();
        object["published_at"] = payload::time(place.published_at_ns).into();
    }
    let Some(decoder) = &source.decoder else {
        object["event"] = payload::shown(&message.payload);
        return vec![Ok(object)];
    };
    let headers = OfMessage::new(message);
    let place = message.place;
    let whole = Message {
        payload: &message.payload,
        subject: &message.subject,
        headers: &headers,
        identity: place.map_or(Uuid::nil(), |place| place.identity),
        published_at_ns: place.map_or(0, |place| place.published_at_ns),
        stream_sequence: place.map_or(0, |place| place.sequence),
        deliveries: 1,
    };
    let unpacked = match Unpacked::new(whole, decoder.pack_format(), usize::MAX) {
        Ok(unpacked) => unpacked,
        Err(err) => return vec![Ok(dead(object, &err, &message.payload))],
    };
    let of_message = |(index, event): (Option<u32>, Message<'_>)| {
        let mut object = object.clone();
        if let Some(index) = index {
            object["index"] = index.into();
        }
        match decoder.decode(&event) {
            Ok(Decoded::Row { row, .. }) => object["event"] = row.fields.into(),
            Ok(Decoded::Dropped) => object["dropped"] = true.into(),
            Err(err) => object = dead(object, &err, event.payload),
        }
        Ok(object)
    };
    unpacked.events().map(of_message).collect()
}

fn dead(mut object: Value, err: &DecodeError, body: &[u8]) -> Value {
    object["dead_letter"] = json!({ "reason": err.reason.as_str(), "error": err.text });
    object["body"] = payload::shown(body);
    object
}

/// The headers of a message, as decoders read them.
#[derive(Debug)]
struct OfMessage(BTreeMap<String, String>);

impl OfMessage {
    fn new(message: &FollowedMessage) -> Self {
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        let headers = headers.filter_map(|(name, values)| {
            let value = values.first()?;
            Some((name.to_string(), value.as_str().to_owned()))
        });
        Self(headers.collect())
    }
}

impl Headers for OfMessage {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
