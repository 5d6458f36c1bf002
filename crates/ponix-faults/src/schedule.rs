//! Which faults come when: drawn from a seed alone, so that a run can be repeated.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What a fault is injected into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A worker, by its number.
    Worker(usize),
    /// The NATS server.
    Nats,
    /// ClickHouse.
    ClickHouse,
    /// PostgreSQL.
    Postgres,
    /// The connections between workers and NATS.
    NatsProxy,
    /// The connections between workers and ClickHouse.
    ClickHouseProxy,
}

impl Target {
    /// All targets of a run with so many workers.
    pub fn all(workers: usize) -> Vec<Self> {
        let others = [
            Self::Nats,
            Self::ClickHouse,
            Self::Postgres,
            Self::NatsProxy,
            Self::ClickHouseProxy,
        ];
        (0..workers).map(Self::Worker).chain(others).collect()
    }

    const fn is_proxy(self) -> bool {
        matches!(self, Self::NatsProxy | Self::ClickHouseProxy)
    }

    /// Mixed into the seed, so that every target has a course of its own.
    const fn salt(self) -> u64 {
        match self {
            Self::Nats => 1,
            Self::ClickHouse => 2,
            Self::NatsProxy => 3,
            Self::ClickHouseProxy => 4,
            Self::Postgres => 5,
            Self::Worker(number) => 100 + number as u64,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Nats => f.write_str("nats"),
            Self::ClickHouse => f.write_str("clickhouse"),
            Self::Postgres => f.write_str("postgresql"),
            Self::NatsProxy => f.write_str("nats proxy"),
            Self::ClickHouseProxy => f.write_str("clickhouse proxy"),
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
    let faults: &[Fault] = if target.is_proxy() {
        &Fault::ON_PROXIES
    } else {
        &Fault::ON_PROCESSES
    };
    let mut steps = Vec::new();
    let mut at = Duration::from_secs(2);
    loop {
        at += Duration::from_millis(random.random_range(1_000..12_000));
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
pub fn trace(seed: u64, workers: usize, length: Duration) -> String {
    let steps = Target::all(workers).into_iter().flat_map(|target| {
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
    fn every_fault_that_suits_the_target_comes() {
        for (target, faults) in [
            (Target::Worker(0), &Fault::ON_PROCESSES[..]),
            (Target::NatsProxy, &Fault::ON_PROXIES),
        ] {
            let steps = schedule(1, target, LENGTH);
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
