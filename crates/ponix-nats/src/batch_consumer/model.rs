//! A check of the consumer against seeded models of JetStream and of its store.
//!
//! The consumer is the real one: intake, work, hold, open, settle. The models do what the servers
//! were seen to do: forget acks and delivery counts when they are killed, give the sequences of a
//! lost tail to other messages, deliver twice and late, commit and lose the answer. Time is
//! paused, so a run of minutes takes milliseconds, and a seed is one run.

mod processor;
mod server;
mod world;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::processor::ModelProcessor;
use self::server::{ModelLink, ModelSource};
use self::world::World;
use super::intake::Intake;
use super::{BatchConsumerError, BatchSettings};
use crate::metrics::NatsMetrics;

/// Runs of a check; the variable `PONIX_TEST_MODEL_SEEDS` asks for more.
const SEEDS: u64 = 10_000;
const WORKERS: usize = 2;
/// Things that happen in one run.
const STEPS: usize = 14;
/// Time without chaos in which everything must come to rest; paused time costs nothing.
const REST_MAX: Duration = Duration::from_hours(1);

fn settings() -> Arc<BatchSettings> {
    Arc::new(BatchSettings {
        messages_max: 8,
        in_flight_max: 2,
        ack_wait: Duration::from_secs(6),
        nak_delay: Duration::from_secs(1),
        hold_backoff: (Duration::from_millis(500), Duration::from_secs(4)),
        ..BatchSettings::default()
    })
}

/// A worker: the consumer on its way, and how to stop it.
struct Worker {
    number: usize,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), BatchConsumerError>>,
}

impl Worker {
    fn start(number: usize, world: &Arc<World>) -> Self {
        let shutdown = CancellationToken::new();
        let intake = Intake::new(
            ModelSource::new(number, Arc::clone(world)),
            ModelLink::new(Arc::clone(world)),
            ModelProcessor::new(Arc::clone(world)),
            settings(),
            NatsMetrics::unregistered().consumer("model", "model"),
        );
        let task = tokio::spawn(intake.run(shutdown.clone()));
        Self {
            number,
            shutdown,
            task,
        }
    }

    /// Ends it wherever it stands, as `kill -9` does.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Ends it as SIGTERM does.
    async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("a consumer does not panic")
            .expect("the model never closes");
    }
}

/// One run; returns what was violated.
async fn run(seed: u64, token_bug: bool) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = Arc::new(World::new(seed, token_bug));
    let mut workers: Vec<Worker> = (0..WORKERS)
        .map(|number| Worker::start(number, &world))
        .collect();
    for _ in 0..STEPS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
        match rng.random_range(0..14) {
            0..5 => world.publish(rng.random_range(1..12)),
            5 => world.kill_server(),
            6 => world.lose_tail(),
            7 | 8 => world.toggle_store(),
            9 => world.toggle_dead_letters(),
            10 => world.break_schema(),
            choice => {
                let worker = workers.swap_remove(rng.random_range(0..workers.len()));
                let number = worker.number;
                if choice < 13 {
                    worker.kill().await;
                } else {
                    worker.stop().await;
                }
                workers.push(Worker::start(number, &world));
            }
        }
    }
    world.heal();
    wait_for_rest(&world).await;
    // A shutdown in the middle of work on healthy servers leaves nothing stored and not settled.
    world.publish(30);
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..900))).await;
    for worker in workers {
        let number = worker.number;
        worker.stop().await;
        world.check_after_stop(number);
    }
    let last = Worker::start(WORKERS, &world);
    wait_for_rest(&world).await;
    last.stop().await;
    world.judge()
}

async fn wait_for_rest(world: &World) {
    let begin = tokio::time::Instant::now();
    while !world.is_at_rest() && begin.elapsed() < REST_MAX {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Runs seeds until one violates something.
fn first_violation(seeds: std::ops::Range<u64>, token_bug: bool) -> Option<(u64, Vec<String>)> {
    seeds.into_iter().find_map(|seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let violations = runtime.block_on(run(seed, token_bug));
        (!violations.is_empty()).then_some((seed, violations))
    })
}

#[test]
fn no_seed_loses_doubles_or_misplaces_an_event() {
    let seeds = std::env::var("PONIX_TEST_MODEL_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let threads = 2;
    let part = seeds.unwrap_or(SEEDS) / threads;
    let handles: Vec<_> = (0..threads)
        .map(|n| std::thread::spawn(move || first_violation(n * part..(n + 1) * part, false)))
        .collect();
    for handle in handles {
        if let Some((seed, violations)) = handle.join().unwrap() {
            panic!("seed {seed}: {violations:#?}");
        }
    }
}

#[test]
fn a_deduplication_token_with_a_retry_is_found() {
    let (_, violations) = first_violation(0..1_000, true).expect("the check must find the bug");
    assert!(
        violations.iter().any(|v| v.contains("lost")),
        "{violations:#?}"
    );
}
