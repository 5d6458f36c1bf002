//! Which faults come when: drawn from a seed alone, so that a run can be repeated.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::Pipeline;

/// What a fault is injected into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A worker, by its number.
    Worker(usize),
    /// The NATS server.
    Nats,
    /// The three NATS servers of a cluster.
    Cluster,
    /// ClickHouse.
    ClickHouse,
    /// PostgreSQL.
    Postgres,
    /// The connections between workers and NATS.
    NatsProxy,
    /// The connections between workers and ClickHouse.
    ClickHouseProxy,
    /// The connections between workers and PostgreSQL.
    PostgresProxy,
    /// A pipeline's table.
    Table(Pipeline),
    /// The materialized views over the table of the envelopes.
    View,
    /// A pipeline's dead letters.
    DeadLetters(Pipeline),
}

impl Target {
    /// All targets of a run with so many workers, and with one NATS server or a cluster.
    pub fn all(workers: usize, cluster: bool) -> Vec<Self> {
        let nats: &[Self] = if cluster {
            &[Self::Cluster]
        } else {
            &[Self::Nats, Self::NatsProxy]
        };
        let others = [
            Self::ClickHouse,
            Self::Postgres,
            Self::ClickHouseProxy,
            Self::PostgresProxy,
            Self::View,
        ];
        let mut all: Vec<_> = (0..workers).map(Self::Worker).collect();
        all.extend(nats);
        all.extend(others);
        all.extend(Pipeline::ALL.map(Self::Table));
        all.extend(Pipeline::ALL.map(Self::DeadLetters));
        all
    }

    /// What may be done to it.
    const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Worker(_) | Self::Nats | Self::ClickHouse | Self::Postgres => {
                &Fault::ON_PROCESSES
            }
            Self::Cluster => &Fault::ON_CLUSTERS,
            Self::NatsProxy | Self::ClickHouseProxy => &Fault::ON_PROXIES,
            Self::PostgresProxy => &Fault::ON_POSTGRES_PROXIES,
            Self::Table(_) => &[Fault::RefuseRows],
            Self::View => &[Fault::FailingView],
            Self::DeadLetters(_) => &[Fault::Full],
        }
    }

    /// How long it is left alone between two faults, in milliseconds.
    const fn rest_ms(self) -> Range<u64> {
        match self {
            // They stop a pipeline each time, and there are several.
            Self::Table(_) | Self::View | Self::DeadLetters(_) => 6_000..25_000,
            // All of it is away until it has a leader again.
            Self::Cluster => 4_000..15_000,
            _ => 1_000..12_000,
        }
    }

    /// Mixed into the seed, so that every target has a course of its own.
    const fn salt(self) -> u64 {
        match self {
            Self::Nats => 1,
            Self::ClickHouse => 2,
            Self::NatsProxy => 3,
            Self::ClickHouseProxy => 4,
            Self::Postgres => 5,
            Self::PostgresProxy => 6,
            Self::Cluster => 7,
            Self::View => 8,
            Self::Table(pipeline) => 10 + pipeline as u64,
            Self::DeadLetters(pipeline) => 20 + pipeline as u64,
            Self::Worker(number) => 100 + number as u64,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Nats => f.write_str("nats"),
            Self::Cluster => f.write_str("nats cluster"),
            Self::ClickHouse => f.write_str("clickhouse"),
            Self::Postgres => f.write_str("postgresql"),
            Self::NatsProxy => f.write_str("nats proxy"),
            Self::ClickHouseProxy => f.write_str("clickhouse proxy"),
            Self::PostgresProxy => f.write_str("postgresql proxy"),
            Self::Table(pipeline) => write!(f, "table of {pipeline}"),
            Self::View => f.write_str("view"),
            Self::DeadLetters(pipeline) => write!(f, "dead letters of {pipeline}"),
        }
    }
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and a start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// SIGTERM, and a start once it has ended.
    Restart,
    /// All connections are reset, once.
    Cut,
    /// Bytes come later.
    Latency,
    /// Bytes come slowly.
    Rate,
    /// Nothing moves.
    Stall,
    /// Requests get through, answers wait.
    HoldResponses,
    /// Requests get through, answers are lost.
    SwallowResponse,
    /// Connections are reset as soon as they are there.
    Reset,
    /// New connections are refused.
    Refuse,
    /// The answer to COMMIT is lost, and no other.
    LoseCommit,
    /// SIGKILL to one server of the cluster, by its number.
    KillNode(u8),
    /// SIGKILL to the server that leads the envelopes' stream.
    KillLeader,
    /// SIGKILL to all servers of the cluster.
    KillAll,
    /// A constraint refuses every row, while events come one to three at a time.
    RefuseRows,
    /// A view fails for some of the rows.
    FailingView,
    /// There is no room for more.
    Full,
}

impl Fault {
    const ON_PROCESSES: [Self; 3] = [Self::Kill, Self::Pause, Self::Restart];
    const ON_PROXIES: [Self; 8] = [
        Self::Cut,
        Self::Latency,
        Self::Rate,
        Self::Stall,
        Self::HoldResponses,
        Self::SwallowResponse,
        Self::Reset,
        Self::Refuse,
    ];
    const ON_POSTGRES_PROXIES: [Self; 9] = [
        Self::Cut,
        Self::Latency,
        Self::Rate,
        Self::Stall,
        Self::HoldResponses,
        Self::SwallowResponse,
        Self::Reset,
        Self::Refuse,
        Self::LoseCommit,
    ];
    const ON_CLUSTERS: [Self; 5] = [
        Self::KillNode(0),
        Self::KillNode(1),
        Self::KillNode(2),
        Self::KillLeader,
        Self::KillAll,
    ];

    /// The fault in a word or two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "stop and continue",
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Latency => "latency",
            Self::Rate => "slow",
            Self::Stall => "stall",
            Self::HoldResponses => "hold responses",
            Self::SwallowResponse => "swallow response",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
            Self::LoseCommit => "lose the answer to COMMIT",
            Self::KillNode(0) => "kill -9 of the first",
            Self::KillNode(1) => "kill -9 of the second",
            Self::KillNode(_) => "kill -9 of the third",
            Self::KillLeader => "kill -9 of the leader",
            Self::KillAll => "kill -9 of all",
            Self::RefuseRows => "refuse every row",
            Self::FailingView => "fail",
            Self::Full => "full",
        }
    }
}

/// One fault on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When it begins, from the begin of the run, unless the one before took longer.
    pub at: Duration,
    /// What it is.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Draws the faults of one target for a run of this length.
pub fn schedule(seed: u64, target: Target, length: Duration) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ target.salt());
    let faults = target.faults();
    let mut steps = Vec::new();
    let mut at = Duration::from_secs(2);
    loop {
        at += Duration::from_millis(random.random_range(target.rest_ms()));
        if at >= length {
            return steps;
        }
        let fault = faults[random.random_range(0..faults.len())];
        // Some last longer than ack_wait, most do not.
        let lasts = Duration::from_millis(match random.random_range(0..10) {
            0 => random.random_range(4_000..9_000),
            _ => random.random_range(50..2_000),
        });
        steps.push(Step { at, fault, lasts });
        at += lasts;
    }
}

/// Everything that a run will do, a line each in the order of time.
pub fn trace(seed: u64, targets: &[Target], length: Duration) -> String {
    let steps = targets.iter().flat_map(|&target| {
        let steps = schedule(seed, target, length);
        steps.into_iter().map(move |step| (step.at, target, step))
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|(at, target, _)| (*at, *target));
    let line = |(at, target, step): (Duration, Target, Step)| {
        let (at, lasts) = (at.as_millis(), step.lasts.as_millis());
        format!(
            "{at:>9} ms  {target}: {} for {lasts} ms\n",
            step.fault.as_str()
        )
    };
    steps.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_mins(20);

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let all = |seed| {
            [Target::Nats, Target::ClickHouseProxy, Target::Worker(2)]
                .map(|target| schedule(seed, target, LENGTH))
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        assert_ne!(all(7)[0], all(7)[2]);
    }

    #[test]
    fn every_target_has_a_course_of_its_own() {
        let all = [Target::all(3, false), vec![Target::Cluster]].concat();
        let salts: std::collections::HashSet<_> = all.iter().map(|it| it.salt()).collect();
        assert_eq!(salts.len(), all.len());
    }

    #[test]
    fn every_fault_that_suits_the_target_comes() {
        for target in [Target::all(1, false), Target::all(1, true)].concat() {
            let (steps, faults) = (schedule(1, target, LENGTH), target.faults());
            for fault in faults {
                assert!(steps.iter().any(|step| step.fault == *fault), "{fault:?}");
            }
            assert!(
                steps
                    .iter()
                    .all(|step| faults.contains(&step.fault) && step.at < LENGTH)
            );
        }
    }
}
