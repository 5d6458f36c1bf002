//! What every pipeline is made of: a stream, its dead letters, a consumer, a janitor, a watch on
//! the store.

use std::sync::Arc;
use std::time::Duration;

use ponix_nats::async_nats::jetstream::stream::Stream;
use ponix_nats::{
    BatchConsumer, BatchSettings, ConsumerSettings, DeadLetters, Janitor, StreamSettings,
};
use ponix_pipeline::{CrashIsolation, Decode, PipelineProcessor};
use ponix_runner::{Shutdown, Startup};
use ponix_sink::Sink;
use tokio::sync::watch;

use crate::activity::Activity;
use crate::nats::Nats;
use crate::readiness::Parts;
use crate::{janitor, store_health};

/// Name of the hidden subcommand whose processes read suspects, see [`CrashIsolation`].
pub(crate) const CRASH_ISOLATION: &str = "crash-isolation";

/// Where the messages of a pipeline come from, and how they are taken.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The pipeline's name, as it stands in logs, metrics and `/readyz`.
    pub(crate) name: String,
    pub(crate) stream: StreamSettings,
    pub(crate) dead_letters: StreamSettings,
    pub(crate) consumer: ConsumerSettings,
    pub(crate) batches: BatchSettings,
    /// Time for which settled messages stay in the stream.
    pub(crate) replay_window: Duration,
    pub(crate) janitor_interval: Duration,
}

/// The streams of a pipeline, once they are there.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) source: Stream,
    pub(crate) dead: Stream,
    /// Whether settled messages are ours to purge.
    pub(crate) purges: bool,
}

impl Source {
    /// Sets up the streams; also for a service that only publishes.
    ///
    /// # Errors
    /// NATS refuses one.
    pub(crate) async fn streams(&self, nats: &Nats) -> anyhow::Result<Streams> {
        Ok(Streams {
            source: nats.stream(&self.stream).await?,
            dead: nats.stream(&self.dead_letters).await?,
            purges: true,
        })
    }

    /// Returns what keeps this pipeline's dead letters.
    pub(crate) fn dead_letters(&self, nats: &Nats) -> DeadLetters {
        DeadLetters::new(nats.publisher.clone(), &self.dead_letters)
    }
}

/// Sets up the consumer of a pipeline and starts its processes.
///
/// # Errors
/// NATS refuses the consumer.
pub(crate) async fn start<D, S>(
    source: &Source,
    streams: &Streams,
    decoder: D,
    sink: S,
    startup: &Startup,
    nats: &Nats,
    parts: &mut Parts,
) -> anyhow::Result<()>
where
    D: Decode,
    S: Sink<Row = D::Row>,
{
    let source = &Source {
        batches: BatchSettings {
            room: Some(Arc::clone(&nats.room)),
            ..source.batches.clone()
        },
        ..source.clone()
    };
    let name = &source.name;
    let consumer = nats
        .consumer(&source.consumer, &streams.source, &source.stream)
        .await?;
    let isolation = CrashIsolation::new([CRASH_ISOLATION, name]);
    let consumer = BatchConsumer::new(
        nats.consuming.clone(),
        consumer,
        PipelineProcessor::new(decoder, sink, isolation, &source.batches),
        source.dead_letters(nats),
        source.batches.clone(),
        nats.metrics.consumer(name, &source.stream.name),
    );
    parts.consumers.push((name.clone(), consumer.state()));
    startup.app_process(format!("{name} consumer"), |shutdown: Shutdown| {
        consumer.run(shutdown.soft().clone())
    });
    let durable = &source.consumer.name;
    let activity = Activity::new(name, &source.stream.name, durable, &nats.metrics);
    startup.app_process(
        format!("{name} activity"),
        move |shutdown: Shutdown| async move {
            activity.tell(shutdown.soft().clone()).await;
            anyhow::Ok(())
        },
    );
    if !streams.purges {
        return Ok(());
    }
    let window = source.replay_window;
    let janitor = Janitor::new(streams.source.clone(), window, &nats.metrics);
    let (warnings, warned) = watch::channel(Vec::new());
    parts.warnings.push(warned);
    let interval = source.janitor_interval;
    startup.app_process(
        format!("{name} janitor"),
        move |shutdown: Shutdown| async move {
            janitor::run(janitor, interval, warnings, shutdown.soft().clone()).await;
            anyhow::Ok(())
        },
    );
    Ok(())
}

/// Starts the watch on a store.
pub(crate) fn watch_store<S: Sink>(
    store: &'static str,
    sink: S,
    startup: &Startup,
    parts: &mut Parts,
) {
    let (health, state) = watch::channel(Ok(()));
    parts.stores.push((store, state));
    startup.app_process(
        format!("{store} health"),
        move |shutdown: Shutdown| async move {
            let ping = || async { sink.ping().await.map_err(anyhow::Error::from_boxed) };
            store_health::watch(store, ping, health, shutdown.soft().clone()).await;
            anyhow::Ok(())
        },
    );
}
