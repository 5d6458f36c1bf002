//! Carries out a schedule of faults, and heals what it has broken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use ponix_stack::{Mode, NatsCluster, Proxy, Server, eventually};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::schedule::{Fault, Step, Target};
use crate::world::World;
use crate::{Pipeline, Worker};

/// How long a server may take to come back that the machine has no time for.
const HEAL_TIMEOUT: Duration = Duration::from_mins(10);
/// Before a table refuses its rows only a few events are published for so long, that no large batch is
/// under way.
const TRICKLE_FIRST: Duration = Duration::from_millis(1_500);
/// How often a worker that has ended by itself is looked for.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_millis(200);

/// How often each fault was injected, by target and name.
pub type FaultCounts = BTreeMap<String, u64>;

/// Injects faults into the parts of a world.
#[derive(Debug)]
pub(crate) struct FaultInjector<'a> {
    world: &'a World,
    workers: &'a [Worker],
    /// Workers that are down because of a fault, by number.
    down: Vec<AtomicBool>,
    /// Pipelines whose events are to come one to three at a time.
    trickling: [AtomicBool; Pipeline::ALL.len()],
    counts: Mutex<FaultCounts>,
}

impl<'a> FaultInjector<'a> {
    pub(crate) fn new(world: &'a World, workers: &'a [Worker]) -> Self {
        Self {
            world,
            workers,
            down: workers.iter().map(|_| AtomicBool::new(false)).collect(),
            trickling: Pipeline::ALL.map(|_| AtomicBool::new(false)),
            counts: Mutex::default(),
        }
    }

    /// What it breaks.
    pub(crate) fn world(&self) -> &'a World {
        self.world
    }

    /// Whether events of a pipeline are to come one to three at a time.
    pub(crate) fn is_trickling(&self, pipeline: Pipeline) -> bool {
        self.trickling[pipeline as usize].load(Ordering::SeqCst)
    }

    /// Faults injected so far.
    pub(crate) fn counts(&self) -> FaultCounts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Carries out the steps of one target and leaves it healed. A target that comes back slowly is
    /// behind its schedule: what would begin after `length` is left out, and what is on then ends.
    ///
    /// # Errors
    /// It does not come back.
    pub(crate) async fn carry_out(
        &self,
        target: Target,
        steps: Vec<Step>,
        length: Duration,
    ) -> Result<()> {
        let begin = Instant::now();
        for step in steps {
            sleep_until(begin + step.at).await;
            let Some(left) = length.checked_sub(begin.elapsed()) else {
                break;
            };
            let lasts = step.lasts.min(left);
            self.inject(target, Step { lasts, ..step }).await?;
            let name = format!("{target}: {}", step.fault.as_str());
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(name).or_default() += 1;
        }
        Ok(())
    }

    async fn inject(&self, target: Target, step: Step) -> Result<()> {
        match target {
            Target::Worker(number) => {
                self.down[number].store(true, Ordering::SeqCst);
                let done = to_worker(&self.workers[number], step).await;
                self.down[number].store(false, Ordering::SeqCst);
                done
            }
            Target::Cluster => to_cluster(self.world.nats_cluster(), step).await,
            Target::Nats => to_server(self.world.nats(), step).await,
            Target::ClickHouse => to_server(self.world.clickhouse(), step).await,
            Target::Postgres => to_server(self.world.postgres(), step).await,
            Target::NatsProxy => to_proxy(self.world.nats_proxy(), step).await,
            Target::ClickHouseProxy => to_proxy(self.world.clickhouse_proxy(), step).await,
            Target::PostgresProxy => to_proxy(self.world.postgres_proxy(), step).await,
            Target::Table(pipeline) => {
                // Without a row of before, a store at fault may reject two (docs/delivery.md).
                insist("a row", || async {
                    let rows = self.world.rows_of(pipeline).await?;
                    ensure!(rows > 0, "none in the table of {pipeline}");
                    Ok(())
                })
                .await?;
                let trickling = &self.trickling[pipeline as usize];
                trickling.store(true, Ordering::SeqCst);
                let done = self.to_table(pipeline, step).await;
                trickling.store(false, Ordering::SeqCst);
                done
            }
            Target::View => {
                let world = self.world;
                insist("a view that fails", || world.add_failing_view()).await?;
                sleep(step.lasts).await;
                insist("the view to be dropped", || world.drop_failing_view()).await
            }
            Target::DeadLetters(pipeline) => {
                let limit = |max| self.world.limit_dead_letters(pipeline, max);
                insist("dead letters that are full", || limit(1)).await?;
                sleep(step.lasts).await;
                insist("room for dead letters", || limit(-1)).await
            }
        }
    }

    async fn to_table(&self, pipeline: Pipeline, step: Step) -> Result<()> {
        let world = self.world;
        sleep(TRICKLE_FIRST).await;
        insist("rows to be refused", || world.refuse_rows_of(pipeline)).await?;
        sleep(step.lasts).await;
        insist("rows to be taken", || world.take_rows_of(pipeline)).await
    }

    /// Starts a worker again whenever it has ended by itself, as one does whose servers do not come
    /// up in time, until `stop`; returns how often.
    pub(crate) async fn keep_alive(&self, number: usize, stop: &CancellationToken) -> u64 {
        let mut started = 0;
        let process = self.workers[number].process();
        while !stop.is_cancelled() {
            let meant = self.down[number].load(Ordering::SeqCst);
            if !meant && !process.is_running() && process.start().is_ok() {
                started += 1;
            }
            sleep(KEEP_ALIVE_PERIOD).await;
        }
        started
    }
}

async fn to_worker(worker: &Worker, step: Step) -> Result<()> {
    let process = worker.process();
    match step.fault {
        // It may have ended by itself a moment ago; then there is nothing to pause.
        Fault::Pause if process.pause().is_ok() => {
            sleep(step.lasts).await;
            let _ = process.resume();
        }
        Fault::Pause => {}
        Fault::Restart => {
            // One that cannot finish in time is killed, as an init system would.
            let _ = process.stop().await;
        }
        _ => {
            process.kill().await?;
            sleep(step.lasts).await;
        }
    }
    if !process.is_running() {
        // Another start may have been faster.
        let _ = process.start();
    }
    Ok(())
}

async fn to_server(server: &Server, step: Step) -> Result<()> {
    match step.fault {
        Fault::Pause => {
            server.pause().await?;
            sleep(step.lasts).await;
            server.resume().await
        }
        Fault::Restart => {
            let _ = server.stop().await;
            revive(server).await
        }
        _ => {
            server.kill().await?;
            sleep(step.lasts).await;
            revive(server).await
        }
    }
}

/// Repeats what a server that is down at the moment cannot do.
async fn insist<F: Future<Output = Result<()>> + Send>(
    what: &str,
    does: impl Fn() -> F + Send + Sync,
) -> Result<()> {
    eventually(what, HEAL_TIMEOUT, does).await
}

async fn to_cluster(cluster: &NatsCluster, step: Step) -> Result<()> {
    match step.fault {
        Fault::KillNode(node) => {
            cluster.node(node.into()).kill().await?;
        }
        Fault::KillLeader => {
            let led = eventually("a leader", HEAL_TIMEOUT, || {
                cluster.stream_leader(Pipeline::Envelopes.stream())
            });
            cluster.node(led.await?).kill().await?;
        }
        _ => cluster.kill_all().await?,
    }
    sleep(step.lasts).await;
    eventually("the cluster to come back", HEAL_TIMEOUT, || {
        cluster.start_all()
    })
    .await
}

async fn revive(server: &Server) -> Result<()> {
    eventually("a server to come back", HEAL_TIMEOUT, || async {
        if server.is_running() {
            server.wait_until_ready().await
        } else {
            server.start_again().await
        }
    })
    .await
}

async fn to_proxy(proxy: &Proxy, step: Step) -> Result<()> {
    let mode = match step.fault {
        Fault::Latency => Mode::Latency(Duration::from_millis(150)),
        Fault::Rate => Mode::Rate(64 << 10),
        Fault::Stall => Mode::Stall,
        Fault::HoldResponses => Mode::HoldResponses,
        Fault::SwallowResponse => Mode::SwallowResponse,
        Fault::Reset => Mode::Reset,
        Fault::Refuse => Mode::Refuse,
        Fault::LoseCommit => Mode::SwallowResponseTo("COMMIT"),
        _ => {
            proxy.cut();
            return Ok(());
        }
    };
    proxy.set(mode).await;
    if step.fault == Fault::Refuse {
        proxy.cut();
    }
    sleep(step.lasts).await;
    proxy.set(Mode::Pass).await;
    Ok(())
}
