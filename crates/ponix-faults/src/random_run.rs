//! The randomised run: workers and publishers at work while faults are injected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::{join, join_all, try_join, try_join_all};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::event::{Event, Poison};
use crate::history::check_history;
use crate::injector::{FaultCounts, FaultInjector};
use crate::oracle::Judgement;
use crate::pipeline::Pipeline;
use crate::schedule::{Target, schedule};
use crate::world::World;

/// Publishers, each with a connection of its own, the part of the rate that is theirs, and how many events
/// they pack into a message at most.
const PUBLISHERS: [(Pipeline, u64, Option<usize>); 7] = [
    (Pipeline::Envelopes, 4, None),
    (Pipeline::Envelopes, 4, None),
    (Pipeline::Envelopes, 2, Some(40)),
    (Pipeline::Messages, 8, None),
    (Pipeline::Messages, 8, Some(5)),
    (Pipeline::Readings, 4, None),
    (Pipeline::Readings, 4, Some(20)),
];
/// Events are published in chunks, so many a second.
const CHUNKS_PER_SECOND: u64 = 10;
/// While a table is at fault, events come so many at a time, further apart than the longest linger.
const TRICKLE_EVENTS_MAX: u64 = 3;
const TRICKLE_PERIOD: Duration = Duration::from_millis(600);
/// Time between two lines that tell how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);
/// Time in which the last PubAcks must come once everything is healed.
const PUBLISH_TIMEOUT: Duration = Duration::from_mins(1);
/// Time in which everything must be settled once no more faults are injected.
const QUIET_TIMEOUT: Duration = Duration::from_mins(3);

/// What a run is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// How long faults are injected.
    pub length: Duration,
    /// Decides the schedule of faults.
    pub seed: u64,
    /// Workers on the one consumer.
    pub workers: usize,
    /// Three NATS servers that replicate, instead of one.
    pub cluster: bool,
    /// Envelopes a second, as far as the servers let the publishers; half as many readings, and a
    /// quarter as many raw messages.
    pub rate: u64,
}

/// What a run has found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    /// What decided the schedule.
    pub seed: u64,
    /// How long faults were injected, in seconds.
    pub seconds: u64,
    /// Workers on the one consumer.
    pub workers: usize,
    /// Whether there were three NATS servers.
    pub cluster: bool,
    /// Faults injected, by target and name.
    pub faults: FaultCounts,
    /// How often a worker ended by itself and was started again.
    pub worker_exits: u64,
    /// Time from the last fault until everything was settled, in milliseconds.
    pub quiet_after_ms: u64,
    /// What the oracle says of each pipeline.
    pub judgements: BTreeMap<&'static str, Judgement>,
    /// Whether oracle and reconciler found nothing wrong.
    pub sound: bool,
    /// What the reconciler, a merge or the judge of the history brought to light that the oracle did not; empty when sound.
    pub disagreement: String,
}

impl RunOptions {
    /// What faults are injected into.
    pub fn targets(&self) -> Vec<Target> {
        Target::all(self.workers, self.cluster)
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<36} {:>10}", "seed", self.seed)?;
        writeln!(f, "{:<36} {:>10}", "seconds", self.seconds)?;
        writeln!(f, "{:<36} {:>10}", "workers", self.workers)?;
        for (name, count) in &self.faults {
            writeln!(f, "{name:<36} {count:>10}")?;
        }
        for (name, count) in [
            ("faults injected", self.faults.values().sum()),
            ("workers that ended by themselves", self.worker_exits),
            ("quiet after, ms", self.quiet_after_ms),
        ] {
            writeln!(f, "{name:<36} {count:>10}")?;
        }
        for (pipeline, judgement) in &self.judgements {
            writeln!(f, "{pipeline}")?;
            tell(f, judgement)?;
        }
        if !self.disagreement.is_empty() {
            writeln!(f, "{}", self.disagreement)?;
        }
        let result = if self.sound { "sound" } else { "NOT SOUND" };
        write!(f, "{:<36} {result:>10}", "result")
    }
}

fn tell(f: &mut fmt::Formatter<'_>, judgement: &Judgement) -> fmt::Result {
    for (name, count) in [
        ("events attempted", judgement.attempted),
        ("events acknowledged by PubAck", judgement.acknowledged),
        ("poison among them", judgement.poison),
        ("readable events", judgement.readable),
        ("dead letters", judgement.dead),
        ("physical duplicates", judgement.physical_duplicates),
        ("violations", judgement.violations),
    ] {
        writeln!(f, "  {name:<34} {count:>10}")?;
    }
    for example in &judgement.examples {
        writeln!(f, "    {example}")?;
    }
    Ok(())
}

/// Injects faults into a world for a while, heals it, waits for quiet and judges. `say` gets a line now and
/// then; `history` is the file for what was published and found.
///
/// # Errors
/// A server does not start or come back, or the world does not come to rest; what the oracle finds
/// is in the report.
pub async fn random_run(
    options: RunOptions,
    history: &Path,
    say: impl Fn(&str) + Send + Sync,
) -> Result<RunReport> {
    let builder = World::builder();
    let builder = if options.cluster {
        builder.cluster()
    } else {
        builder.nats_proxy()
    };
    let world = builder
        .all_pipelines()
        .clickhouse_proxy()
        .postgres_proxy()
        .view()
        // Short, so that the janitor purges under the workers; the tables keep what it purges.
        .env("PONIX_NATS_REPLAY_WINDOW_SECS", 5)
        .env("PONIX_MESSAGES_HISTORY_SECS", 5)
        .env("PONIX_NATS_JANITOR_INTERVAL_SECS", 1)
        .env("PONIX_STARTUP_TIMEOUT_SECS", 20)
        .env("PONIX_NATS_BATCH_SIZE", 500)
        .env("PONIX_NATS_BATCH_WAIT_SECS", 0.5)
        .env("PONIX_NATS_ACK_WAIT_SECS", 5)
        .start()
        .await?;
    let workers = (0..options.workers).map(|_| world.start_worker(""));
    let workers = try_join_all(workers).await?;
    world.refuse_some_rows().await?;
    say("servers and workers are up");

    let injector = FaultInjector::new(&world, &workers);
    let (over, healed) = (CancellationToken::new(), CancellationToken::new());
    let publishers = PUBLISHERS
        .iter()
        .zip(0..)
        .map(|((pipeline, share, packed), number)| {
            let of = (*pipeline, options.rate / share, *packed);
            publish(&injector, of, number, &over, &healed)
        });
    let keepers = (0..workers.len()).map(|number| injector.keep_alive(number, &healed));
    let work = async {
        let schedules = options.targets().into_iter().map(|target| {
            let steps = schedule(options.seed, target, options.length);
            injector.carry_out(target, steps, options.length)
        });
        let whole = async {
            sleep(options.length).await;
            Ok(())
        };
        // What does not come back ends the run at once.
        let broken = try_join(try_join_all(schedules), whole).await;
        over.cancel();
        let end = Instant::now();
        // Also when something did not come back: the others have to end.
        healed.cancel();
        say("everything is healed, waiting for quiet");
        broken.map(|_| end)
    };
    let progress = tell_progress(&world, &injector, &over, &say);
    let (((end, published), exits), ()) = join(
        join(join(work, try_join_all(publishers)), join_all(keepers)),
        progress,
    )
    .await;
    let (end, _) = (end?, published?);
    revive_workers(&workers).await;
    wait_for_quiet(&world, &workers, &say).await?;
    let quiet_after_ms = end.elapsed().as_millis() as u64;
    say("quiet, judging");
    let judgements = world.judge_all().await?;
    say("asking the reconciler, merging and judging again");
    let confirmed = world.confirm().await;
    world.write_history(history).await?;
    let checked = check_history(history);
    match &checked {
        Ok(Some(told)) => say(&format!("the judge of the history says: {told}")),
        Ok(None) => say("there is no python3, so the history is not judged"),
        Err(_) => {}
    }
    let disagreement = confirmed.and(checked.map(drop)).err();
    Ok(RunReport {
        seed: options.seed,
        seconds: options.length.as_secs(),
        workers: options.workers,
        cluster: options.cluster,
        faults: injector.counts(),
        worker_exits: exits.into_iter().sum(),
        quiet_after_ms,
        sound: judgements.values().all(Judgement::is_sound) && disagreement.is_none(),
        disagreement: disagreement.map_or_else(String::new, |err| format!("{err:#}")),
        judgements: (judgements
            .into_iter()
            .map(|(of, judgement)| (of.name(), judgement)))
        .collect(),
    })
}

/// Publishes until it is over, then waits for the PubAcks that are missing.
async fn publish(
    injector: &FaultInjector<'_>,
    (pipeline, rate, packed): (Pipeline, u64, Option<usize>),
    number: u64,
    over: &CancellationToken,
    healed: &CancellationToken,
) -> Result<()> {
    let publishing = injector.world().another_publishing().await?;
    let publishers = PUBLISHERS.iter().filter(|(of, ..)| *of == pipeline).count() as u64;
    let chunk = (rate / CHUNKS_PER_SECOND).max(1);
    let mut ticks = interval(Duration::from_millis(1_000 / CHUNKS_PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let next = AtomicU64::new(number * 1_000_000_000);
    let give_up = CancellationToken::new();
    let work = async {
        while !over.is_cancelled() {
            ticks.tick().await;
            let mut chunk = chunk;
            if injector.is_trickling(pipeline) {
                sleep(TRICKLE_PERIOD).await;
                let next = next.load(Ordering::Relaxed);
                chunk = 1 + next % (TRICKLE_EVENTS_MAX / publishers);
            }
            let from = next.fetch_add(chunk, Ordering::Relaxed);
            let events = (from..from + chunk).flat_map(|n| events(pipeline, n));
            match packed {
                None => publishing.publish_until(events, &give_up).await?,
                Some(most) => publishing.publish_packed(events, most, &give_up).await?,
            }
        }
        anyhow::Ok(())
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = async { healed.cancelled().await; sleep(PUBLISH_TIMEOUT).await } => give_up.cancel(),
    }
    work.await
}

/// The events of a number: mostly one, sometimes two with one id.
fn events(pipeline: Pipeline, n: u64) -> Vec<Event> {
    match n % 3_000 {
        600 | 1_600 | 2_600 => Event::pair(pipeline, n, false).into(),
        2_800 => Event::pair(pipeline, n, true).into(),
        _ => vec![event(pipeline, n)],
    }
}

/// The kind of an event follows from its number.
fn event(pipeline: Pipeline, n: u64) -> Event {
    let poison = match n % 3_000 {
        // Few, as a batch that is refused by more than its share of rows is held for a human.
        1_500 => Poison::RefusedByStore,
        50 | 1_050 | 2_050 => Poison::Undecodable,
        150 | 1_150 => Poison::MissingField,
        250 | 1_250 => Poison::NotANumber,
        350 | 1_350 => Poison::OutOfRange,
        k => {
            // Only envelopes can do without an identity in their message.
            return match k {
                _ if pipeline != Pipeline::Envelopes => Event::good_of(pipeline, n),
                450 | 2_450 => Event::anonymous_poison(n),
                _ if k % 10 == 3 => Event::with_header_alone(n),
                _ if k % 10 == 7 => Event::anonymous(n),
                _ => Event::good(n),
            };
        }
    };
    Event::poison_of(pipeline, n, poison)
}

async fn tell_progress(
    world: &World,
    injector: &FaultInjector<'_>,
    over: &CancellationToken,
    say: impl Fn(&str),
) {
    let begin = Instant::now();
    loop {
        tokio::select! {
            () = sleep(PROGRESS_PERIOD) => {}
            () = over.cancelled() => return,
        }
        let totals = world.ledger().totals();
        say(&format!(
            "{:>4} s: {} faults, {} events attempted, {} acknowledged",
            begin.elapsed().as_secs(),
            injector.counts().values().sum::<u64>(),
            totals.attempted,
            totals.acknowledged,
        ));
    }
}

/// Waits until everything is settled, and tells meanwhile what is not and why.
async fn wait_for_quiet(world: &World, workers: &[Worker], say: impl Fn(&str)) -> Result<()> {
    let deadline = Instant::now() + QUIET_TIMEOUT;
    loop {
        let Err(err) = world.settled_within(PROGRESS_PERIOD).await else {
            return Ok(());
        };
        let reasons = join_all(workers.iter().map(Worker::reasons)).await;
        if Instant::now() >= deadline {
            return Err(err.context(format!("no quiet; the workers say {reasons:?}")));
        }
        say(&format!("{err:#}; the workers say {reasons:?}"));
    }
}

/// Sees that every worker runs: one may have ended by itself between its keeper's last look and now.
async fn revive_workers(workers: &[Worker]) {
    for worker in workers {
        if worker.ready().await.is_err() {
            let _ = worker.process().start();
        }
    }
}

impl RunReport {
    /// Writes the report as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &std::path::Path) -> Result<()> {
        let named = || format!("write {}", file.display());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(named)?;
        }
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(file, json + "\n").with_context(named)
    }
}
